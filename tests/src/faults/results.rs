//! What the rounds of every fault came to, as a table and as JSON.

use std::fmt;

use serde::Serialize;

/// What one or more captures came to.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Batches that agents sent.
    pub sent: u64,
    /// Those of them the coordinator acknowledged.
    pub acked: u64,
    /// Batches in the store.
    pub stored: u64,
    /// Batches or observations that are there more than once.
    pub duplicated: u64,
    /// Acknowledged, and not in the store or not readable there.
    pub lost: u64,
    /// Batches refused.
    pub refused: u64,
    /// Batches that could not be stored at first.
    pub failed: u64,
    /// Segments that could not be observed.
    pub not_observable: u64,
    /// Packets that were sent in the windows.
    pub in_window: u64,
    /// Those of them that reports call delivered or lost.
    pub judged: u64,
    /// Captures that ended without a report although something was recorded; their reason says so.
    pub no_report: u64,
    /// Observations that agents dropped and counted.
    pub agent_drops: u64,
    /// Less was recorded than asked for, for some time.
    pub is_sampled: bool,
    /// Captures that were called off because their window was not fixed yet.
    pub not_started: u64,
    /// What contradicts the truth, a line each.
    pub wrong: Vec<String>,
}

impl Tally {
    /// Takes in what another came to.
    pub fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.acked += other.acked;
        self.stored += other.stored;
        self.duplicated += other.duplicated;
        self.lost += other.lost;
        self.refused += other.refused;
        self.failed += other.failed;
        self.not_observable += other.not_observable;
        self.in_window += other.in_window;
        self.judged += other.judged;
        self.no_report += other.no_report;
        self.agent_drops += other.agent_drops;
        self.is_sampled |= other.is_sampled;
        self.not_started += other.not_started;
        self.wrong.extend(other.wrong);
    }

    /// Says so if less than half of what was sent was judged.
    pub fn mostly_judged(&self) -> Vec<String> {
        let Self { judged, in_window, .. } = self;
        if 2 * judged >= *in_window {
            Vec::new()
        } else {
            vec![format!("{judged} of {in_window} packets were judged")]
        }
    }
}

/// Counts of batches.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Batches {
    sent: u64,
    acked: u64,
    stored: u64,
    duplicated: u64,
    lost: u64,
    /// Of captures that were called off; of any other it is wrong.
    refused: u64,
}

/// A fault after all its rounds.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    name: String,
    rounds: u64,
    batches: Batches,
    verdicts_wrong: u64,
    /// Packets that were sent in the windows.
    in_window: u64,
    /// Those of them that reports call delivered or lost.
    judged: u64,
    /// Segments that could not be observed: what the fault cost.
    not_observable: u64,
    /// Observations that agents dropped and counted.
    agent_drops: u64,
    /// Rounds whose capture was called off because its window was not fixed yet.
    not_started: u64,
    /// Rounds whose capture ended without a report although something was recorded.
    no_report: u64,
    /// What went wrong, a line each.
    wrong: Vec<String>,
}

impl Outcome {
    /// Of a fault that was there for so many rounds.
    pub fn new(name: &str, rounds: u64, tally: Tally) -> Self {
        let Tally {
            sent,
            acked,
            stored,
            duplicated,
            lost,
            refused,
            in_window,
            judged,
            not_observable,
            agent_drops,
            not_started,
            no_report,
            wrong,
            ..
        } = tally;
        Self {
            name: name.to_owned(),
            rounds,
            batches: Batches { sent, acked, stored, duplicated, lost, refused },
            verdicts_wrong: wrong.len() as u64,
            in_window,
            judged,
            not_observable,
            agent_drops,
            not_started,
            no_report,
            wrong,
        }
    }

    /// Nothing lost, nothing twice, nothing wrong, and enough there to say so.
    pub fn is_right(&self) -> bool {
        let Batches { acked, duplicated, lost, .. } = self.batches;
        acked > 0
            && 2 * self.not_started <= self.rounds
            && (duplicated, lost, self.verdicts_wrong, self.no_report) == (0, 0, 0, 0)
    }
}

/// Everything, as it is written.
#[derive(Debug, Clone, Serialize)]
pub struct Results {
    seed: u64,
    faults: Vec<Outcome>,
    totals: Outcome,
}

impl Results {
    /// Adds up.
    pub fn new(seed: u64, faults: Vec<Outcome>) -> Self {
        let mut totals = Outcome::new("total", 0, Tally::default());
        for fault in &faults {
            totals.rounds += fault.rounds;
            totals.batches.sent += fault.batches.sent;
            totals.batches.acked += fault.batches.acked;
            totals.batches.stored += fault.batches.stored;
            totals.batches.duplicated += fault.batches.duplicated;
            totals.batches.lost += fault.batches.lost;
            totals.batches.refused += fault.batches.refused;
            totals.verdicts_wrong += fault.verdicts_wrong;
            totals.in_window += fault.in_window;
            totals.judged += fault.judged;
            totals.not_observable += fault.not_observable;
            totals.agent_drops += fault.agent_drops;
            totals.not_started += fault.not_started;
            totals.no_report += fault.no_report;
        }
        Self { seed, faults, totals }
    }

    /// Whether every fault went as it must.
    pub fn are_right(&self) -> bool {
        !self.faults.is_empty() && self.faults.iter().all(Outcome::is_right)
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<54} {:>6} {:>9} {:>9} {:>9} {:>6} {:>5} {:>7} {:>6} {:>8} {:>14} {:>8} {:>11} {:>9}",
            "fault",
            "rounds",
            "sent",
            "acked",
            "stored",
            "twice",
            "lost",
            "refused",
            "wrong",
            "judged %",
            "not observable",
            "drops",
            "not started",
            "no report"
        )?;
        for outcome in self.faults.iter().chain([&self.totals]) {
            let Outcome { name, rounds, batches, verdicts_wrong, not_observable, agent_drops, .. } = outcome;
            let Outcome { not_started, no_report, .. } = outcome;
            let Batches { sent, acked, stored, duplicated, lost, refused } = batches;
            let share = 100.0 * outcome.judged as f64 / outcome.in_window.max(1) as f64;
            writeln!(
                f,
                "{name:<54} {rounds:>6} {sent:>9} {acked:>9} {stored:>9} {duplicated:>6} {lost:>5} {refused:>7} {verdicts_wrong:>6} \
                 {share:>8.2} {not_observable:>14} {agent_drops:>8} {not_started:>11} {no_report:>9}"
            )?;
        }
        for outcome in &self.faults {
            for line in outcome.wrong.iter().take(10) {
                writeln!(f, "{}: {line}", outcome.name)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_capture_that_began_has_a_report_and_most_begin() {
        let outcome = |not_started, no_report| {
            Outcome::new("it", 10, Tally { acked: 9, not_started, no_report, ..Tally::default() })
        };
        assert!(outcome(0, 0).is_right() && outcome(5, 0).is_right());
        assert!(!outcome(0, 1).is_right() && !outcome(6, 0).is_right());
        let table = Results::new(1, vec![outcome(2, 3)]).to_string();
        let words: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(words[words.len() - 2..], ["2", "3"]);
    }
}
