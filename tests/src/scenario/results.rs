//! Results of a run: a line per scenario for people, one JSON file for machines.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use lastseen_correlate::Ablation;

use super::ablation;
use super::finding::Finding;
use super::legs::{self, Confused};
use super::packets::Score;
use super::run::Outcome;
use super::truth::Truth;
use crate::probed::results::Probed;
use crate::traced::results::Traces;

/// Result of one scenario under one seed.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScenarioResult {
    /// The scenario's sentence.
    pub name: String,
    /// Seed of the run.
    pub seed: u64,
    /// Verdict and leg the ground truth demands.
    pub expected: String,
    /// Verdict and legs of the report.
    pub found: String,
    /// Segments truly lost.
    pub lost_expected: u64,
    /// Segments truly lost beside these that no point was there to miss: they must be `not_observable`.
    pub lost_unseen: u64,
    /// Segments the report calls lost on the right leg.
    pub lost_found: u64,
    /// Segments the report rightly calls lost: as many as were, on their leg, and of the datagrams no others.
    pub lost_correct: u64,
    /// Segments the report calls lost and that were not.
    pub false_losses: u64,
    /// Datagrams lost and named, packet by packet.
    pub datagrams: Score,
    /// Segments judged.
    pub segments: u64,
    /// Segments that are on another leg than they were lost on.
    pub confused: Vec<Confused>,
    /// Whether the leg that loses most is the right one; absent when nothing is to be found.
    pub hop_right: Option<bool>,
    /// Largest error of a node's clock, nanoseconds.
    pub clock_error_nanos: i64,
    /// Whether report and truth agree in everything.
    pub passed: bool,
    /// Whether it could not run.
    pub skipped: bool,
    /// What differs, or why it failed or was skipped.
    pub differences: Vec<String>,
    /// The same without an idea of the method.
    #[serde(skip)]
    pub without: Vec<(Ablation, ScenarioResult)>,
}

impl ScenarioResult {
    /// Sums up an outcome.
    pub fn new(name: &str, seed: u64, outcome: &Outcome) -> Self {
        let result = Self { name: name.to_owned(), seed, ..Self::default() };
        match outcome {
            Outcome::Judged(truth, finding) => {
                let judged = |finding| Self::judged(name, seed, truth, finding);
                let without = finding.without.iter().map(|(idea, finding)| (*idea, judged(finding)));
                Self { without: without.collect(), ..judged(finding) }
            }
            Outcome::Failed(error) => Self { differences: vec![format!("{error:#}")], ..result },
            Outcome::Skipped(error) => {
                Self { skipped: true, differences: vec![format!("{error:#}")], ..result }
            }
        }
    }

    fn judged(name: &str, seed: u64, truth: &Truth, finding: &Finding) -> Self {
        let (lost, packets) = (truth.lost(), finding.packets);
        let unnamed = packets.missed().saturating_sub(truth.unseen());
        Self {
            name: name.to_owned(),
            seed,
            expected: truth.to_string(),
            found: finding.found.clone(),
            lost_expected: lost,
            lost_unseen: truth.unseen(),
            lost_found: finding.lost_right(),
            lost_correct: finding.correct(truth).min(lost.saturating_sub(unnamed)),
            false_losses: finding.false_losses(truth).max(packets.wrong()),
            datagrams: packets,
            segments: finding.segments,
            confused: legs::confused(truth, finding),
            hop_right: finding.hop_right,
            clock_error_nanos: finding.clock_error_nanos,
            passed: finding.differences.is_empty(),
            differences: finding.differences.clone(),
            ..Self::default()
        }
    }

    fn mark(&self) -> &'static str {
        match (self.skipped, self.passed) {
            (true, _) => "SKIP",
            (_, true) => "pass",
            (_, false) => "FAIL",
        }
    }
}

impl fmt::Display for ScenarioResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, expected, found, lost_expected, lost_found, .. } = self;
        let found = if expected == found { "the same" } else { found };
        write!(
            f,
            "{}  {name}  expected {expected}  found {found}  lost {lost_found} of {lost_expected}",
            self.mark()
        )?;
        if self.lost_unseen > 0 {
            write!(f, ", {} out of sight", self.lost_unseen)?;
        }
        self.differences.iter().try_for_each(|difference| write!(f, "\n      {difference}"))
    }
}

/// All results with their totals.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Results {
    /// In the order they ran.
    pub scenarios: Vec<ScenarioResult>,
    /// Sums.
    pub totals: Totals,
    /// Traced paths.
    pub trace_path: Traces,
    /// Probes through faults.
    pub probes: Probed,
    /// Segments that are on another leg than they were lost on, over all scenarios.
    pub confusion: Vec<Confused>,
    /// What a capture that misses packets is reported as; empty when it was not measured.
    pub not_observable: Vec<NotObservable>,
    /// The same captures without one idea of the method each; empty when that was not asked for.
    pub ablations: Vec<AblationResult>,
}

/// Packets that arrived and that the capture missed, at one share of capture loss.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NotObservable {
    /// Share of packets that the capture misses, and says so or not.
    pub capture_loss: f64,
    /// Whether it says so.
    pub is_declared: bool,
    /// Packets that arrived and that no point saw arrive.
    pub unseen: u64,
    /// Of these, called lost.
    pub called_lost: u64,
}

/// What the method comes to without one idea.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AblationResult {
    /// Which, in words.
    pub without: String,
    /// Sums over the captures that were judged.
    pub totals: Totals,
    /// Scenarios that pass with the idea and fail without it.
    pub hurt: Vec<String>,
}

/// Sums over a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Scenario runs.
    pub scenarios: usize,
    /// Of these, passed.
    pub passed: usize,
    /// Of these, could not run.
    pub skipped: usize,
    /// Share of segments called lost that truly were; absent when none was called lost.
    pub loss_precision: Option<f64>,
    /// Share of truly lost segments that were called lost; absent when none was lost.
    pub loss_recall: Option<f64>,
    /// Share of scenarios with a leg to find whose leg was named; absent when there was none.
    pub hop_top1: Option<f64>,
    /// Segments called lost that were not.
    pub false_losses: u64,
    /// These as a share of the segments that were not lost; absent when there was none.
    pub false_loss_rate: Option<f64>,
    /// Lost datagrams whose ids are known.
    pub datagrams_lost: u64,
    /// Of these, named one by one.
    pub datagrams_right: u64,
    /// Datagrams named that were not lost.
    pub datagrams_wrong: u64,
    /// Largest error of a node's clock in any run.
    pub clock_error_nanos_max: i64,
    /// Brier score of the confidence of losses over synthetic mixtures of network and capture loss; absent when it was
    /// not measured.
    pub brier: Option<f64>,
}

impl Results {
    /// Adds the results up.
    pub fn new(scenarios: Vec<ScenarioResult>, traces: Traces, probes: Probed) -> Self {
        Self {
            totals: Totals::new(scenarios.iter()),
            trace_path: traces,
            probes,
            confusion: legs::matrix(scenarios.iter().flat_map(|one| &one.confused)),
            not_observable: Vec::new(),
            ablations: ablations(&scenarios),
            scenarios,
        }
    }

    /// Whether everything ran and passed.
    pub fn all_passed(&self) -> bool {
        self.totals.scenarios + self.trace_path.scenarios + self.probes.scenarios > 0
            && self.totals.passed == self.totals.scenarios
            && self.trace_path.all_passed()
            && self.probes.all_passed()
    }

    /// Writes the results as JSON; the folder must exist.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(path, text).with_context(|| format!("write {}", path.display()))
    }
}

/// A row for each idea that scenarios were judged without.
fn ablations(scenarios: &[ScenarioResult]) -> Vec<AblationResult> {
    let ideas: BTreeSet<Ablation> =
        scenarios.iter().flat_map(|one| &one.without).map(|(idea, _)| *idea).collect();
    let of = |wanted: Ablation| {
        let pairs = scenarios
            .iter()
            .flat_map(|one| one.without.iter().map(move |(idea, without)| (one, *idea, without)));
        let pairs: Vec<_> = pairs.filter(|(_, idea, _)| *idea == wanted).collect();
        let hurt = pairs.iter().filter(|(with, _, without)| with.passed && !without.passed);
        AblationResult {
            without: ablation::name(wanted).to_owned(),
            totals: Totals::new(pairs.iter().map(|(.., without)| *without)),
            hurt: hurt.map(|(with, ..)| with.name.clone()).collect(),
        }
    };
    ideas.into_iter().map(of).collect()
}

impl Totals {
    fn new<'r>(scenarios: impl Iterator<Item = &'r ScenarioResult>) -> Self {
        let scenarios: Vec<_> = scenarios.collect();
        let sum = |of: fn(&ScenarioResult) -> u64| scenarios.iter().map(|one| of(one)).sum::<u64>();
        let (correct, false_losses) = (sum(|one| one.lost_correct), sum(|one| one.false_losses));
        let ratio = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        let legs = |right| scenarios.iter().filter(|one| one.hop_right == right).count() as u64;
        let arrived = sum(|one| one.segments.saturating_sub(one.lost_expected));
        let datagrams = Score::sum(scenarios.iter().map(|one| one.datagrams));
        Self {
            scenarios: scenarios.len(),
            passed: scenarios.iter().filter(|one| one.passed).count(),
            skipped: scenarios.iter().filter(|one| one.skipped).count(),
            loss_precision: ratio(correct, correct + false_losses),
            loss_recall: ratio(correct, sum(|one| one.lost_expected)),
            hop_top1: ratio(legs(Some(true)), legs(Some(true)) + legs(Some(false))),
            false_losses,
            false_loss_rate: ratio(false_losses, arrived),
            datagrams_lost: datagrams.lost,
            datagrams_right: datagrams.right,
            datagrams_wrong: datagrams.wrong(),
            clock_error_nanos_max: scenarios.iter().map(|one| one.clock_error_nanos).max().unwrap_or(0),
            brier: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Results, ScenarioResult};
    use crate::probed::results::Probed;
    use crate::traced::results::{TraceResult, Traces};

    fn result(passed: bool, skipped: bool, expected: u64, correct: u64, false_losses: u64) -> ScenarioResult {
        ScenarioResult {
            passed,
            skipped,
            lost_expected: expected,
            lost_correct: correct,
            false_losses,
            ..ScenarioResult::default()
        }
    }

    #[test]
    fn totals_tell_precision_from_recall() {
        let results = Results::new(
            vec![result(true, false, 6, 6, 0), result(false, false, 4, 3, 3)],
            Traces::default(),
            Probed::default(),
        );
        assert_eq!(results.totals.loss_precision, Some(0.75));
        assert_eq!(results.totals.loss_recall, Some(0.9));
        assert!(!results.all_passed());
    }

    #[test]
    fn a_skip_or_nothing_at_all_or_a_trace_that_errs_is_no_success() {
        let is_success =
            |scenarios, traces| Results::new(scenarios, Traces::new(traces), Probed::default()).all_passed();
        let good = || vec![result(true, false, 0, 0, 0)];
        let trace = |passed| TraceResult { passed, ..TraceResult::default() };
        assert!(!is_success(vec![result(false, true, 0, 0, 0)], Vec::new()));
        assert!(!is_success(Vec::new(), Vec::new()));
        assert!(is_success(good(), Vec::new()));
        assert!(
            is_success(good(), vec![trace(true)]) && !is_success(good(), vec![trace(true), trace(false)])
        );
    }
}
