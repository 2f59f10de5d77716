//! What a batch must be before it is stored.

use bytes::Bytes;
use lastseen_packet::observation::Columns;
use lastseen_proto::batch::{self, BatchError, Limits};

use crate::limits;
use crate::model::{BatchKey, Capture, CheckedBatch, Point, PointKey, SECOND};

/// A batch as it arrived, taken apart.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// Identity, with the node of the certificate.
    pub key: BatchKey,
    /// The point, with what it is.
    pub point: Point,
    /// Begin of the slice on the node's clock.
    pub slice_start_nanos: i64,
    /// End of the slice.
    pub slice_end_nanos: i64,
    /// Rows it claims.
    pub rows: u32,
    /// `CLOCK_REALTIME` minus `CLOCK_MONOTONIC` of the node, by which its times are stamped.
    pub realtime_minus_monotonic_nanos: i64,
    /// By what its packets were selected, if some were left out.
    pub sampling_threshold: Option<u64>,
    /// Encoded columns.
    pub columns: Bytes,
    /// The whole encoded message.
    pub message: Bytes,
}

/// Why a batch is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CheckError {
    /// Too large.
    #[error("{bytes} bytes, above the limit of {limit}", limit = limits::BATCH_BYTES)]
    Bytes {
        /// Size of the message.
        bytes: usize,
    },
    /// An id that no capture has.
    #[error("capture_id: {0}")]
    Capture(&'static str),
    /// A number that no agent reaches.
    #[error("sequence: {0} is not below the limit of {limit}", limit = limits::BATCHES_PER_POINT)]
    Sequence(u64),
    /// A name that no node has.
    #[error("point: {0}")]
    Point(&'static str),
    /// Selected where super-packets hide what there is to select.
    #[error("sampling_threshold: a point without segment sizes cannot select")]
    Sampled,
    /// A selection of nothing.
    #[error("sampling_threshold: {0} is below the limit of {limit}", limit = limits::LEAST_SAMPLING_THRESHOLD)]
    Threshold(u64),
    /// A slice that does not go forward.
    #[error("slice: ends at {end}, before its start at {start}")]
    Slice {
        /// Begin.
        start: i64,
        /// End.
        end: i64,
    },
    /// A slice from another time than its capture.
    #[error("slice: {away} s away from the capture's window, above the limit of {limit} s",
            limit = limits::TIME_SLACK_NANOS / SECOND)]
    Window {
        /// Seconds between them.
        away: i64,
    },
    /// A row from another time than its slice.
    #[error("columns: a packet {away} s away from its slice, above the limit of {limit} s",
            limit = limits::TIME_SLACK_NANOS / SECOND)]
    Time {
        /// Seconds between them.
        away: i64,
    },
    /// The columns cannot be decoded.
    #[error("columns: {0}")]
    Columns(#[from] BatchError),
    /// The count is not that of the columns.
    #[error("rows: {claimed} claimed, {found} in columns")]
    Rows {
        /// In the message.
        claimed: u32,
        /// In the columns.
        found: usize,
    },
}

/// Decodes a batch to prove that it can be. Takes processor time: run it where that does not hurt. `capture` is the one
/// it claims to be of, if that is known; whether it takes batches at all is not asked here.
pub fn check(arrived: Arrived, capture: Option<&Capture>) -> Result<CheckedBatch, CheckError> {
    check_envelope(&arrived)?;
    let slice_nanos = check_slice(&arrived)?;
    capture.map_or(Ok(()), |capture| check_window(&arrived.key.node, slice_nanos, capture))?;
    let columns = batch::decode(&arrived.columns, &Limits::default())?;
    if columns.len() != arrived.rows as usize {
        return Err(CheckError::Rows { claimed: arrived.rows, found: columns.len() });
    }
    check_times(&columns, &arrived)?;
    Ok(CheckedBatch {
        key: arrived.key,
        point: arrived.point,
        checksum: crc32fast::hash(&arrived.message),
        bytes: arrived.message,
        rows: arrived.rows,
        slice_nanos,
    })
}

/// Everything around the columns but times.
fn check_envelope(arrived: &Arrived) -> Result<(), CheckError> {
    if arrived.message.len() > limits::BATCH_BYTES {
        return Err(CheckError::Bytes { bytes: arrived.message.len() });
    }
    check_names(&arrived.key)?;
    if arrived.key.sequence >= limits::BATCHES_PER_POINT {
        return Err(CheckError::Sequence(arrived.key.sequence));
    }
    match arrived.sampling_threshold {
        Some(_) if !arrived.point.gso_known => Err(CheckError::Sampled),
        Some(threshold) if threshold < limits::LEAST_SAMPLING_THRESHOLD => {
            Err(CheckError::Threshold(threshold))
        }
        _ => Ok(()),
    }
}

/// The slice goes forward. Returns it on the node's `CLOCK_MONOTONIC`.
fn check_slice(arrived: &Arrived) -> Result<[i64; 2], CheckError> {
    let (start, end) = (arrived.slice_start_nanos, arrived.slice_end_nanos);
    if end < start {
        return Err(CheckError::Slice { start, end });
    }
    Ok([start, end].map(|time| time.saturating_sub(arrived.realtime_minus_monotonic_nanos)))
}

/// The slice lies where its node recorded for the capture, as far as the node's clock is known.
pub(crate) fn check_window(node: &str, slice_nanos: [i64; 2], capture: &Capture) -> Result<(), CheckError> {
    let clock = capture.part(node).and_then(|part| part.clock_start);
    let (Some(window), Some(clock)) = (capture.window, clock) else { return Ok(()) };
    // A window that was cut short may be news to the agent: as long as it was asked for.
    let last = window.end_nanos.max(window.start_nanos.saturating_add(capture.spec.duration_nanos));
    let recorded = [
        clock.to_monotonic(window.start_nanos.saturating_sub(limits::LEAD_NANOS)),
        clock.to_monotonic(last.saturating_add(limits::TAIL_NANOS)),
    ];
    let away = away(slice_nanos, recorded);
    if away > limits::TIME_SLACK_NANOS { Err(CheckError::Window { away: away / SECOND }) } else { Ok(()) }
}

/// Every row lies about in its slice.
fn check_times(columns: &Columns, arrived: &Arrived) -> Result<(), CheckError> {
    let times = &columns.time_nanos;
    let (Some(&first), Some(&last)) = (times.iter().min(), times.iter().max()) else { return Ok(()) };
    let away = away([first, last], [arrived.slice_start_nanos, arrived.slice_end_nanos]);
    if away > limits::TIME_SLACK_NANOS { Err(CheckError::Time { away: away / SECOND }) } else { Ok(()) }
}

/// How far `span` reaches out of `frame`.
fn away([first, last]: [i64; 2], [from, to]: [i64; 2]) -> i64 {
    from.saturating_sub(first).max(last.saturating_sub(to))
}

/// Bounds on the names in a batch's key.
pub(crate) fn check_names(key: &BatchKey) -> Result<(), CheckError> {
    check_capture_id(&key.capture)?;
    check_point(&key.point)
}

/// Bounds on what names a capture.
pub(crate) fn check_capture_id(id: &str) -> Result<(), CheckError> {
    if id.is_empty() || id.len() > limits::CAPTURE_ID_BYTES {
        return Err(CheckError::Capture("it must have 1 to 63 bytes"));
    }
    // No capture's does, and Postgres would refuse to look for it, and for everything it is asked about with it.
    if id.contains('\0') { Err(CheckError::Capture("it must not contain NUL")) } else { Ok(()) }
}

/// Bounds on what names a point.
pub(crate) fn check_point(key: &PointKey) -> Result<(), CheckError> {
    if key.interface.is_empty() || key.interface.len() > limits::INTERFACE_BYTES {
        return Err(CheckError::Point("the interface name must have 1 to 15 bytes"));
    }
    if key.netns.len() > limits::NETNS_BYTES {
        return Err(CheckError::Point("the name of the network namespace must have at most 255 bytes"));
    }
    // No name in Linux holds it, and Postgres does not store it.
    if key.interface.contains('\0') || key.netns.contains('\0') {
        return Err(CheckError::Point("a name must not contain NUL"));
    }
    if !(1..=2).contains(&key.direction) {
        return Err(CheckError::Point("the direction must be IN or OUT"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(netns: &str, interface: &str) -> Result<(), CheckError> {
        check_point(&PointKey { netns: netns.into(), interface: interface.into(), index: 2, direction: 1 })
    }

    #[test]
    fn a_name_that_no_kernel_has_is_refused() {
        assert_eq!(check("blue", "eth0"), Ok(()));
        for (netns, interface) in [("", ""), ("", "0123456789abcdef"), ("", "eth\0"), ("\0", "eth0")] {
            assert!(matches!(check(netns, interface), Err(CheckError::Point(_))), "{netns:?} {interface:?}");
        }
    }
}
