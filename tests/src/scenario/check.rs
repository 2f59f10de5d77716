//! Holds a report against the ground truth.

use super::finding::Finding;
use super::report::{NodeReport, Report, Totals};
use super::truth::{LegLoss, Truth};
use super::{blame, delay, route, sample, streams};

/// Compares `report` with `truth`.
pub fn check(truth: &Truth, report: &Report, exit_code: i32) -> Finding {
    let by_leg = vec![0; truth.losses.len()];
    let segments = report.totals.segments;
    let mut finding = Finding { found: blame::describe(report), by_leg, segments, ..Finding::default() };
    blame::attribute(truth, report, &mut finding);
    finding.hop_right = truth.losses.first().map(|LegLoss { from, to, .. }| {
        blame::legs(report).first().is_some_and(|(top, _)| *top == format!("{from} → {to}"))
    });
    check_verdict(truth, report, exit_code, &mut finding);
    check_losses(truth, &mut finding);
    check_clocks(truth, report, &mut finding);
    check_sums(report, &mut finding);
    streams::check(truth, report, &mut finding);
    check_translations(truth, report, &mut finding);
    finding.differences.extend(route::check(truth, report));
    finding.differences.extend(sample::check(truth, report));
    finding.differences.extend(delay::check(truth, report));
    finding
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
    for (at, LegLoss { from, to, count, .. }) in truth.losses.iter().enumerate() {
        let found = finding.by_leg[at];
        if found != *count {
            finding.differ(format!("lost {found} on {from} → {to}, ground truth {count}"));
        }
    }
}

/// No clock may be further off than is stated.
fn check_clocks(truth: &Truth, report: &Report, finding: &mut Finding) {
    for node in &report.nodes {
        let offset = truth.clock_error(node).saturating_abs();
        finding.clock_error_nanos = finding.clock_error_nanos.max(offset);
        // An agent that did not run was never measured.
        let is_unmeasured = node.clock_offset_nanos.is_none() && truth.killed.as_ref() == Some(&node.node);
        if !is_unmeasured && node.clock_error_nanos.is_none_or(|error| offset > error) {
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
            finding.differ(format!("{}: states do not add up: {:?}", path.name(), path.totals));
        }
        let by_leg: u64 = path.losses.iter().map(|loss| loss.count).sum();
        if by_leg != path.totals.lost {
            finding.differ(format!("{}: legs lose {by_leg}, the path {}", path.name(), path.totals.lost));
        }
    }
    if sum != report.totals && report.omitted_paths == 0 {
        finding.differ(format!("paths add up to {sum:?}, totals say {:?}", report.totals));
    }
}

fn check_translations(truth: &Truth, report: &Report, finding: &mut Finding) {
    let Some(path) = truth.faulty.path(report) else { return };
    let named: Vec<_> = path.translations.iter().map(|one| one.node.as_deref().unwrap_or("?")).collect();
    if named != truth.translators {
        finding.differ(format!(
            "{}: translated by {named:?}, in truth by {:?}",
            path.name(),
            truth.translators
        ));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Finding, check};
    use crate::scenario::file::Verdict;
    use crate::scenario::legs::Roles;
    use crate::scenario::report::PointName;
    use crate::scenario::truth::{LegLoss, Stream, Truth};

    fn stream(source: &str, destination: &str, sent: u64, lost: u64) -> Stream {
        let parse = |text: &str| text.parse().expect("address");
        Stream {
            source: parse(source),
            destination: parse(destination),
            sent,
            lost,
            flows: Vec::new(),
            crossing: None,
        }
    }

    fn point(node: &str) -> PointName {
        PointName { node: node.to_owned(), interface: "eth0".to_owned() }
    }

    /// Five datagrams and one TCP segment lost between two nodes.
    fn truth() -> Truth {
        Truth {
            verdict: Verdict::Lost,
            killed: None,
            clock_ahead: None,
            unseen_percent: None,
            is_hidden: false,
            delay_millis: None,
            losses: vec![LegLoss { from: point("a"), to: point("b"), count: 6, is_answer: false, unseen: 0 }],
            faulty: stream("10.0.1.2:5", "10.0.2.2:6", 20, 5),
            translators: vec!["a".to_owned()],
            clean: stream("10.0.3.2:7", "10.0.1.2:8", 10, 0),
            oracles: Vec::new(),
            roles: Roles::default(),
            others: Vec::new(),
            routes: [None, None],
            sampled: None,
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

    #[test]
    fn losses_on_the_way_back_are_looked_for_there() {
        let mut truth = truth();
        truth.faulty.lost = 0;
        truth.losses[0] = LegLoss { count: 2, is_answer: true, ..truth.losses[0].clone() };
        let mut report = right_report();
        report["paths"][0] = translated(path("udp", ["10.0.1.2:5", "10.0.2.2:6"], 20, 0));
        report["paths"][1] = path("tcp", ["10.0.2.2:6", "10.0.1.2:9"], 8, 2);
        report["totals"] = json!({"segments": "38", "delivered": "36", "lost": "2"});
        let judge =
            |report: &Value| check(&truth, &serde_json::from_value(report.clone()).expect("report"), 1);
        assert_eq!(judge(&report).differences, Vec::<String>::new());
        report["paths"][1]["source"] = json!("10.0.1.2:9");
        report["paths"][1]["destination"] = json!("10.0.2.2:6");
        assert_eq!(judge(&report).false_losses(&truth), 2);
    }

    #[test]
    fn a_clock_that_was_put_off_must_be_found_off() {
        let truth = Truth { clock_ahead: Some(("a".to_owned(), 500_000_000)), ..truth() };
        let judge = |offset: &str| {
            let mut report = right_report();
            report["nodes"][0]["clockOffsetNanos"] = json!(offset);
            check(&truth, &serde_json::from_value(report).expect("report"), 1)
        };
        let finding = judge("500000008");
        assert_eq!((finding.clock_error_nanos, finding.differences), (8, Vec::new()));
        assert!(!judge("-7").differences.is_empty());
    }

    #[test]
    fn a_delay_beyond_its_error_is_noticed() {
        let truth = Truth { delay_millis: Some([40, 70]), ..truth() };
        let judge = |median: &str| {
            let mut report = right_report();
            let b = json!({"node": "b", "state": "COMPLETED", "clockOffsetNanos": "0", "clockErrorNanos": "1000000"});
            report["nodes"].as_array_mut().expect("nodes").push(b);
            let hop = |node: &str| {
                json!({"node": node, "interface": "eth0", "seen": "15",
                "delayP50Nanos": median, "delayP99Nanos": "90000000"})
            };
            report["paths"][0]["hops"] = json!([hop("a"), hop("b")]);
            check(&truth, &serde_json::from_value(report).expect("report"), 1).differences
        };
        assert_eq!([judge("39500000"), judge("71000000")], [const { Vec::<String>::new() }; 2]);
        assert_eq!(["38000000", "72000000", "95000000"].map(|median| judge(median).len()), [1, 1, 1]);
    }

    #[test]
    fn what_no_point_could_miss_is_not_observable_and_no_more_than_said() {
        let mut truth = Truth { unseen_percent: Some([10.0, 30.0]), ..truth() };
        let report = |unseen: u64, lost: u64| {
            let mut report = right_report();
            report["paths"][0] = translated(path("udp", ["10.0.1.2:5", "10.0.2.2:6"], 20, lost));
            let delivered = 20 - lost - unseen;
            report["paths"][0]["totals"] = json!({"segments": "20", "lost": lost.to_string(),
                "delivered": delivered.to_string(), "notObservable": unseen.to_string()});
            report["paths"][1] = path("tcp", ["10.0.1.2:9", "10.0.2.2:6"], 8, 0);
            report["totals"] = json!({"segments": "38", "delivered": (delivered + 18).to_string(),
                "lost": lost.to_string(), "notObservable": unseen.to_string()});
            serde_json::from_value(report).expect("report")
        };
        truth.losses[0].count = 5;
        let judge = |unseen, lost| {
            let (mut truth, report) = (truth.clone(), report(unseen, lost));
            truth.cut(&report);
            (truth.unseen(), check(&truth, &report, 1).differences)
        };
        assert_eq!([judge(2, 5), judge(4, 2)], [(0, vec![]), (3, vec![])]);
        assert!(!judge(2, 6).1.is_empty(), "a false loss");
        assert!(!judge(2, 2).1.is_empty(), "one loss is neither seen nor unseen");
        assert!(!judge(1, 5).1.is_empty() && !judge(8, 5).1.is_empty(), "the share");
    }
}
