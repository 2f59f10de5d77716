//! Holds a report against the ground truth.

use super::file::Verdict;
use super::report::{Loss, NodeReport, Path, Report, Totals};
use super::truth::{LegLoss, Stream, Truth};

/// What came of a comparison.
#[derive(Debug, Clone, Default)]
pub struct Finding {
    /// What the report says, in one line.
    pub found: String,
    /// Segments the report calls lost on the right paths, for each leg of the truth.
    pub by_leg: Vec<u64>,
    /// Segments the report calls lost anywhere else.
    pub lost_elsewhere: u64,
    /// Largest error of a node's clock, nanoseconds.
    pub clock_error_nanos: i64,
    /// Whether the leg on which the report loses most is the right one; absent when nothing is to be found.
    pub hop_right: Option<bool>,
    /// The report as `ctl diff-nodes -o json` printed it.
    pub report: String,
    /// Everything that differs; empty means passed.
    pub differences: Vec<String>,
}

/// Compares `report` with `truth`.
pub fn check(truth: &Truth, report: &Report, exit_code: i32) -> Finding {
    let by_leg = vec![0; truth.losses.len()];
    let mut finding = Finding { found: describe(report), by_leg, ..Finding::default() };
    attribute(truth, report, &mut finding);
    finding.hop_right = truth.losses.first().map(|LegLoss { from, to, .. }| {
        legs(report).first().is_some_and(|(top, _)| *top == format!("{from} → {to}"))
    });
    check_verdict(truth, report, exit_code, &mut finding);
    check_losses(truth, &mut finding);
    check_clocks(report, &mut finding);
    check_sums(report, &mut finding);
    check_stream(&truth.faulty, truth, report, &mut finding);
    check_stream(&truth.clean, truth, report, &mut finding);
    check_translations(truth, report, &mut finding);
    finding
}

impl Finding {
    /// Segments that are called lost and truly are, at most as many as there are.
    pub fn correct(&self, truth: &Truth) -> u64 {
        truth.losses.iter().zip(&self.by_leg).map(|(loss, found)| loss.count.min(*found)).sum()
    }

    /// Segments that are called lost and are not.
    pub fn false_losses(&self, truth: &Truth) -> u64 {
        let excess =
            truth.losses.iter().zip(&self.by_leg).map(|(loss, found)| found.saturating_sub(loss.count));
        self.lost_elsewhere + excess.sum::<u64>()
    }

    /// Segments the report calls lost where some truly were.
    pub fn lost_right(&self) -> u64 {
        self.by_leg.iter().sum()
    }

    fn differ(&mut self, text: String) {
        self.differences.push(text);
    }
}

/// Sorts every loss in the report into right and elsewhere.
fn attribute(truth: &Truth, report: &Report, finding: &mut Finding) {
    for path in &report.paths {
        let faulty = path.addresses() == Some((truth.faulty.source.ip(), truth.faulty.destination.ip()));
        for loss in &path.losses {
            let leg = truth.losses.iter().position(|leg| faulty && is_on(loss, leg));
            if let Some(leg) = leg {
                finding.by_leg[leg] += loss.count;
            } else {
                finding.lost_elsewhere += loss.count;
                finding.differ(format!("false loss: {} {}", name(path), line(loss)));
            }
        }
    }
}

fn is_on(loss: &Loss, leg: &LegLoss) -> bool {
    loss.from == leg.from && loss.to.as_ref() == Some(&leg.to)
}

fn check_verdict(truth: &Truth, report: &Report, exit_code: i32, finding: &mut Finding) {
    if report.verdict != truth.verdict.name() {
        finding.differ(format!("verdict {}, expected {}", report.verdict, truth.verdict.name()));
    }
    if exit_code != truth.verdict.exit_code() {
        finding.differ(format!("exit code {exit_code}, expected {}", truth.verdict.exit_code()));
    }
    if report.partial {
        finding.differ("the report of a completed capture is partial".to_owned());
    }
    let is_odd =
        |node: &&NodeReport| (node.state == "COMPLETED") == (truth.killed.as_ref() == Some(&node.node));
    for node in report.nodes.iter().filter(is_odd) {
        finding.differ(format!("node {} is {}: {}", node.node, node.state, node.reason));
    }
}

fn check_losses(truth: &Truth, finding: &mut Finding) {
    for (at, LegLoss { from, to, count }) in truth.losses.iter().enumerate() {
        let found = finding.by_leg[at];
        if found != *count {
            finding.differ(format!("lost {found} on {from} → {to}, ground truth {count}"));
        }
    }
}

/// All nodes of a lab share one clock, so every offset is an error, and must not exceed the one that is stated.
fn check_clocks(report: &Report, finding: &mut Finding) {
    for node in &report.nodes {
        let offset = node.clock_offset_nanos.unwrap_or(0).saturating_abs();
        finding.clock_error_nanos = finding.clock_error_nanos.max(offset);
        if node.clock_error_nanos.is_none_or(|error| offset > error) {
            finding.differ(format!(
                "clock of {} off by {offset} ns, stated {:?}",
                node.node, node.clock_error_nanos
            ));
        }
    }
}

fn check_sums(report: &Report, finding: &mut Finding) {
    let mut sum = Totals::default();
    for path in &report.paths {
        sum.add(&path.totals);
        if path.totals.sum() != path.totals.segments {
            finding.differ(format!("{}: states do not add up: {:?}", name(path), path.totals));
        }
        let by_leg: u64 = path.losses.iter().map(|loss| loss.count).sum();
        if by_leg != path.totals.lost {
            finding.differ(format!("{}: legs lose {by_leg}, the path {}", name(path), path.totals.lost));
        }
    }
    if sum != report.totals {
        finding.differ(format!("paths add up to {sum:?}, totals say {:?}", report.totals));
    }
}

/// Every datagram sent must be in the report, in the state the generators know.
fn check_stream(stream: &Stream, truth: &Truth, report: &Report, finding: &mut Finding) {
    let Some(path) = path_of(stream, report) else {
        return finding.differ(format!("no path udp {} → {}", stream.source, stream.destination));
    };
    let Totals { segments, delivered, lost, not_observable, .. } = path.totals;
    let blind_allowed = truth.verdict == Verdict::Inconclusive || truth.is_hidden;
    let seen = if blind_allowed { delivered + not_observable } else { delivered };
    if segments != stream.sent || lost != stream.lost || seen != stream.sent - stream.lost {
        finding.differ(format!(
            "{}: sent {} lost {}, reported {:?}",
            name(path),
            stream.sent,
            stream.lost,
            path.totals
        ));
    }
}

fn path_of<'r>(stream: &Stream, report: &'r Report) -> Option<&'r Path> {
    let (source, destination) = (stream.source.to_string(), stream.destination.to_string());
    let mut udp = report.paths.iter().filter(|path| path.protocol == "udp");
    udp.find(|path| path.source == source && path.destination == destination)
}

fn check_translations(truth: &Truth, report: &Report, finding: &mut Finding) {
    let Some(path) = path_of(&truth.faulty, report) else { return };
    let named: Vec<_> = path.translations.iter().map(|one| one.node.as_deref().unwrap_or("?")).collect();
    if named != truth.translators {
        finding.differ(format!(
            "{}: translated by {named:?}, in truth by {:?}",
            name(path),
            truth.translators
        ));
    }
}

/// The report in one line: verdict and, by size, the legs on which something was lost.
fn describe(report: &Report) -> String {
    let legs: Vec<_> = legs(report).into_iter().map(|(leg, _)| leg).collect();
    format!("{} {}", report.verdict, legs.join(", ")).trim_end().to_owned()
}

/// Segments lost on each leg over all paths, most first.
fn legs(report: &Report) -> Vec<(String, u64)> {
    let mut legs: Vec<(String, u64)> = Vec::new();
    for loss in report.paths.iter().flat_map(|path| &path.losses) {
        let leg = leg(loss);
        match legs.iter_mut().find(|(known, _)| *known == leg) {
            Some((_, count)) => *count += loss.count,
            None => legs.push((leg, loss.count)),
        }
    }
    legs.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    legs
}

fn leg(loss: &Loss) -> String {
    let to = loss.to.as_ref().map_or_else(|| "?".to_owned(), ToString::to_string);
    format!("{} → {to}", loss.from)
}

fn line(loss: &Loss) -> String {
    format!("{} {}", loss.count, leg(loss))
}

fn name(path: &Path) -> String {
    format!("{} {} → {}", path.protocol, path.source, path.destination)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Finding, check};
    use crate::scenario::file::Verdict;
    use crate::scenario::report::PointName;
    use crate::scenario::truth::{LegLoss, Stream, Truth};

    fn stream(source: &str, destination: &str, sent: u64, lost: u64) -> Stream {
        let parse = |text: &str| text.parse().expect("address");
        Stream { source: parse(source), destination: parse(destination), sent, lost }
    }

    fn point(node: &str) -> PointName {
        PointName { node: node.to_owned(), interface: "eth0".to_owned() }
    }

    /// Five datagrams and one TCP segment lost between two nodes.
    fn truth() -> Truth {
        Truth {
            verdict: Verdict::Lost,
            killed: None,
            is_hidden: false,
            losses: vec![LegLoss { from: point("a"), to: point("b"), count: 6 }],
            faulty: stream("10.0.1.2:5", "10.0.2.2:6", 20, 5),
            translators: vec!["a".to_owned()],
            clean: stream("10.0.3.2:7", "10.0.1.2:8", 10, 0),
        }
    }

    fn path(protocol: &str, ends: [&str; 2], sent: u64, lost: u64) -> Value {
        let eth0 = |node: &str| json!({"node": node, "interface": "eth0"});
        let losses = if lost > 0 {
            json!([{"from": eth0("a"), "to": eth0("b"), "count": lost.to_string()}])
        } else {
            json!([])
        };
        json!({"source": ends[0], "destination": ends[1], "protocol": protocol, "losses": losses,
            "totals": {"segments": sent.to_string(), "delivered": (sent - lost).to_string(), "lost": lost.to_string()}})
    }

    fn translated(mut path: Value) -> Value {
        path["translations"] = json!([{"source": "10.0.1.2:5", "destination": "10.0.2.9:6", "node": "a"}]);
        path
    }

    fn right_report() -> Value {
        json!({"verdict": "LOST",
            "totals": {"segments": "38", "delivered": "32", "lost": "6"},
            "nodes": [{"node": "a", "state": "COMPLETED", "clockOffsetNanos": "-7", "clockErrorNanos": "9"}],
            "paths": [
                translated(path("udp", ["10.0.1.2:5", "10.0.2.2:6"], 20, 5)),
                path("tcp", ["10.0.1.2:9", "10.0.2.2:6"], 8, 1),
                path("udp", ["10.0.3.2:7", "10.0.1.2:8"], 10, 0)]})
    }

    fn judge(report: Value, exit_code: i32) -> Finding {
        check(&truth(), &serde_json::from_value(report).expect("report"), exit_code)
    }

    #[test]
    fn the_right_report_passes() {
        let finding = judge(right_report(), 1);
        assert_eq!(finding.differences, Vec::<String>::new());
        assert_eq!((finding.correct(&truth()), finding.false_losses(&truth())), (6, 0));
        assert_eq!((finding.found, finding.hop_right), (truth().to_string(), Some(true)));
    }

    #[test]
    fn every_wrong_report_is_noticed() {
        let wrong: [(&str, &str, Value); 10] = [
            ("verdict", "/verdict", json!("DELIVERED")),
            ("partial", "/partial", json!(true)),
            ("node state", "/nodes/0/state", json!("FAILED")),
            ("one segment too few", "/paths/1/losses/0/count", json!("0")),
            ("another leg", "/paths/0/losses/0/to/node", json!("c")),
            ("unknown next point", "/paths/0/losses/0/to", Value::Null),
            ("the wrong path", "/paths/0/destination", json!("10.0.3.2:6")),
            ("states that do not add up", "/paths/1/totals/delivered", json!("6")),
            ("another translator", "/paths/0/translations/0/node", json!("b")),
            ("a datagram that was not seen", "/paths/2/totals/segments", json!("9")),
        ];
        for (what, pointer, value) in wrong {
            let mut report = right_report();
            if pointer == "/partial" {
                report["partial"] = value;
            } else {
                *report.pointer_mut(pointer).expect(pointer) = value;
            }
            assert!(!judge(report, 1).differences.is_empty(), "{what} went unnoticed");
        }
        assert!(!judge(right_report(), 0).differences.is_empty(), "the exit code went unnoticed");
    }

    #[test]
    fn loss_on_the_third_node_is_false() {
        let mut report = right_report();
        report["paths"][2] = path("udp", ["10.0.3.2:7", "10.0.1.2:8"], 10, 2);
        report["totals"] = json!({"segments": "38", "delivered": "30", "lost": "8"});
        let finding = judge(report, 1);
        assert_eq!((finding.correct(&truth()), finding.false_losses(&truth())), (6, 2));
        assert!(finding.differences.iter().any(|difference| difference.starts_with("false loss")));
    }
}
