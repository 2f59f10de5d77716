//! The routers on the way, hop by hop, as mtr shows them.

use std::collections::BTreeMap;

use lastseen_proto::probed::Summary;
use lastseen_proto::v1;
use lastseen_proto::v1::ProbeOutcome as Outcome;

use super::{lost, source};
use crate::output::table::Table;
use crate::output::{escape, units};

/// A block for each source and target.
pub(super) fn text(probe: &v1::Probe) -> String {
    let is_scheduled = probe.spec.as_ref().is_some_and(|spec| spec.every.is_some());
    let mut blocks = Vec::new();
    for report in &probe.reports {
        for result in &report.results {
            let run = if is_scheduled { format!("  run {}", report.run) } else { String::new() };
            let address = if result.address.is_empty() || result.target.contains(&result.address) {
                String::new()
            } else {
                format!(" ({})", result.address)
            };
            let title = format!("{} → {}{address}{run}", source(report.source.as_ref()), result.target);
            let title = escape::line(&title).into_owned();
            blocks.push(if result.reason.is_empty() {
                format!("{title}\n{}{}\n", hops(result), escape::line(&end(result)))
            } else {
                format!("{title}\n{}\n", escape::line(&result.reason))
            });
        }
    }
    blocks.join("\n")
}

fn hops(result: &v1::ProbeResult) -> String {
    let mut hops: BTreeMap<u32, Vec<v1::ProbeAttempt>> = BTreeMap::new();
    for attempt in &result.attempts {
        hops.entry(attempt.hop_limit).or_default().push(attempt.clone());
    }
    let last = last_hop(result);
    let mut table = Table::new(&[">HOP", "WHO", ">SENT", ">ANSWERED", ">LOST", ">MIN", ">MEDIAN", ">MAX"]);
    let mut silent = 0;
    for (hop, attempts) in hops.into_iter().filter(|(hop, _)| last.is_none_or(|last| *hop <= last)) {
        // A path that ends in silence is shown to where somebody answered, and a few hops more.
        const SHOWN: u32 = 3;
        let all = v1::ProbeResult { attempts, ..Default::default() };
        let who = who(&all, &result.address);
        silent = if who.is_empty() { silent + 1 } else { 0 };
        if last.is_none() && silent > SHOWN && is_silent_from(result, hop) {
            break;
        }
        let summary = Summary::of_hop(&all);
        let delay = |delay: Option<u64>| delay.map_or_else(String::new, |delay| units::delay(delay as i64));
        table.row([
            hop.to_string(),
            who,
            units::count(summary.sent),
            units::count(summary.answered),
            lost(&summary),
            delay(summary.least()),
            delay(summary.median()),
            delay(summary.most()),
        ]);
    }
    table.text()
}

fn is_silent_from(result: &v1::ProbeResult, hop: u32) -> bool {
    result
        .attempts
        .iter()
        .filter(|attempt| attempt.hop_limit >= hop)
        .all(|a| a.outcome() == Outcome::ProbeSilent)
}

/// Everybody who answered at a hop; more than one where routers spread even one flow, or the path changed.
fn who(hop: &v1::ProbeResult, target: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for attempt in &hop.attempts {
        let name = match attempt.outcome() {
            Outcome::ProbeSilent | Outcome::ProbeNotSent => continue,
            _ if attempt.responder.is_empty() => target,
            _ => &attempt.responder,
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(", ")
}

fn is_reached(attempt: &v1::ProbeAttempt) -> bool {
    matches!(attempt.outcome(), Outcome::ProbeAnswered | Outcome::ProbeRefused)
}

fn is_end(attempt: &v1::ProbeAttempt) -> bool {
    is_reached(attempt) || attempt.outcome() == Outcome::ProbeUnreachable
}

/// The fewest hops that led to the target, or else to who would not pass it on.
fn last_hop(result: &v1::ProbeResult) -> Option<u32> {
    let least = |is: fn(&v1::ProbeAttempt) -> bool| {
        result.attempts.iter().filter(|attempt| is(attempt)).map(|attempt| attempt.hop_limit).min()
    };
    least(is_reached).or_else(|| least(is_end))
}

/// How it ends, in words.
fn end(result: &v1::ProbeResult) -> String {
    let attempts = &result.attempts;
    if let Some(failed) = attempts.iter().find(|attempt| attempt.outcome() == Outcome::ProbeNotSent) {
        return format!("not sent: {}", failed.detail);
    }
    let Some(last) = last_hop(result) else {
        let expired = attempts.iter().filter(|attempt| attempt.outcome() == Outcome::ProbeExpired);
        return match expired.max_by_key(|attempt| attempt.hop_limit) {
            Some(last) => format!("nothing answers beyond {}, hop {}", last.responder, last.hop_limit),
            None => "nothing answers".to_owned(),
        };
    };
    // Who reached the target once has a path, whatever was said at other times.
    if attempts.iter().any(is_reached) {
        return format!("reached after {last} hop{}", if last == 1 { "" } else { "s" });
    }
    match attempts.iter().find(|attempt| is_end(attempt) && attempt.hop_limit == last) {
        Some(end) if end.responder.is_empty() => format!("{}, says the target", end.detail),
        Some(end) => format!("{}, says {}", end.detail, end.responder),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(hop_limit: u32, outcome: Outcome, responder: &str) -> v1::ProbeAttempt {
        let delay_nanos = (outcome != Outcome::ProbeSilent).then_some(u64::from(hop_limit) * 1_000_000);
        let (outcome, responder) = (outcome.into(), responder.into());
        v1::ProbeAttempt { hop_limit, outcome, responder, delay_nanos, ..Default::default() }
    }

    fn probe(attempts: Vec<v1::ProbeAttempt>) -> v1::Probe {
        let result = v1::ProbeResult {
            target: "web:80".into(),
            address: "10.0.9.9".into(),
            attempts,
            ..Default::default()
        };
        let source = Some(v1::ProbeSource { node: "node-a".into(), netns: "pod".into() });
        let report = v1::ProbeReport { source, results: vec![result], ..Default::default() };
        v1::Probe { reports: vec![report], ..Default::default() }
    }

    #[test]
    fn a_path_is_told_hop_by_hop_to_its_end() {
        let attempts = [(1, "10.0.0.1"), (2, "")].into_iter().flat_map(|(hop, who)| {
            let outcome = if who.is_empty() { Outcome::ProbeSilent } else { Outcome::ProbeExpired };
            [attempt(hop, outcome, who), attempt(hop, outcome, who)]
        });
        let reached = [attempt(3, Outcome::ProbeAnswered, ""), attempt(4, Outcome::ProbeAnswered, "")];
        let shown = text(&probe(attempts.chain(reached).collect()));
        assert_eq!(
            shown,
            "node-a:pod → web:80 (10.0.9.9)\n\
             HOP   WHO        SENT   ANSWERED    LOST      MIN   MEDIAN      MAX\n  \
               1   10.0.0.1      2          2     0 %   1.0 ms   1.0 ms   1.0 ms\n  \
               2   -             2          0   100 %        -        -        -\n  \
               3   10.0.9.9      1          1     0 %   3.0 ms   3.0 ms   3.0 ms\n\
             reached after 3 hops\n"
        );
    }

    #[test]
    fn a_path_that_ends_in_silence_says_where() {
        let attempts = std::iter::once(attempt(1, Outcome::ProbeExpired, "10.0.0.1"))
            .chain((2..=30).map(|hop| attempt(hop, Outcome::ProbeSilent, "")));
        let shown = text(&probe(attempts.collect()));
        assert_eq!(shown.lines().count(), 7, "{shown}");
        assert!(shown.ends_with("nothing answers beyond 10.0.0.1, hop 1\n"), "{shown}");
        let refused = v1::ProbeAttempt {
            detail: "network unreachable".into(),
            ..attempt(1, Outcome::ProbeUnreachable, "10.0.0.1")
        };
        assert!(text(&probe(vec![refused])).ends_with("network unreachable, says 10.0.0.1\n"));
    }
}
