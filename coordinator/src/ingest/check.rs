//! What a batch must be before it is stored.

use bytes::Bytes;
use lastseen_proto::batch::{self, BatchError, Limits};

use crate::limits;
use crate::model::{BatchKey, CheckedBatch, Point};

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
    /// Packets were left out of it by selection.
    pub is_sampled: bool,
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
    /// A name that no node has.
    #[error("point: {0}")]
    Point(&'static str),
    /// Selected where super-packets hide what there is to select.
    #[error("sampling_threshold: a point without segment sizes cannot select")]
    Sampled,
    /// A slice that does not go forward.
    #[error("slice: ends at {end}, before its start at {start}")]
    Slice {
        /// Begin.
        start: i64,
        /// End.
        end: i64,
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

/// Decodes a batch to prove that it can be. Takes processor time: run it where that does not hurt.
pub fn check(arrived: Arrived) -> Result<CheckedBatch, CheckError> {
    if arrived.message.len() > limits::BATCH_BYTES {
        return Err(CheckError::Bytes { bytes: arrived.message.len() });
    }
    check_point(&arrived.point)?;
    if arrived.is_sampled && !arrived.point.gso_known {
        return Err(CheckError::Sampled);
    }
    let (start, end) = (arrived.slice_start_nanos, arrived.slice_end_nanos);
    if end < start {
        return Err(CheckError::Slice { start, end });
    }
    let columns = batch::decode(&arrived.columns, &Limits::default())?;
    if columns.len() != arrived.rows as usize {
        return Err(CheckError::Rows { claimed: arrived.rows, found: columns.len() });
    }
    Ok(CheckedBatch {
        key: arrived.key,
        point: arrived.point,
        checksum: crc32fast::hash(&arrived.message),
        bytes: arrived.message,
        rows: arrived.rows,
    })
}

/// Bounds on what names a point.
pub(crate) fn check_point(point: &Point) -> Result<(), CheckError> {
    let key = &point.key;
    if key.interface.is_empty() || key.interface.len() > limits::INTERFACE_BYTES {
        return Err(CheckError::Point("the interface name must have 1 to 15 bytes"));
    }
    if key.netns.len() > limits::NETNS_BYTES {
        return Err(CheckError::Point("the name of the network namespace must have at most 255 bytes"));
    }
    if !(1..=2).contains(&key.direction) {
        return Err(CheckError::Point("the direction must be IN or OUT"));
    }
    Ok(())
}
