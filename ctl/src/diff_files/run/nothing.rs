//! The report on files of which nothing can be compared.

use lastseen_correlate::input::{Node, Window};
use lastseen_correlate::report::{NodeReport, Report, SegmentTotals, Verdict};

use super::{Evidence, ID};

impl Evidence {
    /// A report that says why there is nothing to say.
    pub(super) fn inconclusive(&self, reason: String) -> Report {
        let mut nodes: Vec<NodeReport> =
            (0..self.names.len()).map(|node| self.node_of_report(node)).collect();
        nodes.sort_by(|a, b| a.node.cmp(&b.node));
        Report { capture_id: ID.to_owned(), notes: vec![reason], nodes, ..empty() }
    }

    fn node_of_report(&self, node: usize) -> NodeReport {
        let Node { name, state, clock_offset_nanos, clock_error_nanos, coverage, reason, .. } =
            self.node_of_job(node);
        let here = || self.of_node(node);
        NodeReport {
            node: name,
            state,
            reason,
            clock_offset_nanos,
            clock_error_nanos,
            packets: here().map(|tap| tap.packets).sum(),
            kernel_drops: 0,
            agent_drops: 0,
            own_connections: 0,
            undecoded: 0,
            unreadable: here().map(|tap| tap.unreadable).sum(),
            sampled_out: 0,
            coverage,
        }
    }
}

fn empty() -> Report {
    Report {
        capture_id: String::new(),
        name: String::new(),
        filter: String::new(),
        window: Window::default(),
        partial: false,
        verdict: Verdict::Inconclusive,
        notes: Vec::new(),
        totals: SegmentTotals::default(),
        nodes: Vec::new(),
        paths: Vec::new(),
        omitted_paths: 0,
        sampling: None,
    }
}
