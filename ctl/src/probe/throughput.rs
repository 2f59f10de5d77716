//! How much was sent and how much came, in a line for each run.

use std::collections::BTreeMap;

use lastseen_proto::probed::{Summary, words};
use lastseen_proto::v1;
use lastseen_proto::v1::probe_result::Finding;
use lastseen_proto::v1::{ThroughputProtocol as Protocol, ThroughputRole as Role};

use super::source;
use crate::output::table::Table;
use crate::output::units;

/// `throughput, udp at 10.00 Mbit/s for 5s`.
pub(super) fn kind(asked: &v1::ThroughputProbe) -> String {
    let protocol = if asked.protocol() == Protocol::ThroughputUdp { "udp" } else { "tcp" };
    let rate = asked.bits_per_second.map_or_else(String::new, |bits| format!(" at {}", units::rate(bits)));
    format!("throughput, {protocol}{rate} for {}", units::span(asked.duration.as_ref()))
}

/// The table; of one run, if all is wanted, also second by second.
pub(super) fn text(probe: &v1::Probe, is_wide: bool) -> String {
    let is_scheduled = probe.spec.as_ref().is_some_and(|spec| spec.every.is_some());
    let mut headers = vec!["FROM", "TO", ">SENT", ">RECEIVED", ">LOST", ">JITTER", ">RETRANSMITS", ">RTT"];
    if is_scheduled {
        headers.insert(0, ">RUN");
    }
    headers.extend(if is_wide { &[">BYTES SENT", ">BYTES RECEIVED"][..] } else { &[] });
    headers.push("RESULT");
    let mut table = Table::new(&headers);
    let runs = runs(probe);
    for (run, ends) in runs.iter().rev() {
        let mut cells = ends.cells(probe, is_wide);
        if is_scheduled {
            cells.insert(0, run.to_string());
        }
        table.row(cells);
    }
    let seconds = runs.values().next_back().filter(|_| is_wide).map(Ends::seconds).unwrap_or_default();
    if seconds.is_empty() { table.text() } else { format!("{}\n{seconds}", table.text()) }
}

/// What both ends said of one run.
#[derive(Default)]
struct Ends<'a> {
    sender: Option<&'a v1::ProbeResult>,
    receiver: Option<&'a v1::ProbeResult>,
}

fn runs(probe: &v1::Probe) -> BTreeMap<u64, Ends<'_>> {
    let to = receiver(probe);
    let mut runs: BTreeMap<u64, Ends<'_>> = BTreeMap::new();
    for report in &probe.reports {
        let ends = runs.entry(report.run).or_default();
        // One that has no finding tells its end by its source.
        let end = if report.source.as_ref() == to { &mut ends.receiver } else { &mut ends.sender };
        *end = report.results.first();
    }
    runs
}

fn receiver(probe: &v1::Probe) -> Option<&v1::ProbeSource> {
    match &probe.spec.as_ref()?.kind {
        Some(v1::probe_spec::Kind::Throughput(asked)) => asked.to.as_ref(),
        _ => None,
    }
}

fn finding(result: Option<&v1::ProbeResult>) -> Option<&v1::ThroughputFinding> {
    match result?.finding.as_ref()? {
        Finding::Throughput(finding) => Some(finding),
        _ => None,
    }
}

impl Ends<'_> {
    fn cells(&self, probe: &v1::Probe, is_wide: bool) -> Vec<String> {
        let (sent, came) = (finding(self.sender), finding(self.receiver));
        let rate = |end: Option<&v1::ThroughputFinding>| {
            end.filter(|end| end.bytes > 0).map_or_else(String::new, |end| units::rate(end.bits_per_second))
        };
        let delay = |nanos: Option<u64>| nanos.map_or_else(String::new, |nanos| units::delay(nanos as i64));
        // Where the receiver did not hear the end, the sender's own count says what it lacks.
        let is_udp = came.is_some_and(|came| came.packets > 0);
        let missing = |came: &v1::ThroughputFinding| {
            came.lost.or_else(|| Some(sent.filter(|_| is_udp)?.packets.saturating_sub(came.packets)))
        };
        let lost = came.and_then(|came| Some((missing(came)?, came.packets)));
        let lost = lost.filter(|(lost, came)| lost + came > 0);
        let lost = lost.map(|(lost, came)| units::percent(lost as f64 / (lost + came) as f64));
        let retransmits = sent.and_then(|sent| sent.retransmits).map(units::count);
        let to = receiver(probe);
        let from = probe.parts.iter().map(|part| part.source.as_ref()).find(|source| *source != to);
        let mut cells = vec![
            source(from.flatten()),
            source(to),
            rate(sent),
            rate(came),
            lost.unwrap_or_default(),
            delay(came.and_then(|came| came.jitter_nanos)),
            retransmits.unwrap_or_default(),
            delay(sent.and_then(|sent| sent.rtt_nanos)),
        ];
        if is_wide {
            cells.extend([sent, came].map(|end| end.map_or_else(String::new, |end| units::count(end.bytes))));
        }
        cells.push(self.words(probe));
        cells
    }

    /// What no number says.
    fn words(&self, probe: &v1::Probe) -> String {
        let mut all = Vec::new();
        for (end, name) in [(self.sender, "sender"), (self.receiver, "receiver")] {
            let Some(result) = end else { continue };
            let attempt = result.attempts.first();
            let is_well = attempt.is_some_and(|attempt| attempt.outcome() == v1::ProbeOutcome::ProbeAnswered);
            let said = words(probe.spec.as_ref(), result, &Summary::of(result));
            match attempt {
                Some(attempt) if is_well && !attempt.detail.is_empty() => {
                    all.push(format!("{name}: {}", attempt.detail));
                }
                _ if !is_well => all.push(format!("{name}: {said}")),
                _ => {}
            }
        }
        all.extend(finding(self.receiver).into_iter().flat_map(beyond));
        all.join("; ")
    }

    /// Second by second.
    fn seconds(&self) -> String {
        let intervals = |end| finding(end).map(|end| end.intervals.clone()).unwrap_or_default();
        let ends = [intervals(self.sender), intervals(self.receiver)];
        let count = ends.iter().map(Vec::len).max().unwrap_or_default();
        if count == 0 {
            return String::new();
        }
        let mut table = Table::new(&[">SECOND", ">SENT", ">RECEIVED"]);
        for second in 0..count {
            let [sent, came] = [&ends[0], &ends[1]].map(|end| {
                end.get(second).map_or_else(String::new, |interval| units::rate(interval.bytes * 8))
            });
            table.row([(second + 1).to_string(), sent, came]);
        }
        table.text()
    }
}

/// Of a receiver.
fn beyond(seen: &v1::ThroughputFinding) -> Vec<String> {
    let some = |count: u64, words: &str| (count > 0).then(|| format!("{} {words}", units::count(count)));
    let of = |count: Option<u64>, words: &str| some(count.unwrap_or_default(), words);
    [
        of(seen.reordered, "out of order"),
        of(seen.duplicates, "came twice"),
        of(seen.overflowed, "lost at the receiver's socket: that host is too slow, not the network"),
        some(seen.strangers, "of others or without the token, ignored")
            .filter(|_| seen.role() == Role::ThroughputReceiver),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(node: &str) -> v1::ProbeSource {
        v1::ProbeSource { node: node.into(), netns: String::new() }
    }

    fn attempt(outcome: v1::ProbeOutcome, detail: &str) -> Vec<v1::ProbeAttempt> {
        vec![v1::ProbeAttempt { outcome: outcome.into(), detail: detail.into(), ..Default::default() }]
    }

    fn probe(ends: [(Vec<v1::ProbeAttempt>, v1::ThroughputFinding); 2]) -> v1::Probe {
        let asked = v1::ThroughputProbe {
            protocol: Protocol::ThroughputUdp.into(),
            bits_per_second: Some(10_000_000),
            duration: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
            to: Some(source("b")),
            ..Default::default()
        };
        let report = |(node, (attempts, finding)): (&str, (Vec<v1::ProbeAttempt>, v1::ThroughputFinding))| {
            let finding = Some(Finding::Throughput(finding));
            let result = v1::ProbeResult { attempts, finding, ..Default::default() };
            v1::ProbeReport { source: Some(source(node)), results: vec![result], ..Default::default() }
        };
        let part = |node: &str| v1::ProbePart { source: Some(source(node)), ..Default::default() };
        v1::Probe {
            spec: Some(v1::ProbeSpec {
                kind: Some(v1::probe_spec::Kind::Throughput(asked)),
                ..Default::default()
            }),
            parts: ["a", "b"].map(part).to_vec(),
            reports: ["a", "b"].into_iter().zip(ends).map(report).collect(),
            ..Default::default()
        }
    }

    fn finding(role: Role, bits_per_second: u64) -> v1::ThroughputFinding {
        let bytes = bits_per_second / 8;
        let intervals = vec![v1::throughput_finding::Interval { bytes, packets: 9 }];
        v1::ThroughputFinding { role: role.into(), bytes, bits_per_second, intervals, ..Default::default() }
    }

    #[test]
    fn both_ends_make_one_line() {
        let sent =
            v1::ThroughputFinding { rtt_nanos: Some(300_000), ..finding(Role::ThroughputSender, 10_000_000) };
        let came = v1::ThroughputFinding {
            packets: 95,
            lost: Some(5),
            jitter_nanos: Some(40_000),
            reordered: Some(2),
            overflowed: Some(1),
            strangers: 3,
            ..finding(Role::ThroughputReceiver, 9_500_000)
        };
        let well = || attempt(v1::ProbeOutcome::ProbeAnswered, "");
        let probe = probe([(well(), sent), (well(), came)]);
        assert_eq!(
            super::super::kind(probe.spec.as_ref().unwrap()),
            "throughput, udp at 10.00 Mbit/s for 5s"
        );
        assert_eq!(
            text(&probe, false),
            "FROM   TO           SENT      RECEIVED    LOST   JITTER   RETRANSMITS      RTT   RESULT\n\
             a      b    10.00 Mbit/s   9.50 Mbit/s   5.0 %    40 µs             -   300 µs   2 out of order; \
             1 lost at the receiver's socket: that host is too slow, not the network; \
             3 of others or without the token, ignored\n"
        );
        let wide = text(&probe, true);
        assert!(
            wide.contains("SECOND           SENT      RECEIVED\n     1   10.00 Mbit/s   9.50 Mbit/s\n"),
            "{wide}"
        );
    }

    #[test]
    fn what_never_came_is_told_by_both_ends() {
        let refused = attempt(v1::ProbeOutcome::ProbeRefused, "port unreachable");
        let silent = attempt(v1::ProbeOutcome::ProbeSilent, "nothing arrived from 10.0.0.1");
        let nothing = |role: Role| v1::ThroughputFinding { role: role.into(), ..Default::default() };
        let shown = text(
            &probe([(refused, nothing(Role::ThroughputSender)), (silent, nothing(Role::ThroughputReceiver))]),
            false,
        );
        assert!(
            shown.ends_with(
                "sender: refused: port unreachable; receiver: no answer: nothing arrived from 10.0.0.1\n"
            ),
            "{shown}"
        );
    }
}
