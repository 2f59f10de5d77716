//! Whether a report accounts for every datagram that the generators sent.

use std::net::SocketAddr;

use super::file::Verdict;
use super::finding::Finding;
use super::report::{Report, Totals};
use super::truth::{Stream, Truth};

/// The stream into the fault or its flows, the third node's, and those beside them.
pub(super) fn check(truth: &Truth, report: &Report, finding: &mut Finding) {
    if truth.faulty.flows.is_empty() {
        check_stream(&truth.faulty, truth, report, finding);
    } else {
        check_flows(truth, report, finding);
    }
    check_stream(&truth.clean, truth, report, finding);
    for other in &truth.others {
        check_stream(other, truth, report, finding);
    }
    check_unseen(truth, report, finding);
}

/// Many flows: what each lost, and all of them in the totals, because not every path is listed. Nothing but datagrams
/// is captured.
fn check_flows(truth: &Truth, report: &Report, finding: &mut Finding) {
    for (port, lost) in &truth.faulty.flows {
        let source = SocketAddr::new(truth.faulty.source.ip(), *port);
        let flow = Stream { source, ..truth.faulty.clone() };
        let found = flow.path(report).map_or(0, |path| path.totals.lost);
        if found != *lost {
            finding.differ(format!("flow from {source}: lost {found}, ground truth {lost}"));
        }
    }
    let (sent, lost) = (truth.faulty.sent + truth.clean.sent, truth.faulty.lost + truth.clean.lost);
    let expected = Totals { segments: sent, delivered: sent - lost, lost, ..Totals::default() };
    if report.totals != expected {
        finding.differ(format!("totals are {:?}, ground truth {expected:?}", report.totals));
    }
    let paths = report.paths.len() as u64 + report.omitted_paths;
    if paths != truth.faulty.flows.len() as u64 + 1 {
        finding.differ(format!("{paths} paths, but {} flows and one more", truth.faulty.flows.len()));
    }
}

/// Every datagram sent must be in the report, in the state the generators know.
fn check_stream(stream: &Stream, truth: &Truth, report: &Report, finding: &mut Finding) {
    let Some(path) = stream.path(report) else {
        return finding.differ(format!("no path udp {} → {}", stream.source, stream.destination));
    };
    let Totals { segments, delivered, lost, not_observable, .. } = path.totals;
    let blind_allowed =
        truth.verdict == Verdict::Inconclusive || truth.is_hidden || truth.unseen_percent.is_some();
    let unseen = if blind_allowed { not_observable } else { 0 };
    let arrived = stream.sent - stream.lost;
    let is_right = segments == stream.sent
        && (lost..=lost + unseen).contains(&stream.lost)
        && (delivered..=delivered + unseen).contains(&arrived)
        && segments == delivered + lost + unseen;
    if !is_right {
        finding.differ(format!(
            "{}: sent {} lost {}, reported {:?}",
            path.name(),
            stream.sent,
            stream.lost,
            path.totals
        ));
    }
}

fn check_unseen(truth: &Truth, report: &Report, finding: &mut Finding) {
    let Some(([least, most], path)) = truth.unseen_percent.zip(truth.faulty.path(report)) else { return };
    let percent = 100.0 * path.totals.not_observable as f64 / truth.faulty.sent as f64;
    if !(least..=most).contains(&percent) {
        finding.differ(format!("{percent:.1} % not observable, expected {least} % to {most} %"));
    }
}
