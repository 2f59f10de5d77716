//! What probes through faults come to.

use std::fmt;

use serde::Serialize;

use super::Words;

/// Result of all kinds in one scenario under one seed.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbedResult {
    /// The scenario's sentence.
    pub name: String,
    /// Seed of the run.
    pub seed: u64,
    /// What each kind must find; several words with `|` between them where chance decides.
    pub expected: Words,
    /// What each found.
    pub found: Words,
    /// Whether both agree.
    pub passed: bool,
    /// Whether it could not run.
    pub skipped: bool,
    /// What differs, or why it failed or was skipped.
    pub differences: Vec<String>,
}

impl ProbedResult {
    pub(super) fn new(name: &str, seed: u64, expected: Words) -> Self {
        Self { name: name.to_owned(), seed, expected, ..Self::default() }
    }

    pub(super) fn failed(self, error: &anyhow::Error) -> Self {
        Self { differences: vec![format!("{error:#}")], ..self }
    }

    pub(super) fn skipped(self, error: &anyhow::Error) -> Self {
        Self { skipped: true, ..self.failed(error) }
    }

    pub(super) fn judged(self, found: Words) -> Self {
        let differ = |(kind, expected): (&String, &String)| {
            let found = found.get(kind).map_or("", String::as_str);
            let is_right = expected.split('|').any(|word| word == found);
            (!is_right).then(|| format!("{kind}: {found} instead of {expected}"))
        };
        let differences: Vec<String> = self.expected.iter().filter_map(differ).collect();
        Self { passed: differences.is_empty(), differences, found, ..self }
    }
}

impl fmt::Display for ProbedResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match (self.skipped, self.passed) {
            (true, _) => "SKIP",
            (_, true) => "pass",
            (_, false) => "FAIL",
        };
        write!(f, "{mark}  probes: {}", self.name)?;
        self.differences.iter().try_for_each(|difference| write!(f, "\n      {difference}"))
    }
}

/// All of them with their totals.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Probed {
    /// How many scenarios.
    pub scenarios: usize,
    /// Of these, passed.
    pub passed: usize,
    /// In the order of the scenarios.
    pub results: Vec<ProbedResult>,
}

impl Probed {
    /// Adds them up.
    pub fn new(results: Vec<ProbedResult>) -> Self {
        let passed = results.iter().filter(|one| one.passed).count();
        Self { scenarios: results.len(), passed, results }
    }

    /// Whether each of them passed.
    pub fn all_passed(&self) -> bool {
        self.passed == self.scenarios
    }
}
