//! Captures and what is asked of them.

use lastseen_proto::convert::{nanos, timestamp};
use lastseen_proto::{convert, v1};

use crate::error::Error;
use crate::jobs::Request;
use crate::model::{Capture, Counters, Part, SECOND, Spec, State};

/// A job as it was asked for.
pub fn request(spec: v1::CaptureSpec) -> Result<Request, Error> {
    let duration_nanos = spec.duration.as_ref().map(duration_nanos).transpose()?;
    Ok(Request {
        name: spec.name,
        labels: spec.labels.into_iter().collect(),
        all_nodes: spec.all_nodes,
        nodes: spec.nodes,
        filter: spec.filter,
        interfaces: spec.interfaces,
        duration_nanos,
        max_packets: spec.max_packets,
        max_bytes: spec.max_bytes,
        snap_length: spec.snap_length,
        start_at_nanos: spec.start_at.as_ref().map(nanos),
        sampling_interval: spec.sampling_interval,
    })
}

fn duration_nanos(duration: &prost_types::Duration) -> Result<i64, Error> {
    convert::span_nanos(duration).ok_or_else(|| {
        Error::invalid("duration", format!("{}s is above the limit; give 100ms to 1h", duration.seconds))
    })
}

/// The message of a resolved job.
pub fn spec_message(spec: &Spec) -> v1::CaptureSpec {
    v1::CaptureSpec {
        name: spec.name.clone(),
        labels: spec.labels.clone().into_iter().collect(),
        all_nodes: spec.all_nodes,
        nodes: spec.nodes.clone(),
        filter: spec.filter.clone(),
        interfaces: spec.interfaces.clone(),
        duration: Some(prost_types::Duration {
            seconds: spec.duration_nanos / SECOND,
            nanos: (spec.duration_nanos % SECOND) as i32,
        }),
        max_packets: spec.max_packets,
        max_bytes: spec.max_bytes,
        snap_length: Some(spec.snap_length),
        start_at: spec.start_at_nanos.map(timestamp),
        sampling_interval: (spec.sampling_interval > 1).then_some(spec.sampling_interval),
    }
}

/// The message of a state; the numbers are the same.
pub fn state_message(state: State) -> v1::CaptureState {
    v1::CaptureState::try_from(state as i32).unwrap_or_default()
}

/// The message of a capture.
pub fn message(capture: &Capture) -> v1::Capture {
    v1::Capture {
        id: capture.id.clone(),
        spec: Some(spec_message(&capture.spec)),
        state: state_message(capture.state).into(),
        reason: capture.reason.clone(),
        created_at: Some(timestamp(capture.created_at_nanos)),
        created_by: capture.created_by.clone(),
        window_start: capture.window.map(|window| timestamp(window.start_nanos)),
        window_end: capture.window.map(|window| timestamp(window.end_nanos)),
        nodes: capture.parts.iter().map(part_message).collect(),
    }
}

/// Packets that were received and that the filter and the decoder let pass.
fn passed(counters: &Counters) -> u64 {
    let set_aside = [
        counters.filtered,
        counters.own_connections,
        counters.undecoded,
        counters.unreadable,
        counters.sampled_out,
    ];
    set_aside.into_iter().fold(counters.received, u64::saturating_sub)
}

fn part_message(part: &Part) -> v1::CaptureNode {
    let sum = |field: fn(&Counters) -> u64| {
        part.points.iter().fold(0_u64, |sum, status| sum.saturating_add(field(&status.counters)))
    };
    let mut interfaces: Vec<String> =
        part.points.iter().map(|status| status.point.key.interface.clone()).collect();
    interfaces.sort();
    interfaces.dedup();
    v1::CaptureNode {
        node: part.node.clone(),
        state: state_message(part.state).into(),
        reason: part.reason.clone(),
        armed_at: part.armed_at_nanos.map(timestamp),
        clock_offset_nanos: part.clock_start.map(|clock| clock.offset_nanos()),
        clock_error_nanos: part.clock_start.map(|clock| clock.error_nanos),
        interfaces,
        packets: sum(passed),
        kernel_drops: sum(|counters| counters.kernel_drops),
        agent_drops: sum(|counters| counters.agent_drops),
        filtered: sum(|counters| counters.filtered.saturating_add(counters.own_connections)),
        undecoded: sum(|counters| counters.undecoded),
        coverage: part.coverage.clone(),
        unreadable: sum(|counters| counters.unreadable),
        sampled_out: sum(|counters| counters.sampled_out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::batch;

    #[test]
    fn every_packet_a_node_received_is_in_one_of_its_counts() {
        let counters = v1::PointCounters {
            received: 100,
            filtered: 1,
            own_connections: 2,
            undecoded: 4,
            unreadable: 8,
            sampled_out: 16,
            ..Default::default()
        };
        let point = Some(v1::ObservationPoint::default());
        let status = v1::PointStatus { point, counters: Some(counters), batches: 0 };
        let mut part = Part::new("node-a");
        part.points = [status.clone(), status].into_iter().filter_map(batch::point_status).collect();
        let node = part_message(&part);
        assert_eq!((node.packets, node.filtered, node.undecoded, node.unreadable), (138, 6, 8, 16));
        assert_eq!(node.packets + node.filtered + node.undecoded + node.unreadable + node.sampled_out, 200);
    }
}
