//! Views of a finished report: by end and by threshold. Pure, so that a stored report serves every question.

use crate::fabric::topology::Direction;
use crate::input::CaptureState;
use crate::report::{Hop, NodeReport, PathReport, Report, SegmentTotals, Verdict};

/// Share of segments that may go unobserved before the report is inconclusive.
pub(crate) const UNOBSERVED_RATIO: f64 = 0.01;

/// What to show and what counts as loss.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ViewOptions {
    /// Only paths whose source is this address or lies on this node.
    pub from: Option<String>,
    /// Only paths whose destination is this address or lies on this node.
    pub to: Option<String>,
    /// Share of a path's segments that must be lost to count, 0 to 1. Absent: any loss.
    pub min_loss_ratio: Option<f64>,
}

impl Report {
    /// The paths that `options` choose, with their sums and the verdict over them. The notes stay those of the whole
    /// report; paths that were not listed are not in the view.
    #[must_use]
    pub fn filtered(&self, options: &ViewOptions) -> Self {
        let mut view = self.clone();
        if options.from.is_some() || options.to.is_some() {
            view.paths.retain(|path| options.choose(path));
            view.totals = SegmentTotals::sum(view.paths.iter().map(|path| &path.totals));
            let others = self.paths.len() - view.paths.len();
            if view.paths.is_empty() {
                view.notes.push(options.nothing_chosen());
            } else if others > 0 {
                view.notes.push(format!("only paths{}; {others} more not shown", options.ends()));
            }
        }
        view.verdict = verdict(&view, options.min_loss_ratio.unwrap_or(0.0));
        let is_selection = options.from.is_some() || options.to.is_some();
        if is_selection && view.omitted_paths > 0 && view.verdict == Verdict::Delivered {
            view.verdict = Verdict::Inconclusive;
            view.notes.push(format!(
                "{} paths are not in this report and may belong to the selection: narrow the filter",
                view.omitted_paths
            ));
        }
        view
    }
}

impl ViewOptions {
    fn choose(&self, path: &PathReport) -> bool {
        let is_end = |wanted: &Option<String>, end: &str, node: Option<&str>| match wanted {
            Some(wanted) => host_of(end) == wanted || end == wanted || node == Some(wanted),
            None => true,
        };
        is_end(&self.from, &path.source, source_node(path))
            && is_end(&self.to, &path.destination, target_node(path))
    }

    fn nothing_chosen(&self) -> String {
        format!("no path{} was captured", self.ends())
    }

    /// ` from a to b`.
    fn ends(&self) -> String {
        let part = |word: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!(" {word} {value}")).unwrap_or_default()
        };
        format!("{}{}", part("from", &self.from), part("to", &self.to))
    }
}

/// The verdict of `report`, where a path's loss counts from `min_loss_ratio` of its segments.
///
/// A path of one point compares nothing: its segments are not judged, or `not_observable` where it is known to go on.
/// A report of such paths alone is inconclusive; beside others they change nothing. A node that failed was asked for and
/// saw nothing: what happened there is not known.
pub(crate) fn verdict(report: &Report, min_loss_ratio: f64) -> Verdict {
    let Report { totals, paths, nodes, .. } = report;
    let counts = |path: &PathReport| {
        let (lost, total) = path.lost_of();
        path.totals.lost > 0 && lost as f64 >= min_loss_ratio * total as f64
    };
    if paths.iter().any(counts) {
        return Verdict::Lost;
    }
    let compared = paths.iter().any(|path| path.totals.segments > 0 && path.hops.len() > 1);
    let unobserved = (totals.not_observable + totals.ambiguous) as f64;
    let is_unseen = |node: &NodeReport| matches!(node.state, CaptureState::Failed | CaptureState::Cancelled);
    if !compared || nodes.iter().any(is_unseen) || unobserved > UNOBSERVED_RATIO * totals.segments as f64 {
        return Verdict::Inconclusive;
    }
    Verdict::Delivered
}

impl PathReport {
    /// What the share of the path that was lost is one of: segments, or bytes where it is counted in pieces.
    fn lost_of(&self) -> (u64, u64) {
        let segments = (self.totals.lost, self.totals.segments);
        self.in_pieces.map_or(segments, |bytes| (bytes.lost, bytes.total))
    }
}

impl SegmentTotals {
    /// Sums field by field.
    pub fn sum<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        all.fold(Self::default(), |mut sum, one| {
            sum.add(one);
            sum
        })
    }

    /// Adds `other` field by field.
    pub fn add(&mut self, other: &Self) {
        self.segments += other.segments;
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.not_observable += other.not_observable;
        self.ambiguous += other.ambiguous;
        self.in_flight += other.in_flight;
        self.transformed += other.transformed;
        self.duplicated += other.duplicated;
        self.bypassed += other.bypassed;
    }
}

/// The address of `10.0.0.1:80`, `[2001:db8::1]:80`, or of a text without a port.
fn host_of(end: &str) -> &str {
    if let Some(rest) = end.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match end.rsplit_once(':') {
        Some((host, _)) if !host.contains(':') => host,
        _ => end,
    }
}

/// The node a path starts on, unless it enters from outside.
fn source_node(path: &PathReport) -> Option<&str> {
    path.hops
        .first()
        .filter(|hop| !is_underlay(hop) || hop.direction == Some(Direction::Out))
        .map(|hop| hop.node.as_str())
}

/// The node a path ends on, unless it leaves for outside.
fn target_node(path: &PathReport) -> Option<&str> {
    path.hops
        .last()
        .filter(|hop| !is_underlay(hop) || hop.direction == Some(Direction::In))
        .map(|hop| hop.node.as_str())
}

fn is_underlay(hop: &Hop) -> bool {
    use crate::fabric::topology::InterfaceKind::{Other, Physical};
    matches!(hop.kind, Physical | Other)
}

#[cfg(test)]
mod tests {
    use super::host_of;

    #[test]
    fn the_host_of_an_end_is_found_with_and_without_a_port() {
        assert_eq!(host_of("10.0.0.1:80"), "10.0.0.1");
        assert_eq!(host_of("10.0.0.1"), "10.0.0.1");
        assert_eq!(host_of("[2001:db8::1]:80"), "2001:db8::1");
        assert_eq!(host_of("2001:db8::1"), "2001:db8::1");
    }
}
