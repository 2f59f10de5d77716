//! All attempts at one target in a line.

use std::collections::BTreeMap;

use crate::v1;
use crate::v1::ProbeOutcome as Outcome;

/// What the attempts came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Attempts that went out.
    pub sent: u64,
    /// Those of them that were answered.
    pub answered: u64,
    /// Until the answers, sorted, nanoseconds.
    delays: Vec<u64>,
    /// How often what happened.
    outcomes: BTreeMap<(i32, String), u64>,
}

impl Summary {
    /// Of one result.
    pub fn of(result: &v1::ProbeResult) -> Self {
        Self::counting(result, |outcome| outcome == Outcome::ProbeAnswered)
    }

    /// Of the attempts of a trace at one hop: whoever says something answers.
    pub fn of_hop(result: &v1::ProbeResult) -> Self {
        Self::counting(result, |outcome| !matches!(outcome, Outcome::ProbeSilent | Outcome::ProbeNotSent))
    }

    fn counting(result: &v1::ProbeResult, is_answer: impl Fn(Outcome) -> bool) -> Self {
        let mut summary = Self::default();
        for attempt in &result.attempts {
            let outcome = attempt.outcome();
            summary.sent += u64::from(outcome != Outcome::ProbeNotSent);
            if is_answer(outcome) {
                summary.answered += 1;
                summary.delays.extend(attempt.delay_nanos);
            }
            let by = if attempt.responder.is_empty() {
                String::new()
            } else {
                format!(" says {}", attempt.responder)
            };
            *summary.outcomes.entry((attempt.outcome, format!("{}{by}", attempt.detail))).or_default() += 1;
        }
        summary.delays.sort_unstable();
        summary
    }

    /// Share without an answer, 0 to 1; absent: nothing was sent.
    pub fn lost(&self) -> Option<f64> {
        (self.sent > 0).then(|| (self.sent - self.answered) as f64 / self.sent as f64)
    }

    /// Shortest delay, nanoseconds.
    pub fn least(&self) -> Option<u64> {
        self.delays.first().copied()
    }

    /// The one in the middle.
    pub fn median(&self) -> Option<u64> {
        self.delays.get(self.delays.len() / 2).copied()
    }

    /// Longest.
    pub fn most(&self) -> Option<u64> {
        self.delays.last().copied()
    }

    /// How often what happened: outcome and what was said of it.
    pub(super) fn outcomes(&self) -> impl Iterator<Item = (&(i32, String), &u64)> {
        self.outcomes.iter()
    }

    /// How many different things happened.
    pub(super) fn kinds(&self) -> usize {
        self.outcomes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_come_to_counts_and_delays() {
        let attempt = |outcome: Outcome, delay_nanos| v1::ProbeAttempt {
            outcome: outcome.into(),
            delay_nanos,
            ..Default::default()
        };
        let attempts = vec![
            attempt(Outcome::ProbeAnswered, Some(300)),
            attempt(Outcome::ProbeAnswered, Some(100)),
            attempt(Outcome::ProbeUnreachable, Some(9)),
            attempt(Outcome::ProbeNotSent, None),
        ];
        let result = v1::ProbeResult { attempts, ..Default::default() };
        let summary = Summary::of(&result);
        assert_eq!((summary.sent, summary.answered, summary.lost()), (3, 2, Some(1.0 / 3.0)));
        assert_eq!((summary.least(), summary.median(), summary.most()), (Some(100), Some(300), Some(300)));
        assert_eq!(Summary::of_hop(&result).answered, 3);
        assert_eq!(Summary::default().lost(), None);
    }
}
