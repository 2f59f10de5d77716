//! The first lines: which capture, which window, who took part.

use lastseen_proto::v1::{CaptureState, DiffReport, NodeReport};

use super::Options;
use crate::output::{escape, units};

pub(super) fn text(report: &DiffReport, options: Options) -> String {
    let mut parts = vec![format!("capture {}", report.capture_id)];
    parts.extend((!report.name.is_empty()).then(|| report.name.clone()));
    parts.push(window(report, options));
    let present = report.nodes.iter().filter(|node| took_part(node)).count();
    parts.push(format!("{present} of {}", super::plural(report.nodes.len() as u64, "node")));
    parts.push(clock_error(&report.nodes));
    parts.extend(report.partial.then(|| "partial".to_owned()));
    let mut text = format!("{}\n", escape::line(&parts.join("  ")));
    if options.wide && !report.filter.is_empty() {
        text += &format!("filter {}\n", escape::line(&report.filter));
    }
    for node in &report.nodes {
        text += &troubles(node);
    }
    text
}

fn window(report: &DiffReport, options: Options) -> String {
    let Some(window) = &report.window else { return "no window".to_owned() };
    let show = if options.wide { units::instant } else { units::time_of_day };
    format!("{} – {}", show(window.start.as_ref()), show(window.end.as_ref()))
}

/// A node that failed, was cancelled or never began did not observe.
fn took_part(node: &NodeReport) -> bool {
    use CaptureState::{Armed, Completed, Correlating, Draining, Running};
    matches!(CaptureState::try_from(node.state), Ok(Armed | Running | Draining | Correlating | Completed))
}

/// The worst bound; none if a node that saw packets has none.
fn clock_error(nodes: &[NodeReport]) -> String {
    let is_unbounded =
        |node: &&NodeReport| took_part(node) && node.packets > 0 && node.clock_error_nanos.is_none();
    if nodes.iter().any(|node| is_unbounded(&node)) {
        return "clock error unknown".to_owned();
    }
    match nodes.iter().filter_map(|node| node.clock_error_nanos).max() {
        Some(worst) => format!("clock error ≤ {}", units::clock_error(worst)),
        None => "clock error unknown".to_owned(),
    }
}

/// What a node that took part did not cover. Why others did not take part is in the report's notes.
fn troubles(node: &NodeReport) -> String {
    let stopped_early = Some(&node.reason).filter(|reason| took_part(node) && !reason.is_empty());
    // The reason for an early end is often a gap in the coverage too.
    let gaps = node.coverage.iter().filter(|gap| Some(*gap) != stopped_early);
    let lines = stopped_early.into_iter().chain(gaps);
    lines.map(|line| format!("{}: {}\n", escape::line(&node.node), escape::line(line))).collect()
}
