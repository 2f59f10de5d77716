//! What the correlator is told before the first observation: nodes, points, window, clocks.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use lastseen_correlate::input::{GUARD_NANOS, Job, Node, Window};
use lastseen_correlate::topology::Topology;
use lastseen_proto::{convert, v1};
use prost::Message;

use super::node_clock::NodeClock;
use crate::error::Error;
use crate::model::{Capture, NodeRecord, Part, Point, PointKey, State};
use crate::store::StoredBatch;
use crate::wire;

/// A job and how to find its points again.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) job: Job,
    pub(super) points: Points,
    pub(super) clocks: Clocks,
}

/// Index of each point in the job, by node and point.
pub(super) type Points = HashMap<(String, PointKey), usize>;
/// By node.
pub(super) type Clocks = HashMap<String, NodeClock>;

pub(super) fn prepare(
    capture: &Capture,
    topologies: &[(String, Bytes)],
    known: &[NodeRecord],
    batches: &[StoredBatch],
    until_nanos: Option<i64>,
) -> Result<Prepared, Error> {
    let window =
        capture.window.ok_or_else(|| Error::Precondition(format!("{} has no window", capture.id)))?;
    let end_nanos = until_nanos.map_or(window.end_nanos, |until| until.min(window.end_nanos));
    let judged = Window { start_nanos: window.start_nanos, end_nanos };
    let mut job = Job {
        partial: until_nanos.is_some(),
        nodes: nodes(capture, topologies, known, judged),
        ..blank(capture, judged)
    };
    let points = add_points(&mut job, capture, batches)?;
    let clock = |part: &Part| Some((part.node.clone(), NodeClock::of(part)?));
    let clocks = capture.parts.iter().filter_map(clock).collect();
    Ok(Prepared { job, points, clocks })
}

/// A job without nodes and points.
fn blank(capture: &Capture, window: Window) -> Job {
    let interfaces = capture.spec.interfaces.as_slice();
    Job {
        capture_id: capture.id.clone(),
        name: capture.spec.name.clone(),
        filter: capture.spec.filter.clone(),
        named_interfaces: !(interfaces.is_empty() || interfaces == ["auto"]),
        partial: false,
        from_files: false,
        window,
        guard_nanos: GUARD_NANOS,
        key: lastseen_packet::IdentityKey(capture.identity_key.0),
        nodes: Vec::new(),
        points: Vec::new(),
    }
}

/// Those of the capture in the order of its parts, then the others.
fn nodes(
    capture: &Capture,
    topologies: &[(String, Bytes)],
    known: &[NodeRecord],
    window: Window,
) -> Vec<Node> {
    // What a node last said stands in for what it said to this capture, if it said nothing.
    let last = known.iter().map(|node| (node.name.as_str(), &node.topology));
    let told = topologies.iter().map(|(name, bytes)| (name.as_str(), bytes));
    let topologies: HashMap<&str, &Bytes> = last.chain(told).collect();
    let topology = |part: &Part| topologies.get(part.node.as_str()).copied();
    let asked = capture.parts.iter().map(|part| node(part, window, topology(part)));
    let others = known.iter().filter(|node| capture.part(&node.name).is_none());
    asked.chain(others.map(bystander)).collect()
}

fn add_points(job: &mut Job, capture: &Capture, batches: &[StoredBatch]) -> Result<Points, Error> {
    let mut points = HashMap::new();
    for ((node, key), point) in all_points(capture, batches) {
        let Some(index) = capture.parts.iter().position(|part| part.node == node) else { continue };
        let message = wire::batch::point_message(&point);
        let point = convert::point(index, &message).map_err(|e| Error::Internal(e.to_string()))?;
        points.insert((node, key), job.points.len());
        job.points.push(point);
    }
    Ok(points)
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

fn node(part: &Part, window: Window, topology: Option<&Bytes>) -> Node {
    let mut coverage = part.coverage.clone();
    let topology = topology.map_or_else(Topology::default, |bytes| {
        read_topology(bytes).unwrap_or_else(|reason| {
            coverage.push(format!("its topology cannot be used: {reason}"));
            Topology::default()
        })
    });
    let clock = NodeClock::of(part);
    // Only the correlator's own state is passed on; while it runs, a part that ended well has ended.
    let state = if part.state == State::Correlating { State::Completed } else { part.state };
    Node {
        name: part.node.clone(),
        topology,
        clock_offset_nanos: clock.map(|clock| clock.offset_nanos(window)),
        clock_error_nanos: clock.map(|clock| clock.error_nanos()),
        state: wire::capture::state_message(state).into(),
        reason: part.reason.clone(),
        coverage,
        is_bystander: false,
        translations: Vec::new(),
    }
}

/// A node that was not asked for. One whose network cannot be read is as good as unknown.
fn bystander(record: &NodeRecord) -> Node {
    let topology = read_topology(&record.topology).unwrap_or_default();
    Node { name: record.name.clone(), topology, is_bystander: true, ..Node::default() }
}

/// A node's network as it told it.
pub(crate) fn read_topology(bytes: &Bytes) -> Result<Topology, String> {
    let message = v1::NodeTopology::decode(bytes.clone()).map_err(|e| e.to_string())?;
    Topology::try_from(&message).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{SECOND, Window};

    fn known(name: &str, interface: &str) -> NodeRecord {
        let interface = v1::Interface { name: interface.into(), index: 2, ..Default::default() };
        let topology = v1::NodeTopology { interfaces: vec![interface], ..Default::default() };
        NodeRecord {
            name: name.to_owned(),
            agent_version: String::new(),
            kernel: String::new(),
            incarnation: 1,
            last_seen_nanos: 0,
            capabilities: Vec::new(),
            topology: topology.encode_to_vec().into(),
        }
    }

    #[test]
    fn every_known_node_has_its_network_and_only_those_asked_for_take_part() {
        let window = Some(Window { start_nanos: 0, end_nanos: SECOND });
        let capture = Capture { window, ..Capture::sample(&["node-a"]) };
        let known = [known("node-a", "eth0"), known("node-b", "ens3")];
        let job = prepare(&capture, &[], &known, &[], None).unwrap().job;
        let found: Vec<_> = job
            .nodes
            .iter()
            .map(|node| (node.name.as_str(), node.is_bystander, node.topology.interfaces[0].name.as_str()))
            .collect();
        assert_eq!(found, [("node-a", false, "eth0"), ("node-b", true, "ens3")]);
    }

    #[test]
    fn auto_names_no_interface() {
        for (interfaces, is_named) in [(&[][..], false), (&["auto"], false), (&["eth0"], true)] {
            let mut capture = Capture::sample(&["node-a"]);
            capture.window = Some(Window { start_nanos: 1, end_nanos: 2 });
            capture.spec.interfaces = interfaces.iter().map(|&name| name.to_owned()).collect();
            let prepared = prepare(&capture, &[], &[], &[], None).unwrap();
            assert_eq!(prepared.job.named_interfaces, is_named, "{interfaces:?}");
        }
    }
}
