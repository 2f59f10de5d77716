//! Nodes.

use lastseen_proto::convert::timestamp;
use lastseen_proto::v1;
use prost::Message;

use crate::fleet::NodeView;

/// The message of a node, with its topology if wanted. What its connection tells is not in it.
pub fn message(view: &NodeView, with_topology: bool) -> v1::Node {
    let record = &view.record;
    let state = if view.is_ready { v1::NodeState::Ready } else { v1::NodeState::Offline };
    let topology = with_topology.then(|| v1::NodeTopology::decode(record.topology.clone()).ok()).flatten();
    v1::Node {
        name: record.name.clone(),
        state: state.into(),
        agent_version: record.agent_version.clone(),
        kernel: record.kernel.clone(),
        incarnation: record.incarnation,
        last_seen_at: Some(timestamp(record.last_seen_nanos)),
        clock_offset_nanos: view.clock.map(|clock| clock.offset_nanos()),
        clock_error_nanos: view.clock.map(|clock| clock.error_nanos),
        round_trip_nanos: view.round_trip_nanos,
        capabilities: record.capabilities.iter().map(capability).collect(),
        topology,
        resident_bytes: view.resident_bytes,
        notes: view.notes.clone(),
        certificate_not_after: None,
    }
}

fn capability(capability: &crate::model::Capability) -> v1::Capability {
    v1::Capability {
        name: capability.name.clone(),
        available: capability.available,
        reason: capability.reason.clone(),
    }
}
