//! The report against what was written.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::carriage;
use super::case::{Carriage, Case, NODES, Service};
use super::cast::Cast;
use super::traffic::{Packet, Traffic};
use crate::scenario::report::{PointName, Report};
use crate::scenario::results::ScenarioResult;

/// Losses of one path on one leg: protocol and ends, leg, count.
type Lost = (String, String, u64);

/// Runs `diff-files` and compares.
pub(super) fn judge(
    ctl: &Path,
    case: &Case,
    cast: &Cast,
    traffic: &Traffic,
    arguments: &[String],
    seed: u64,
) -> Result<ScenarioResult> {
    let output = Command::new(ctl).arg("diff-files").args(arguments).args(["-o", "json"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report: Report = serde_json::from_str(&text)
        .with_context(|| format!("diff-files: {}", String::from_utf8_lossy(&output.stderr)))?;
    let expected = expected(case, cast, traffic);
    let found = found(&report);
    let code = output.status.code().unwrap_or(-1);
    let differences = differences(case, (&expected, traffic), (&report, &found, code));
    let count = |losses: &[Lost]| losses.iter().map(|loss| loss.2).sum::<u64>();
    let is_right = |loss: &&Lost| expected.iter().any(|one| (&one.0, &one.1) == (&loss.0, &loss.1));
    let right: u64 = found.iter().filter(is_right).map(|loss| loss.2).sum();
    let correct = expected.iter().map(|one| found_of(&found, one).min(one.2)).sum::<u64>();
    Ok(ScenarioResult {
        name: case.name(),
        seed,
        expected: describe(&expected),
        found: describe(&found),
        lost_expected: count(&expected),
        lost_found: right,
        lost_correct: correct,
        false_losses: count(&found) - correct,
        hop_right: (!expected.is_empty()).then(|| legs(&expected) == legs(&found)),
        clock_error_nanos: clock_error(cast, &report),
        passed: differences.is_empty(),
        skipped: false,
        differences,
    })
}

/// What must be in the report, sorted.
fn expected(case: &Case, cast: &Cast, traffic: &Traffic) -> Vec<Lost> {
    let Some(after) = case.lost_after else { return Vec::new() };
    let points = case.points().map(|(node, interface)| format!("{} {interface}", NODES[node]));
    let is_opaque = case.carriage == Carriage::WireGuard;
    let is_inside = |at: usize| !(is_opaque && (2..=3).contains(&at));
    let last_inside = (0..=after).rev().find(|at| is_inside(*at)).unwrap_or(0);
    let next_inside = (after + 1..6).find(|at| is_inside(*at)).unwrap_or(5);
    let leg = format!("{} → {}", points[last_inside], points[next_inside]);
    let mut lost = Vec::new();
    for protocol in ["tcp", "udp"] {
        let count = traffic.lost(protocol);
        let of_protocol = |packet: &&Packet| packet.protocol() == protocol;
        if let (Some(first), 1..) = (traffic.packets.iter().find(of_protocol), count) {
            let ((source, port), (destination, other)) = carriage::tuple(case, cast, first, 0);
            let path = format!("{protocol} {source}:{port} → {destination}:{other}");
            lost.push((path, leg.clone(), count));
        }
    }
    if is_opaque && after == 2 {
        let total = lost.iter().map(|loss| loss.2).sum();
        let [here, there] = cast.underlay;
        let path = format!("udp {here}:51820 → {there}:51820");
        lost.push((path, format!("{} → {}", points[2], points[3]), total));
    }
    lost.sort();
    lost
}

fn found(report: &Report) -> Vec<Lost> {
    let mut found = Vec::new();
    for path in &report.paths {
        let name = format!("{} {} → {}", path.protocol, path.source, path.destination);
        for loss in &path.losses {
            let of = |point: &PointName| format!("{} {}", point.node, point.interface);
            let to = loss.to.as_ref().map_or_else(|| "?".to_owned(), of);
            found.push((name.clone(), format!("{} → {to}", of(&loss.from)), loss.count));
        }
    }
    found.sort();
    found
}

fn found_of(found: &[Lost], expected: &Lost) -> u64 {
    let same = found.iter().filter(|loss| (&loss.0, &loss.1) == (&expected.0, &expected.1));
    same.map(|loss| loss.2).sum()
}

fn differences(
    case: &Case,
    (expected, traffic): (&[Lost], &Traffic),
    (report, found, code): (&Report, &[Lost], i32),
) -> Vec<String> {
    let mut differences = Vec::new();
    let (verdict, right) = if expected.is_empty() { ("DELIVERED", 0) } else { ("LOST", 1) };
    if (report.verdict.as_str(), code) != (verdict, right) {
        differences
            .push(format!("{} with exit code {code}, expected {verdict} with {right}", report.verdict));
    }
    if case.lost_after.is_some() && !traffic.packets.iter().any(|packet| packet.is_lost) {
        differences.push("no packet was taken out".to_owned());
    }
    if found != expected {
        differences.push(format!("lost {found:?}, in truth {expected:?}"));
    }
    let totals = report.totals;
    let unsure = totals.not_observable + totals.ambiguous + totals.in_flight + totals.transformed;
    if totals.sum() != totals.segments || unsure != 0 {
        differences.push(format!("not every segment was judged: {totals:?}"));
    }
    differences.extend(translations(case, report));
    differences
}

/// Every path of the service, and no other, names who translated.
fn translations(case: &Case, report: &Report) -> Vec<String> {
    let wanted: &[&str] = if case.service == Service::None { &[] } else { &["a"] };
    let mut wrong = Vec::new();
    for path in report.paths.iter().filter(|path| path.protocol != "icmp") {
        let by: Vec<_> = path.translations.iter().map(|one| one.node.as_deref().unwrap_or("?")).collect();
        if by != wanted {
            let name = format!("{} {} → {}", path.protocol, path.source, path.destination);
            wrong.push(format!("{name}: translated by {by:?}, in truth by {wanted:?}"));
        }
    }
    wrong
}

/// How far off the stated difference of the clocks is.
fn clock_error(cast: &Cast, report: &Report) -> i64 {
    let node = |name: &str| report.nodes.iter().find(|node| node.node == name)?.clock_offset_nanos;
    let [a, b] = NODES.map(|name| node(name).unwrap_or(0));
    (b - a - cast.ahead_nanos).abs()
}

fn legs(losses: &[Lost]) -> Vec<&str> {
    let mut legs: Vec<&str> = losses.iter().map(|loss| loss.1.as_str()).collect();
    legs.sort_unstable();
    legs.dedup();
    legs
}

fn describe(losses: &[Lost]) -> String {
    if losses.is_empty() { "DELIVERED".to_owned() } else { format!("LOST {}", legs(losses).join(", ")) }
}
