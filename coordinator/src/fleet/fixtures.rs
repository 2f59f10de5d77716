//! Nodes for tests.

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
