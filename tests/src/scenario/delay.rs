//! Whether the delay between the nodes that a report states is the one there was, within the error that it states of their
//! clocks.

use super::report::{Path, Report};
use super::truth::Truth;

const MILLI: i64 = 1_000_000;

/// What differs on the stream into the fault.
pub(super) fn check(truth: &Truth, report: &Report) -> Option<String> {
    let [least, most] = truth.delay_millis?.map(|millis| millis * MILLI);
    let path = truth.faulty.path(report)?;
    let Some((median, most_of_all, error)) = crossing(path, report) else {
        return Some(format!("{}: no delay between the nodes, or no error of it", path.name()));
    };
    let is_right = (least - error..=most + error).contains(&median) && median <= most_of_all;
    (!is_right).then(|| {
        let figures = [median, most_of_all, error, least, most].map(|nanos| nanos as f64 / MILLI as f64);
        let [median, most_of_all, error, least, most] = figures;
        format!(
            "{}: delay {median} ms (p99 {most_of_all}) ± {error}, in truth {least} to {most}",
            path.name()
        )
    })
}

/// Median and p99 of the delay from one node to the other, and the error of both clocks.
fn crossing(path: &Path, report: &Report) -> Option<(i64, i64, i64)> {
    let [before, after] = path.hops.array_windows().find(|[one, next]| one.point.node != next.point.node)?;
    let error = |name: &str| report.nodes.iter().find(|node| node.node == name)?.clock_error_nanos;
    let error = error(&before.point.node)? + error(&after.point.node)?;
    Some((after.delay_p50_nanos?, after.delay_p99_nanos?, error))
}

#[cfg(test)]
mod tests {
    use super::{MILLI, crossing};
    use crate::scenario::report::{Hop, NodeReport, Path, PointName, Report};

    #[test]
    fn the_delay_is_that_of_the_first_point_of_the_other_node() {
        let hop = |node: &str, delay: i64| Hop {
            point: PointName { node: node.to_owned(), interface: "eth0".to_owned() },
            seen: 1,
            delay_p50_nanos: Some(delay * MILLI),
            delay_p99_nanos: Some(2 * delay * MILLI),
        };
        let path =
            Path { hops: vec![hop("a", 1), hop("a", 2), hop("b", 50), hop("b", 3)], ..Path::default() };
        let node = |name: &str| NodeReport {
            node: name.to_owned(),
            clock_error_nanos: Some(MILLI),
            ..NodeReport::default()
        };
        let report = Report { nodes: vec![node("a"), node("b")], ..Report::default() };
        assert_eq!(crossing(&path, &report), Some((50 * MILLI, 100 * MILLI, 2 * MILLI)));
        assert_eq!(crossing(&path, &Report { nodes: vec![node("a")], ..Report::default() }), None);
    }
}
