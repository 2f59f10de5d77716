//! Nodes for tests.

use lastseen_proto::v1;
use prost::Message as _;

use super::NodeView;
use crate::model::NodeRecord;

/// One of which no more is known than its name.
pub(crate) fn node(name: &str, is_ready: bool) -> NodeView {
    let record = NodeRecord {
        name: name.to_owned(),
        agent_version: String::new(),
        kernel: String::new(),
        incarnation: 1,
        last_seen_nanos: 0,
        capabilities: Vec::new(),
        topology: bytes::Bytes::new(),
    };
    let (clock, round_trip_nanos, resident_bytes, notes) = (None, None, None, Vec::new());
    NodeView { record, is_ready, clock, round_trip_nanos, resident_bytes, notes }
}

/// One that is ready, and whose default route leaves by an interface with this address.
pub(crate) fn node_at(name: &str, address: &str) -> NodeView {
    let interface = v1::Interface {
        index: 2,
        name: "eth0".to_owned(),
        kind: v1::InterfaceKind::Physical.into(),
        addresses: vec![format!("{address}/16")],
        ..Default::default()
    };
    let route = v1::Route {
        destination: "0.0.0.0/0".to_owned(),
        gateway: "10.0.255.254".to_owned(),
        output_index: Some(2),
        table: 254,
        r#type: "unicast".to_owned(),
        ..Default::default()
    };
    let topology =
        v1::NodeTopology { interfaces: vec![interface], routes: vec![route], ..Default::default() };
    let mut node = node(name, true);
    node.record.topology = topology.encode_to_vec().into();
    node
}
