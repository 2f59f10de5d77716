//! What a trace must say, and how far it does.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use super::plan::{Protocol, Traced};
use super::seen::{Trace, points};
use crate::scenario::casting::Staging;
use crate::scenario::file::{Leg, Scenario, Verdict};
use crate::scenario::report::{Path, PointName};
use crate::scenario::truth;
use crate::traffic::sink::Reader;

/// Two neighbouring points.
type Between = (PointName, PointName);

/// What a trace must say.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    verdict: Verdict,
    /// How many on which leg.
    losses: BTreeMap<Between, u64>,
    /// The points of both ways; absent: not asked.
    routes: [Option<Vec<PointName>>; 2],
    /// What arrives is answered, and the answer comes back.
    is_answered: bool,
}

impl Expected {
    /// From what the faults counted meanwhile.
    pub(super) fn new(
        scenario: &Scenario,
        traced: &Traced,
        staging: &Staging<'_>,
        struck: &[u64],
        trace: &Trace,
    ) -> Result<Self> {
        let expect = &scenario.expect;
        let verdict = traced.expect.as_ref().map_or(expect.verdict, |own| own.verdict);
        let legs: Vec<Option<&Leg>> = match &traced.expect {
            Some(own) => vec![own.leg.as_ref()],
            None => scenario.legs().collect(),
        };
        let mut losses = BTreeMap::new();
        for (leg, count) in legs.into_iter().zip(struck) {
            let Some(Leg { from, to }) = leg else { continue };
            // The fault also struck what was under way beside the trace.
            let count = if traced.beside { trace.sent() - trace.answered() } else { *count };
            *losses.entry((truth::name(staging, *from), truth::name(staging, *to))).or_default() += count;
        }
        losses.retain(|_, count| *count > 0 && verdict == Verdict::Lost);
        if losses.is_empty() == (verdict == Verdict::Lost) {
            bail!("the fault struck {struck:?}, which is not what {} is about", verdict.name());
        }
        let is_delivered = verdict == Verdict::Delivered;
        let routes = [&expect.route, &expect.return_route]
            .map(|route| route.as_deref().filter(|_| is_delivered).map(|route| truth::names(staging, route)));
        let [there, back] = routes;
        // The way back of a scenario is that of its TCP answers, which come from the same end.
        let is_attentive = scenario.traffic.reader == Reader::Attentive;
        // The sender does not know a datagram again that was changed on its way, and of a lost one a copy may be answered.
        let is_whole = scenario.faults().all(|fault| !fault.corrupts() && !fault.doubles());
        let is_answered = is_attentive && is_whole && verdict != Verdict::Inconclusive;
        Ok(Self {
            verdict,
            losses,
            routes: [there, back.filter(|_| traced.protocol != Protocol::Icmp)],
            is_answered,
        })
    }

    /// Packets that are lost.
    pub(super) fn lost(&self) -> u64 {
        self.losses.values().sum()
    }

    /// In one line.
    pub(super) fn text(&self) -> String {
        line(self.verdict.name(), &self.losses)
    }

    /// Everything that differs.
    pub(super) fn differences(&self, trace: &Trace) -> Vec<String> {
        let mut differences = Vec::new();
        let mut differ = |what: &str, expected: String, found: String| {
            if expected != found {
                differences.push(format!("{what}: {found} instead of {expected}"));
            }
        };
        differ("found", self.text(), found(trace));
        differ("exit code", self.verdict.exit_code().to_string(), trace.exit_code.to_string());
        differ("lost on the way back", line("", &BTreeMap::new()), line("", &losses(trace.back.as_ref())));
        for (what, route, way) in [("way there", 0, &trace.forward), ("way back", 1, &trace.back)] {
            if let Some(route) = &self.routes[route] {
                differ(what, format!("{route:?}"), format!("{:?}", points(way.as_ref())));
            }
        }
        if self.is_answered {
            differ("answered", (trace.sent() - self.lost()).to_string(), trace.answered().to_string());
        }
        differences
    }
}

/// What a trace says, in one line.
pub(super) fn found(trace: &Trace) -> String {
    line(&trace.verdict, &losses(trace.forward.as_ref()))
}

/// Packets lost on the way there, as the trace has it.
pub(super) fn lost(trace: &Trace) -> u64 {
    losses(trace.forward.as_ref()).values().sum()
}

fn losses(way: Option<&Path>) -> BTreeMap<Between, u64> {
    let losses = way.into_iter().flat_map(|way| &way.losses);
    let mut by_leg = BTreeMap::new();
    for loss in losses {
        let to = loss.to.clone().unwrap_or_default();
        *by_leg.entry((loss.from.clone(), to)).or_default() += loss.count;
    }
    by_leg
}

fn line(verdict: &str, losses: &BTreeMap<Between, u64>) -> String {
    let legs = losses.iter().map(|((from, to), count)| format!("{count} {from} → {to}"));
    let legs: Vec<String> = legs.collect();
    format!("{verdict} {}", legs.join(", ")).trim().to_owned()
}
