//! Who reaches whom: a matrix of few, the worst pairs of many, and the nodes that the losses point at.

mod matrix;
mod nodes;
mod pairs;

use std::collections::{BTreeMap, BTreeSet};

use lastseen_proto::probed::{Summary, words};
use lastseen_proto::v1;
use lastseen_proto::v1::ProbeOutcome as Outcome;
use lastseen_proto::v1::probe_spec::Kind;

use super::{source, spec_kind, spec_mesh};
use crate::output::units;

/// Beyond so many sources a matrix is no longer read.
const MATRIX: usize = 12;

/// Each run, the newest first.
pub(super) fn text(probe: &v1::Probe, is_wide: bool) -> String {
    let is_scheduled = probe.spec.as_ref().is_some_and(|spec| spec.every.is_some());
    let runs: BTreeSet<u64> = probe.reports.iter().map(|report| report.run).collect();
    let block = |run: &u64| {
        let title = if is_scheduled { format!("run {run}\n") } else { String::new() };
        format!("{title}{}", Run::of(probe, *run).text(is_wide))
    };
    runs.iter().rev().map(block).collect::<Vec<_>>().join("\n")
}

/// What one source found at another.
struct Pair {
    from: usize,
    to: usize,
    summary: Summary,
    /// Attempts to which the other said something: that it does not listen there, too.
    reached: u64,
    words: String,
    is_tcp: bool,
}

impl Pair {
    fn is_losing(&self) -> bool {
        self.reached < self.summary.sent || self.summary.sent == 0
    }

    /// Share that did not come through; all, if nothing could be sent.
    fn lost(&self) -> f64 {
        if self.summary.sent == 0 { 1.0 } else { 1.0 - self.reached as f64 / self.summary.sent as f64 }
    }

    /// In as few letters as say it.
    fn cell(&self) -> String {
        if self.summary.sent == 0 {
            "not sent".to_owned()
        } else if self.reached == 0 && self.is_tcp {
            "filtered".to_owned()
        } else if self.is_losing() {
            units::percent(self.lost())
        } else if self.summary.answered == 0 {
            "closed".to_owned()
        } else {
            self.summary.median().map_or_else(String::new, |nanos| units::delay(nanos as i64))
        }
    }
}

/// One run of a mesh.
struct Run {
    /// Its sources.
    names: Vec<String>,
    pairs: Vec<Pair>,
}

impl Run {
    fn of(probe: &v1::Probe, run: u64) -> Self {
        let members = spec_mesh(probe).map(|mesh| mesh.members.clone()).unwrap_or_default();
        let members: Vec<_> = members.into_iter().filter(|member| !member.address.is_empty()).collect();
        let names: Vec<String> = members.iter().map(|member| source(member.source.as_ref())).collect();
        let at: BTreeMap<&str, usize> =
            members.iter().enumerate().map(|(at, member)| (member.address.as_str(), at)).collect();
        let mut pairs = Vec::new();
        for report in probe.reports.iter().filter(|report| report.run == run) {
            let name = source(report.source.as_ref());
            let Some(from) = names.iter().position(|known| *known == name) else { continue };
            for result in &report.results {
                let host = host(&result.target);
                let Some(to) = at.get(host) else { continue };
                pairs.push(pair(probe, from, *to, result));
            }
        }
        Self { names, pairs }
    }

    fn text(&self, is_wide: bool) -> String {
        let mut text = String::new();
        if self.names.len() <= MATRIX {
            text.push_str(&matrix::text(self));
        }
        if self.names.len() > MATRIX || is_wide {
            text.push_str(if text.is_empty() { "" } else { "\n" });
            text.push_str(&pairs::text(self, is_wide));
        }
        text.push('\n');
        text.push_str(&nodes::text(self, is_wide));
        text
    }
}

fn pair(probe: &v1::Probe, from: usize, to: usize, result: &v1::ProbeResult) -> Pair {
    let summary = Summary::of(result);
    let reaches = |attempt: &&v1::ProbeAttempt| {
        matches!(attempt.outcome(), Outcome::ProbeAnswered | Outcome::ProbeRefused)
    };
    Pair {
        from,
        to,
        reached: result.attempts.iter().filter(reaches).count() as u64,
        words: words(probe.spec.as_ref(), result, &summary),
        summary,
        is_tcp: matches!(spec_kind(probe), Some(Kind::Tcp(_))),
    }
}

/// The address of a target, without its port.
fn host(target: &str) -> &str {
    if let Some((host, _)) = target.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return host;
    }
    match target.split_once(':') {
        Some((host, port)) if !port.contains(':') => host,
        _ => target,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mesh of these, in which attempts from the one to the other are lost.
    fn probe(names: &[&str], kind: Kind, is_lost: impl Fn(&str, &str) -> bool) -> v1::Probe {
        let port = if matches!(kind, Kind::Icmp(_)) { 0 } else { 80 };
        let source = |name: &str| Some(v1::ProbeSource { node: name.to_owned(), netns: String::new() });
        let address = |at: usize| format!("10.0.0.{at}");
        let member = |(at, name): (usize, &&str)| v1::MeshMember {
            source: source(name),
            address: address(at),
            ..Default::default()
        };
        let result = |from: &str, to: (usize, &&str)| {
            let lost = is_lost(from, to.1);
            let outcome = if lost { Outcome::ProbeSilent } else { Outcome::ProbeAnswered };
            let attempt = v1::ProbeAttempt {
                outcome: outcome.into(),
                delay_nanos: (!lost).then_some(1_000_000 * (to.0 as u64 + 1)),
                ..Default::default()
            };
            let target = if port == 0 { address(to.0) } else { format!("{}:{port}", address(to.0)) };
            v1::ProbeResult { target, attempts: vec![attempt; 4], ..Default::default() }
        };
        let report = |from: &&str| v1::ProbeReport {
            source: source(from),
            results: names.iter().enumerate().filter(|to| to.1 != from).map(|to| result(from, to)).collect(),
            ..Default::default()
        };
        let mesh = v1::Mesh {
            neighbors: Some(names.len() as u32 - 1),
            port,
            members: names.iter().enumerate().map(member).collect(),
            ..Default::default()
        };
        v1::Probe {
            spec: Some(v1::ProbeSpec { kind: Some(kind), mesh: Some(mesh), ..Default::default() }),
            reports: names.iter().map(report).collect(),
            ..Default::default()
        }
    }

    fn icmp() -> Kind {
        Kind::Icmp(v1::IcmpProbe::default())
    }

    #[test]
    fn few_are_a_matrix_that_points_at_the_sick_one() {
        let sick = |from: &str, to: &str| from == "b" || to == "b";
        let shown = text(&probe(&["a", "b", "c", "d"], icmp(), sick), false);
        assert_eq!(
            shown,
            "FROM \\ TO        a       b        c        d\n\
             a                ·   100 %   3.0 ms   4.0 ms\n\
             b            100 %       ·    100 %    100 %\n\
             c           1.0 ms   100 %        ·   4.0 ms\n\
             d           1.0 ms   100 %   3.0 ms        ·\n\
             \n\
             SOURCE   LOSE TO IT     LOST   MEDIAN   IT LOSES TO     LOST   MEDIAN\n\
             b            3 of 3    100 %        -        3 of 3    100 %        -\n\
             a            1 of 3   33.3 %   1.0 ms        1 of 3   33.3 %   4.0 ms\n\
             c            1 of 3   33.3 %   3.0 ms        1 of 3   33.3 %   4.0 ms\n\
             d            1 of 3   33.3 %   4.0 ms        1 of 3   33.3 %   3.0 ms\n\
             look at b: 3 of 3 that probe it lose, and it loses to 3 of 3\n",
            "{shown}"
        );
    }

    #[test]
    fn a_port_that_says_nothing_is_filtered_and_one_that_says_no_is_reached() {
        let mut closed = probe(&["a", "b", "c"], Kind::Tcp(v1::TcpProbe {}), |_, to| to == "c");
        for attempt in &mut closed.reports[0].results[0].attempts {
            attempt.outcome = Outcome::ProbeRefused.into();
        }
        let shown = text(&closed, false);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[1].contains("closed") && lines[1].contains("filtered"), "{shown}");
        assert!(shown.ends_with("look at c: 2 of 2 that probe it lose, and it loses to 0 of 2\n"), "{shown}");
    }

    #[test]
    fn a_target_is_known_by_its_address() {
        for (target, address) in [
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.1:80", "10.0.0.1"),
            ("fd00::1", "fd00::1"),
            ("[fd00::1]:80", "fd00::1"),
        ] {
            assert_eq!(host(target), address);
        }
    }

    #[test]
    fn many_are_told_by_their_worst_pairs() {
        let names: Vec<String> = (0..20).map(|number| format!("n{number:02}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let shown = text(&probe(&names, icmp(), |_, to| to == "n07"), false);
        assert!(!shown.contains("FROM \\ TO"), "{shown}");
        let first = shown.lines().nth(1).unwrap_or_default();
        assert!(first.starts_with("n00    n07   100 %"), "{shown}");
        assert!(shown.contains("380 pairs: 19 lose"), "{shown}");
        assert!(
            shown.ends_with("look at n07: 19 of 19 that probe it lose, and it loses to 0 of 19\n"),
            "{shown}"
        );
    }
}
