//! Captures as messages.

use std::net::SocketAddr;

use lastseen_packet::Threshold;
use lastseen_proto::convert::translated_connection;
use lastseen_proto::limits::{CAPTURE_ID_BYTES, DEFAULT_SNAP_LENGTH, SNAP_LENGTH};
use lastseen_proto::v1;

use crate::capture::backend::Direction;
use crate::capture::counters::Counters;
use crate::conntrack::Told;
use crate::job::spec::Spec;
use crate::job::status::{PointId, PointStatus, State, Status};

/// An observation point of the agent's own namespace.
pub(crate) fn point(point: &PointId) -> v1::ObservationPoint {
    let direction = match point.direction {
        Direction::In => v1::Direction::In,
        Direction::Out => v1::Direction::Out,
    };
    v1::ObservationPoint {
        netns: String::new(),
        interface: point.interface.clone(),
        index: point.index,
        direction: direction.into(),
        kind: point.kind.into(),
        mtu: point.mtu,
        gso_known: point.gso_known,
    }
}

pub(crate) fn counters(counters: &Counters) -> v1::PointCounters {
    v1::PointCounters {
        received: counters.received,
        kernel_drops: counters.kernel_drops,
        agent_drops: counters.agent_drops,
        filtered: counters.filtered,
        own_connections: counters.own_connections,
        undecoded: counters.undecoded,
        bytes: counters.bytes,
        unreadable: counters.unreadable,
        sampled_out: counters.sampled_out,
    }
}

pub(crate) fn status(status: &Status) -> v1::CaptureStatus {
    let state = match status.state {
        State::Armed => v1::CaptureState::Armed,
        State::Running => v1::CaptureState::Running,
        State::Draining => v1::CaptureState::Draining,
        State::Completed => v1::CaptureState::Completed,
        State::Failed => v1::CaptureState::Failed,
        State::Cancelled => v1::CaptureState::Cancelled,
    };
    let point_status = |p: &PointStatus| v1::PointStatus {
        point: Some(point(&p.point)),
        counters: Some(counters(&p.counters)),
        batches: p.batches,
    };
    v1::CaptureStatus {
        capture_id: status.capture.clone(),
        state: state.into(),
        reason: status.reason.clone(),
        points: status.points.iter().map(point_status).collect(),
        coverage: status.coverage.clone(),
        translations: status.translations.as_deref().map(translations),
    }
}

fn translations(told: &Told) -> v1::NodeTranslations {
    let connections = told.translations.iter();
    let connections = connections.map(|known| translated_connection(&known.original, &known.reply)).collect();
    v1::NodeTranslations { connections, omitted: told.omitted }
}

/// The job in an `ArmCapture`, or what is wrong with it. `dialed` are the coordinator's addresses as connected to.
pub(crate) fn spec(message: v1::ArmCapture, dialed: &[SocketAddr]) -> Result<Spec, String> {
    check_capture_id(&message.capture_id)?;
    let asked = message.spec.ok_or("spec: missing; is the coordinator of another version?")?;
    let snap_length = asked.snap_length.unwrap_or(DEFAULT_SNAP_LENGTH);
    if !SNAP_LENGTH.contains(&snap_length) {
        let (low, high) = (SNAP_LENGTH.start(), SNAP_LENGTH.end());
        return Err(format!("snap_length: {snap_length} is not within {low} and {high}"));
    }
    let identity_key = message
        .identity_key
        .as_ref()
        .try_into()
        .map_err(|_| format!("identity_key: {} bytes where 16 are needed", message.identity_key.len()))?;
    let mut own_endpoints = dialed.to_vec();
    own_endpoints
        .extend(message.fabric_endpoints.iter().filter_map(|endpoint| endpoint.parse::<SocketAddr>().ok()));
    Ok(Spec {
        capture: message.capture_id,
        filter: asked.filter,
        interfaces: asked.interfaces,
        snap_length,
        max_packets: asked.max_packets,
        max_bytes: asked.max_bytes,
        sampling: asked.sampling_interval.map_or(Threshold::ALL, Threshold::one_in),
        identity_key,
        dictionary_key: rand::random(),
        traceparent: message.traceparent,
        own_endpoints,
    })
}

/// It names threads, keys of batches and lines of the log.
fn check_capture_id(id: &str) -> Result<(), String> {
    if !(1..=CAPTURE_ID_BYTES).contains(&id.len()) {
        return Err(format!("capture_id: it must have 1 to {CAPTURE_ID_BYTES} bytes, and has {}", id.len()));
    }
    if id.chars().any(char::is_control) {
        return Err(format!("capture_id: {id:?} has control characters"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn armed(capture_id: &str) -> Result<String, String> {
        let (spec, identity_key) = (Some(v1::CaptureSpec::default()), vec![5; 16].into());
        let message =
            v1::ArmCapture { capture_id: capture_id.into(), spec, identity_key, ..Default::default() };
        super::spec(message, &[]).map(|spec| spec.capture)
    }

    #[test]
    fn an_id_that_no_capture_has_is_refused() {
        let longest = "c".repeat(CAPTURE_ID_BYTES);
        for id in ["c-7f3k", "ein-täst", &longest] {
            assert_eq!(armed(id).as_deref(), Ok(id));
        }
        for id in ["", "c-1\0", "c-1\n", "\u{1b}[2J", &format!("{longest}c")] {
            assert!(armed(id).is_err_and(|reason| reason.starts_with("capture_id: ")), "{id:?}");
        }
    }
}
