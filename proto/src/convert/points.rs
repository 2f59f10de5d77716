//! Observation points and slices of batches.

use lastseen_correlate::input::{Point, Slice, SliceCounters};

use lastseen_packet::Threshold;

use super::{ConvertError, enums};
use crate::v1;

/// The point of the node at index `node` of the correlation job.
pub fn point(node: usize, message: &v1::ObservationPoint) -> Result<Point, ConvertError> {
    Ok(Point {
        node,
        netns: message.netns.clone(),
        interface: message.interface.clone(),
        index: message.index,
        direction: enums::direction(message.direction)
            .ok_or_else(|| ConvertError::new("point.direction", &message.direction, "IN or OUT"))
            .map(Some)?,
        kind: message.kind().into(),
        mtu: message.mtu,
        gso_known: message.gso_known,
    })
}

/// What to add to a batch's stamps to have them on the coordinator's clock. `coordinator_minus_monotonic_nanos` is the
/// coordinator's clock minus the agent's `CLOCK_MONOTONIC`.
pub fn to_coordinator_nanos(batch: &v1::ObservationBatch, coordinator_minus_monotonic_nanos: i64) -> i64 {
    coordinator_minus_monotonic_nanos.saturating_sub(batch.realtime_minus_monotonic_nanos)
}

/// The slice of `batch` on the coordinator's clock.
pub fn slice(batch: &v1::ObservationBatch, to_coordinator_nanos: i64) -> Slice {
    let counters = batch.counters.unwrap_or_default();
    Slice {
        start_nanos: batch.slice_start_nanos.saturating_add(to_coordinator_nanos),
        end_nanos: batch.slice_end_nanos.saturating_add(to_coordinator_nanos),
        counters: SliceCounters {
            received: counters.received,
            kernel_drops: counters.kernel_drops,
            agent_drops: counters.agent_drops,
            unreadable: counters.unreadable,
            own_connections: counters.own_connections,
            undecoded: counters.undecoded,
            sampled_out: counters.sampled_out,
        },
    }
}

/// By which threshold the packets of `batch` were selected.
pub fn threshold(batch: &v1::ObservationBatch) -> Threshold {
    batch.sampling_threshold.map_or(Threshold::ALL, Threshold::up_to)
}
