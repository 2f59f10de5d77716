//! Observation points and batches.

use bytes::Bytes;
use lastseen_proto::v1;
use prost::Message;

use crate::ingest::Arrived;
use crate::model::{BatchKey, Counters, Point, PointKey, PointStatus};

/// A point; what it is named is checked elsewhere.
pub fn point(message: v1::ObservationPoint) -> Point {
    Point {
        key: PointKey {
            netns: message.netns,
            interface: message.interface,
            index: message.index,
            direction: message.direction,
        },
        kind: message.kind,
        mtu: message.mtu,
        gso_known: message.gso_known,
    }
}

/// The message of a point.
pub fn point_message(point: &Point) -> v1::ObservationPoint {
    v1::ObservationPoint {
        netns: point.key.netns.clone(),
        interface: point.key.interface.clone(),
        index: point.key.index,
        direction: point.key.direction,
        kind: point.kind,
        mtu: point.mtu,
        gso_known: point.gso_known,
    }
}

/// Counters; absent ones are zero.
pub fn counters(message: Option<v1::PointCounters>) -> Counters {
    let message = message.unwrap_or_default();
    Counters {
        received: message.received,
        kernel_drops: message.kernel_drops,
        agent_drops: message.agent_drops,
        filtered: message.filtered,
        own_connections: message.own_connections,
        undecoded: message.undecoded,
        bytes: message.bytes,
        unreadable: message.unreadable,
        sampled_out: message.sampled_out,
    }
}

/// What an agent says about a point; absent without a point.
pub fn point_status(message: v1::PointStatus) -> Option<PointStatus> {
    let counters = counters(message.counters);
    Some(PointStatus { point: point(message.point?), counters, batches: message.batches })
}

/// A batch of `node`, taken apart and encoded as it will be stored. The message's own key comes back beside it for the
/// acknowledgement, and alone where it names no point.
pub fn arrived(
    node: &str,
    batch: v1::ObservationBatch,
) -> Result<(Arrived, v1::BatchKey), Option<v1::BatchKey>> {
    let message: Bytes = batch.encode_to_vec().into();
    let key = batch.key.ok_or(None)?;
    let Some(point) = key.point.clone().map(point) else { return Err(Some(key)) };
    let arrived = Arrived {
        key: BatchKey {
            capture: key.capture_id.clone(),
            node: node.to_owned(),
            point: point.key.clone(),
            incarnation: key.incarnation,
            sequence: key.sequence,
        },
        point,
        slice_start_nanos: batch.slice_start_nanos,
        slice_end_nanos: batch.slice_end_nanos,
        rows: batch.rows,
        realtime_minus_monotonic_nanos: batch.realtime_minus_monotonic_nanos,
        sampling_threshold: batch.sampling_threshold,
        columns: batch.columns,
        message,
    };
    Ok((arrived, key))
}
