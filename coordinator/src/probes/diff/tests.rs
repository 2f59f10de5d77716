use super::*;
use v1::ProbeOutcome as Outcome;

/// Attempts with these outcomes, each answered after so many milliseconds.
fn result(target: &str, outcomes: &[Outcome], millis: u64) -> v1::ProbeResult {
    let attempt = |outcome: &Outcome| v1::ProbeAttempt {
        outcome: (*outcome).into(),
        delay_nanos: (*outcome == Outcome::ProbeAnswered).then_some(millis * 1_000_000),
        ..Default::default()
    };
    v1::ProbeResult {
        target: target.into(),
        attempts: outcomes.iter().map(attempt).collect(),
        ..Default::default()
    }
}

fn answered(millis: u64) -> v1::ProbeResult {
    result("t", &[Outcome::ProbeAnswered; 5], millis)
}

/// A probe whose sources `a`, `b`, … found these.
fn probe(found: Vec<Option<v1::ProbeResult>>) -> v1::Probe {
    let names = ["a", "b", "c", "d", "e"];
    let source = |node: &str| Some(v1::ProbeSource { node: node.into(), netns: String::new() });
    let parts = names.iter().zip(&found).map(|(node, result)| v1::ProbePart {
        source: source(node),
        reason: if result.is_some() { String::new() } else { "its agent was not there".into() },
        ..Default::default()
    });
    let parts: Vec<_> = parts.collect();
    let reports = names.iter().zip(found).filter_map(|(node, result)| {
        Some(v1::ProbeReport { source: source(node), results: vec![result?], ..Default::default() })
    });
    v1::Probe { id: "p-1".into(), parts, reports: reports.collect(), ..Default::default() }
}

/// Verdict, and by source what it found and the others did.
fn told(found: Vec<Option<v1::ProbeResult>>) -> (Verdict, Vec<(String, String, String)>) {
    let diff = diff(&probe(found));
    let line =
        |one: &v1::ProbeDifference| (one.source.clone().unwrap().node, one.found.clone(), one.others.clone());
    (diff.verdict(), diff.differences.iter().map(line).collect())
}

fn line(source: &str, found: &str, others: &str) -> (String, String, String) {
    (source.into(), found.into(), others.into())
}

#[test]
fn who_finds_something_else_than_most_differs() {
    let silent = || result("t", &[Outcome::ProbeSilent; 5], 0);
    let alike = told(vec![Some(answered(1)), Some(answered(1)), Some(answered(2))]);
    assert_eq!(alike, (Verdict::Alike, vec![]));
    let one = told(vec![Some(answered(1)), Some(silent()), Some(answered(1))]);
    assert_eq!(one, (Verdict::Different, vec![line("b", "no answer", "all answered")]));
    let halves = told(vec![Some(answered(1)), Some(silent())]);
    let both = vec![line("a", "all answered", ""), line("b", "no answer", "")];
    assert_eq!(halves, (Verdict::Different, both), "which of two is wrong nobody knows");
    let mut lossy = [Outcome::ProbeAnswered; 5];
    lossy[3] = Outcome::ProbeSilent;
    let some = told(vec![Some(answered(1)), Some(answered(1)), Some(result("t", &lossy, 1))]);
    assert_eq!(some.1, [line("c", "some lost", "all answered")]);
}

#[test]
fn a_slow_source_is_slow_beside_the_others_and_their_spread() {
    let of = |delays: &[u64]| told(delays.iter().map(|delay| Some(answered(*delay))).collect());
    assert_eq!(of(&[1, 1, 2, 30]).1, [line("d", "30.000 ms", "2.000 ms")]);
    assert_eq!(of(&[1, 1, 30]).0, Verdict::Alike, "of three nobody knows what is usual");
    assert_eq!(of(&[10, 20, 15, 30]).0, Verdict::Alike, "they are far apart");
}

#[test]
fn findings_are_compared_beside_outcomes() {
    let names = |records: &[&str]| {
        let dns = v1::DnsFinding {
            code: "NOERROR".into(),
            records: records.iter().map(ToString::to_string).collect(),
            ..Default::default()
        };
        Some(v1::ProbeResult { finding: Some(Finding::Dns(dns)), ..answered(1) })
    };
    let (verdict, lines) =
        told(vec![names(&["10.0.0.1", "10.0.0.2"]), names(&["10.0.0.2", "10.0.0.1"]), names(&["10.0.0.9"])]);
    assert_eq!(verdict, Verdict::Different);
    assert_eq!(lines, [line("c", "NOERROR 10.0.0.9", "NOERROR 10.0.0.1, 10.0.0.2")]);
}

#[test]
fn what_was_not_compared_is_said_and_leaves_it_open() {
    let absent = diff(&probe(vec![Some(answered(1)), Some(answered(1)), None]));
    assert_eq!(absent.verdict(), Verdict::Inconclusive);
    assert_eq!(absent.notes, ["c is not compared: its agent was not there"]);
    let alone = diff(&probe(vec![Some(answered(1))]));
    assert_eq!((alone.verdict(), alone.targets), (Verdict::Inconclusive, 0));
}

#[test]
fn settings_are_compared_row_by_row_and_counters_are_not() {
    let settings = |rows: &[(&str, &str)]| {
        let row = |(setting, value): &(&str, &str)| v1::TableRow {
            cells: vec![(*setting).into(), (*value).into()],
        };
        let table = v1::TableFinding {
            table: v1::NodeTable::TableSettings.into(),
            rows: rows.iter().map(row).collect(),
            ..Default::default()
        };
        Some(v1::ProbeResult { finding: Some(Finding::Table(table)), ..answered(1) })
    };
    let usual = || settings(&[("ip_forward", "1"), ("nf_conntrack_count", "7"), ("only.here", "3")]);
    let own = settings(&[("ip_forward", "0"), ("nf_conntrack_count", "9")]);
    let diff = diff(&probe(vec![usual(), own, usual()]));
    let found: Vec<_> =
        diff.differences.iter().map(|one| (one.target.as_str(), one.found.as_str())).collect();
    assert_eq!(found, [("ip_forward", "0")]);
}
