//! Results of a run: a line per scenario for people, one JSON file for machines.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use super::run::Outcome;

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
    /// Segments the report rightly calls lost.
    pub lost_correct: u64,
    /// Segments the report calls lost and that were not.
    pub false_losses: u64,
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
}

impl ScenarioResult {
    /// Sums up an outcome.
    pub fn new(name: &str, seed: u64, outcome: &Outcome) -> Self {
        let result = Self { name: name.to_owned(), seed, ..Self::default() };
        match outcome {
            Outcome::Judged(truth, finding) => Self {
                expected: truth.to_string(),
                found: finding.found.clone(),
                lost_expected: truth.lost(),
                lost_unseen: truth.unseen(),
                lost_found: finding.lost_right(),
                lost_correct: finding.correct(truth),
                false_losses: finding.false_losses(truth),
                hop_right: finding.hop_right,
                clock_error_nanos: finding.clock_error_nanos,
                passed: finding.differences.is_empty(),
                differences: finding.differences.clone(),
                ..result
            },
            Outcome::Failed(error) => Self { differences: vec![format!("{error:#}")], ..result },
            Outcome::Skipped(error) => {
                Self { skipped: true, differences: vec![format!("{error:#}")], ..result }
            }
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
pub struct Results {
    /// In the order they ran.
    pub scenarios: Vec<ScenarioResult>,
    /// Sums.
    pub totals: Totals,
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
    /// Largest error of a node's clock in any run.
    pub clock_error_nanos_max: i64,
    /// Brier score of the confidence of losses over synthetic mixtures of network and capture loss; absent when it was
    /// not measured.
    pub brier: Option<f64>,
}

impl Results {
    /// Adds the results up.
    pub fn new(scenarios: Vec<ScenarioResult>) -> Self {
        let sum = |of: fn(&ScenarioResult) -> u64| scenarios.iter().map(of).sum::<u64>();
        let (correct, false_losses) = (sum(|one| one.lost_correct), sum(|one| one.false_losses));
        let ratio = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        let legs = |right| scenarios.iter().filter(|one| one.hop_right == right).count() as u64;
        let totals = Totals {
            scenarios: scenarios.len(),
            passed: scenarios.iter().filter(|one| one.passed).count(),
            skipped: scenarios.iter().filter(|one| one.skipped).count(),
            loss_precision: ratio(correct, correct + false_losses),
            loss_recall: ratio(correct, sum(|one| one.lost_expected)),
            hop_top1: ratio(legs(Some(true)), legs(Some(true)) + legs(Some(false))),
            false_losses,
            clock_error_nanos_max: scenarios.iter().map(|one| one.clock_error_nanos).max().unwrap_or(0),
            brier: None,
        };
        Self { scenarios, totals }
    }

    /// Whether every scenario ran and passed.
    pub fn all_passed(&self) -> bool {
        self.totals.scenarios > 0 && self.totals.passed == self.totals.scenarios
    }

    /// Writes the results as JSON; the folder must exist.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(path, text).with_context(|| format!("write {}", path.display()))
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent =
            |ratio: Option<f64>| ratio.map_or("–".to_owned(), |ratio| format!("{:.2} %", ratio * 100.0));
        write!(
            f,
            "{} scenarios, {} passed, {} skipped; leg named {}; loss precision {}, recall {}; {} false losses; clock error at most {:.3} ms",
            self.scenarios,
            self.passed,
            self.skipped,
            percent(self.hop_top1),
            percent(self.loss_precision),
            percent(self.loss_recall),
            self.false_losses,
            self.clock_error_nanos_max as f64 / 1e6
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{Results, ScenarioResult};

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
        let results = Results::new(vec![result(true, false, 6, 6, 0), result(false, false, 4, 3, 3)]);
        assert_eq!(results.totals.loss_precision, Some(0.75));
        assert_eq!(results.totals.loss_recall, Some(0.9));
        assert!(!results.all_passed());
    }

    #[test]
    fn a_skip_or_nothing_at_all_is_no_success() {
        assert!(!Results::new(vec![result(false, true, 0, 0, 0)]).all_passed());
        assert!(!Results::new(Vec::new()).all_passed());
        assert!(Results::new(vec![result(true, false, 0, 0, 0)]).all_passed());
    }
}
