//! What the correlator is told before the first observation: nodes, points, window, clocks.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use lastseen_correlate::input::{GUARD_NANOS, Job, Node, Window};
use lastseen_correlate::topology::Topology;
use lastseen_proto::{convert, v1};
use prost::Message;

use crate::error::Error;
use crate::model::{Capture, ClockFix, Part, Point, PointKey, SECOND, State};
use crate::store::StoredBatch;
use crate::wire;

/// A job and how to find its points again.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) job: Job,
    /// Index of each point in the job, by node and point.
    pub(super) points: HashMap<(String, PointKey), usize>,
    pub(super) clocks: HashMap<String, NodeClock>,
}

/// A node's clock over a capture: the line through two fixes, so that drift does not blur delays.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeClock {
    start: ClockFix,
    end: ClockFix,
}

impl NodeClock {
    fn of(part: &Part) -> Option<Self> {
        let start = part.clock_start?;
        Some(Self { start, end: part.clock_end.unwrap_or(start) })
    }

    /// Coordinator's clock minus the node's `CLOCK_MONOTONIC` at a time of that clock.
    pub(super) fn coordinator_minus_monotonic_nanos(&self, monotonic_nanos: i64) -> i64 {
        let offset = |fix: &ClockFix| fix.coordinator_minus_monotonic_nanos;
        let at = |fix: &ClockFix| i128::from(fix.at_nanos) - i128::from(offset(fix));
        let (from, to) = (at(&self.start), at(&self.end));
        // Two fixes close together say more about noise than about drift.
        if to - from < i128::from(SECOND) {
            return offset(&self.start);
        }
        let rise = i128::from(offset(&self.end)) - i128::from(offset(&self.start));
        let along = i128::from(monotonic_nanos).clamp(from, to) - from;
        (i128::from(offset(&self.start)) + rise * along / (to - from)) as i64
    }
}

pub(super) fn prepare(
    capture: &Capture,
    topologies: &[(String, Bytes)],
    batches: &[StoredBatch],
    until_nanos: Option<i64>,
) -> Result<Prepared, Error> {
    let window =
        capture.window.ok_or_else(|| Error::Precondition(format!("{} has no window", capture.id)))?;
    let end_nanos = until_nanos.map_or(window.end_nanos, |until| until.min(window.end_nanos));
    let topologies: HashMap<&str, &Bytes> =
        topologies.iter().map(|(name, bytes)| (name.as_str(), bytes)).collect();
    let nodes =
        capture.parts.iter().map(|part| node(part, topologies.get(part.node.as_str()).copied())).collect();
    let all = all_points(capture, batches);
    let mut job = Job {
        capture_id: capture.id.clone(),
        name: capture.spec.name.clone(),
        filter: capture.spec.filter.clone(),
        partial: until_nanos.is_some(),
        window: Window { start_nanos: window.start_nanos, end_nanos },
        guard_nanos: GUARD_NANOS,
        key: lastseen_packet::IdentityKey(capture.identity_key.0),
        nodes,
        points: Vec::with_capacity(all.len()),
    };
    let mut points = HashMap::with_capacity(all.len());
    for ((node, key), point) in all {
        let Some(index) = capture.parts.iter().position(|part| part.node == node) else { continue };
        let message = wire::batch::point_message(&point);
        let point = convert::point(index, &message).map_err(|e| Error::Internal(e.to_string()))?;
        points.insert((node, key), job.points.len());
        job.points.push(point);
    }
    let clocks =
        capture.parts.iter().filter_map(|part| Some((part.node.clone(), NodeClock::of(part)?))).collect();
    Ok(Prepared { job, points, clocks })
}

/// Every point that was named, in an order of its own: those that said nothing are blind, not absent.
fn all_points(capture: &Capture, batches: &[StoredBatch]) -> BTreeMap<(String, PointKey), Point> {
    let named = capture.parts.iter().flat_map(|part| {
        part.points.iter().map(|status| ((part.node.clone(), status.point.key.clone()), status.point.clone()))
    });
    let stored =
        batches.iter().map(|batch| ((batch.node.clone(), batch.point.key.clone()), batch.point.clone()));
    named.chain(stored).collect()
}

fn node(part: &Part, topology: Option<&Bytes>) -> Node {
    let mut coverage = part.coverage.clone();
    let topology = topology.map_or_else(Topology::default, |bytes| {
        read_topology(bytes).unwrap_or_else(|reason| {
            coverage.push(format!("its topology cannot be used: {reason}"));
            Topology::default()
        })
    });
    let clock = part.clock_end.or(part.clock_start);
    // Only the correlator's own state is passed on; while it runs, a part that ended well has ended.
    let state = if part.state == State::Correlating { State::Completed } else { part.state };
    Node {
        name: part.node.clone(),
        topology,
        clock_offset_nanos: clock.map(|fix| fix.offset_nanos()),
        clock_error_nanos: clock.map(|fix| fix.error_nanos),
        state: wire::capture::state_message(state).into(),
        reason: part.reason.clone(),
        coverage,
    }
}

fn read_topology(bytes: &Bytes) -> Result<Topology, String> {
    let message = v1::NodeTopology::decode(bytes.clone()).map_err(|e| e.to_string())?;
    Topology::try_from(&message).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fix(at_nanos: i64, offset: i64) -> ClockFix {
        ClockFix {
            at_nanos,
            coordinator_minus_monotonic_nanos: offset,
            realtime_minus_monotonic_nanos: 0,
            error_nanos: 1,
            round_trip_nanos: 2,
        }
    }

    #[test]
    fn drift_is_followed_along_the_line_between_two_fixes() {
        let clock = NodeClock {
            start: fix(100 * SECOND, 50 * SECOND),
            end: fix(160 * SECOND, 50 * SECOND + 3_000_000),
        };
        let at = |monotonic| clock.coordinator_minus_monotonic_nanos(monotonic) - 50 * SECOND;
        assert_eq!(at(50 * SECOND), 0);
        assert!((at(80 * SECOND) - 1_500_000).abs() < 100);
        assert_eq!(at(1_000 * SECOND), 3_000_000);
    }

    #[test]
    fn two_fixes_of_one_moment_are_no_line() {
        let clock = NodeClock {
            start: fix(100 * SECOND, 50 * SECOND),
            end: fix(100 * SECOND + 5, 50 * SECOND + 900),
        };
        assert_eq!(clock.coordinator_minus_monotonic_nanos(70 * SECOND), 50 * SECOND);
    }
}
