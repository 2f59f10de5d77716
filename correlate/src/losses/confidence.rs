//! How much the word of the points that did not see a segment is worth.
//!
//! A segment is missing because it was lost or because every later point missed it. The odds of the one against the
//! other are those of a loss on this leg, before looking, over the chance that all of them missed it.

use std::collections::BTreeMap;

use crate::input::Job;
use crate::losses::sandwich::MissRate;

/// A segment that only points with measured misses testify to is called lost from this confidence on.
pub const LEAST_CONFIDENCE: f64 = 0.99;

/// What the points that testify to a missing segment are worth together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Word {
    /// The chance that all of them missed a segment that passed them.
    pub(crate) all_missed: f64,
    /// The same as measured: 0 if one of them was never seen to miss any.
    pub(crate) measured: f64,
}

impl Word {
    /// Of the points at the positions of `witnesses`. On one node what makes one miss makes all miss, so its best
    /// point counts; nodes miss independently of each other.
    pub(crate) fn of(job: &Job, rates: &[MissRate], points: &[usize], witnesses: u32) -> Self {
        let mut by_node: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
        for (at, &point) in points.iter().enumerate() {
            if witnesses & 1 << at != 0 {
                let best = by_node.entry(job.points[point].node).or_insert((1.0, 1.0));
                best.0 = best.0.min(rates[point].floored());
                best.1 = best.1.min(rates[point].share());
            }
        }
        let word = Self { all_missed: 1.0, measured: 1.0 };
        by_node.values().fold(word, |word, best| Self {
            all_missed: word.all_missed * best.0,
            measured: word.measured * best.1,
        })
    }

    /// That a missing segment was lost, 0 to 1, where `prior` is the chance of a loss on the leg.
    pub(crate) fn confidence(&self, prior: f64) -> f64 {
        let log_odds = (prior / (1.0 - prior)).ln() - self.all_missed.ln();
        1.0 / (1.0 + (-log_odds).exp())
    }

    /// Whether a loss of this confidence is called one. Where no point is known to miss anything nothing speaks
    /// against the loss but that there is little data, which the confidence says.
    pub(crate) fn suffices(&self, confidence: f64) -> bool {
        self.measured == 0.0 || confidence >= LEAST_CONFIDENCE
    }
}

/// The chance of a loss on a leg on which `missing` of `total` segments are missing: their share, less what the later
/// points miss anyway, which is `missed` of all that pass.
pub(crate) fn prior(missing: u64, total: u64, missed: f64) -> f64 {
    let least = 0.5 / (total as f64 + 1.0);
    let share = (missing as f64 + 0.5) / (total as f64 + 1.0);
    ((share - missed) / (1.0 - missed).max(f64::MIN_POSITIVE)).clamp(least, 1.0 - least)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(all_missed: f64) -> Word {
        Word { all_missed, measured: all_missed }
    }

    #[test]
    fn a_loss_is_as_sure_as_bayes_says() {
        // 10 % are lost and 5 % of the rest missed: of 145 missing in 1000, 100 were lost.
        let prior = prior(145, 1_000_000 / 1000, 0.05);
        assert!((prior - 0.1).abs() < 1e-3, "{prior}");
        assert!((word(0.05).confidence(prior) - 100.0 / 145.0).abs() < 5e-3);
    }

    #[test]
    fn missing_no_more_than_the_points_miss_is_no_evidence_of_loss() {
        let prior = prior(50, 1000, 0.05);
        let word = word(0.05);
        assert!(word.confidence(prior) < 0.05);
        assert!(!word.suffices(word.confidence(prior)));
    }

    #[test]
    fn a_total_loss_is_sure_and_not_more() {
        let confidence = Word { all_missed: 0.5, measured: 0.0 }.confidence(prior(1, 1, 0.0));
        assert!((0.5..1.0).contains(&confidence), "{confidence}");
    }
}
