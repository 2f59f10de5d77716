//! What changed since the last look, for logs.

use std::collections::HashMap;

use lastseen_proto::v1::Capture;

use crate::output::{escape, names, units};

/// Remembers the states that were told.
#[derive(Debug, Default)]
pub(super) struct Changes {
    capture: Option<i32>,
    nodes: HashMap<String, i32>,
}

impl Changes {
    /// A line for each state that is new.
    pub(super) fn lines(&mut self, capture: &Capture) -> Vec<String> {
        let mut lines = Vec::new();
        let id = escape::line(&capture.id);
        if self.capture.replace(capture.state) != Some(capture.state) {
            lines.push(format!("{id} {}{}", names::capture_state(capture.state), because(&capture.reason)));
        }
        for node in &capture.nodes {
            if self.nodes.insert(node.node.clone(), node.state) == Some(node.state) {
                continue;
            }
            let (name, state) = (escape::line(&node.node), names::capture_state(node.state));
            let packets = match (node.packets, node.kernel_drops + node.agent_drops) {
                (0, 0) => String::new(),
                (packets, drops) => {
                    format!("  {} packets, {} dropped", units::count(packets), units::count(drops))
                }
            };
            lines.push(format!("{id} {name} {state}{}{packets}", because(&node.reason)));
        }
        lines
    }
}

fn because(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {}", escape::line(reason)) }
}

#[cfg(test)]
mod tests {
    use lastseen_proto::v1::{CaptureNode, CaptureState};

    use super::*;

    #[test]
    fn each_state_is_told_once() {
        let node = |state: CaptureState, packets| CaptureNode {
            node: "node-a".into(),
            state: state as i32,
            packets,
            ..Default::default()
        };
        let mut capture =
            Capture { id: "c-1".into(), state: CaptureState::Arming as i32, ..Default::default() };
        let mut changes = Changes::default();
        assert_eq!(changes.lines(&capture), ["c-1 arming"]);
        capture.nodes = vec![node(CaptureState::Armed, 0)];
        assert_eq!(changes.lines(&capture), ["c-1 node-a armed"]);
        assert!(changes.lines(&capture).is_empty());
        capture.state = CaptureState::Draining as i32;
        capture.nodes = vec![node(CaptureState::Draining, 1_234)];
        assert_eq!(
            changes.lines(&capture),
            ["c-1 draining", "c-1 node-a draining  1,234 packets, 0 dropped"]
        );
    }
}
