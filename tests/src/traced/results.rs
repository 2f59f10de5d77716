//! What traces come to.

use std::fmt;

use serde::Serialize;

use super::judge::{self, Expected};
use super::seen::Trace;

/// Result of one trace under one seed.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TraceResult {
    /// The scenario's sentence.
    pub name: String,
    /// Seed of the run.
    pub seed: u64,
    /// Verdict, legs and counts that the ground truth demands.
    pub expected: String,
    /// Those of the trace.
    pub found: String,
    /// Packets truly lost.
    pub lost_expected: u64,
    /// Packets that the trace calls lost on the way there.
    pub lost_found: u64,
    /// Whether both agree in everything.
    pub passed: bool,
    /// Whether it could not run.
    pub skipped: bool,
    /// What differs, or why it failed or was skipped.
    pub differences: Vec<String>,
    /// The trace as `ctl` printed it.
    #[serde(skip)]
    pub trace: String,
}

impl TraceResult {
    pub(super) fn new(name: &str, seed: u64) -> Self {
        Self { name: name.to_owned(), seed, ..Self::default() }
    }

    pub(super) fn failed(self, error: &anyhow::Error) -> Self {
        Self { differences: vec![format!("{error:#}")], ..self }
    }

    pub(super) fn skipped(self, error: &anyhow::Error) -> Self {
        Self { skipped: true, ..self.failed(error) }
    }

    pub(super) fn judged(self, expected: &Expected, trace: &Trace) -> Self {
        let mut differences = expected.differences(trace);
        if !differences.is_empty() {
            differences.extend(trace.notes.iter().map(|note| format!("note: {note}")));
        }
        Self {
            expected: expected.text(),
            found: judge::found(trace),
            lost_expected: expected.lost(),
            lost_found: judge::lost(trace),
            passed: differences.is_empty(),
            differences,
            trace: trace.text.clone(),
            ..self
        }
    }
}

impl fmt::Display for TraceResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match (self.skipped, self.passed) {
            (true, _) => "SKIP",
            (_, true) => "pass",
            (_, false) => "FAIL",
        };
        let found = if self.expected == self.found { "the same" } else { &self.found };
        write!(f, "{mark}  trace: {}  expected {}  found {found}", self.name, self.expected)?;
        self.differences.iter().try_for_each(|difference| write!(f, "\n      {difference}"))
    }
}

/// All traces with their totals.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Traces {
    /// How many.
    pub scenarios: usize,
    /// Of these, passed.
    pub passed: usize,
    /// In the order of the scenarios.
    pub results: Vec<TraceResult>,
}

impl Traces {
    /// Adds them up.
    pub fn new(results: Vec<TraceResult>) -> Self {
        let passed = results.iter().filter(|one| one.passed).count();
        Self { scenarios: results.len(), passed, results }
    }

    /// Whether each of them passed.
    pub fn all_passed(&self) -> bool {
        self.passed == self.scenarios
    }
}
