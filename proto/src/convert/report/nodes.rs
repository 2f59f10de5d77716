//! What each node contributed.

use lastseen_correlate::report::NodeReport;

use crate::v1;

impl From<NodeReport> for v1::NodeReport {
    fn from(node: NodeReport) -> Self {
        Self {
            node: node.node,
            state: v1::CaptureState::from(node.state).into(),
            reason: node.reason,
            clock_offset_nanos: node.clock_offset_nanos,
            clock_error_nanos: node.clock_error_nanos,
            packets: node.packets,
            kernel_drops: node.kernel_drops,
            agent_drops: node.agent_drops,
            own_connections: node.own_connections,
            undecoded: node.undecoded,
            unreadable: node.unreadable,
            sampled_out: node.sampled_out,
            coverage: node.coverage,
        }
    }
}

impl From<v1::NodeReport> for NodeReport {
    fn from(message: v1::NodeReport) -> Self {
        Self {
            state: message.state().into(),
            node: message.node,
            reason: message.reason,
            clock_offset_nanos: message.clock_offset_nanos,
            clock_error_nanos: message.clock_error_nanos,
            packets: message.packets,
            kernel_drops: message.kernel_drops,
            agent_drops: message.agent_drops,
            own_connections: message.own_connections,
            undecoded: message.undecoded,
            unreadable: message.unreadable,
            sampled_out: message.sampled_out,
            coverage: message.coverage,
        }
    }
}
