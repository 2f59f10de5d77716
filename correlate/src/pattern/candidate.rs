//! A trait that may set the lost apart, and the choice among several.

use std::ops::RangeInclusive;

use super::chance::Split;
use super::profile::Profile;

/// Chance that any pattern of a report is one that is not there.
const CHANCE_OF_REPORT: f64 = 0.005;
/// Traits that are tried on one loss, each of which may take an equal part of that chance: the kinds, with burst
/// counting once for each number of bursts.
const TRIED: f64 = 13.0 + (super::times::MOST_BURSTS - 1) as f64;
/// Share of the lost that a pattern must explain.
pub(super) const MIN_COVERAGE: f64 = 0.9;
/// How many times as often those with the trait must be lost as those without.
const MIN_RISK: f64 = 4.0;
/// Traits whose evidence differs by less than this, in natural logarithms or as a share, explain the loss equally well.
const EQUAL_LN: f64 = 3.0;
const EQUAL_SHARE: f64 = 0.01;

/// What the lost may have in common, the simplest first: of traits that explain a loss equally well the first wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Protocol,
    Fragment,
    Flag,
    Dscp,
    Ecn,
    Size,
    Burst,
    Period,
    Port,
    Destination,
    Source,
    Flow,
    Direction,
}

impl Kind {
    /// As reports name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Protocol => "protocol",
            Self::Fragment => "fragment",
            Self::Flag => "flag",
            Self::Dscp => "dscp",
            Self::Ecn => "ecn",
            Self::Size => "size",
            Self::Burst => "burst",
            Self::Period => "period",
            Self::Port => "port",
            Self::Destination => "destination",
            Self::Source => "source",
            Self::Flow => "flow",
            Self::Direction => "direction",
        }
    }
}

/// Which segments have a trait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Holders {
    /// Those whose marks, masked, are these.
    Marks { mask: u16, value: u16 },
    /// Those of these lengths.
    Lengths(RangeInclusive<u16>),
    /// Those sent in these bins.
    Bins(Vec<bool>),
    /// Those of these conversations, ascending.
    Conversations(Vec<u32>),
    /// Those of a leg, and not those of the way back.
    Leg,
}

impl Holders {
    /// Segments of a profile that have the trait. Conversations are not told apart in it.
    pub(crate) fn count(&self, profile: &Profile) -> u64 {
        match self {
            Self::Marks { mask, value } => {
                sum(profile.marks.iter().filter(|(mark, _)| mark & mask == *value).map(|m| m.1))
            }
            Self::Lengths(lengths) => sum(profile
                .sizes
                .iter()
                .filter(|size| lengths.contains(&size.longest))
                .map(|size| size.count)),
            Self::Bins(bins) => {
                sum(profile.times.iter().zip(bins).filter(|(_, is_in)| **is_in).map(|(count, _)| *count))
            }
            Self::Conversations(_) | Self::Leg => profile.count(),
        }
    }
}

fn sum(counts: impl Iterator<Item = u32>) -> u64 {
    counts.map(u64::from).sum()
}

/// A trait with what speaks for it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) kind: Kind,
    pub(crate) holders: Holders,
    pub(crate) split: Split,
    /// Natural logarithm of how many traits of the kind were looked at.
    pub(crate) ln_tried: f64,
    /// Says of segments in the plural that they have it, `are 1,450 bytes or longer`.
    pub(crate) what: String,
    /// Names the others behind a number, `shorter`.
    pub(crate) rest: &'static str,
}

impl Candidate {
    /// Natural logarithm of the chance to see as much in any trait of the kind.
    pub(crate) fn ln_chance(&self) -> f64 {
        self.split.ln_chance() + self.ln_tried
    }

    /// More than chance, common enough to the lost and rare enough among the others, in a report that judges `tests`
    /// losses.
    fn is_significant(&self, tests: usize) -> bool {
        let split = &self.split;
        split.lost_with >= 2
            && split.passed_without > 0
            && split.coverage() >= MIN_COVERAGE
            && split.relative_risk() >= MIN_RISK
            && self.ln_chance() <= (CHANCE_OF_REPORT / TRIED / tests.max(1) as f64).ln()
    }
}

/// The simplest of the traits that explain a loss best, if any is significant.
pub(crate) fn choose(candidates: Vec<Candidate>, tests: usize) -> Option<Candidate> {
    let mut fit: Vec<_> = candidates.into_iter().filter(|one| one.is_significant(tests)).collect();
    let best = fit.iter().map(Candidate::ln_chance).min_by(f64::total_cmp)?;
    fit.retain(|one| one.ln_chance() <= best + EQUAL_LN.max(-best * EQUAL_SHARE));
    fit.into_iter().min_by(|a, b| a.kind.cmp(&b.kind).then(a.ln_chance().total_cmp(&b.ln_chance())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(kind: Kind, lost_with: u64, passed_with: u64, tried: f64) -> Candidate {
        Candidate {
            kind,
            holders: Holders::Leg,
            split: Split::new((lost_with, 50), (passed_with, 1000)),
            ln_tried: tried.ln(),
            what: String::new(),
            rest: "",
        }
    }

    #[test]
    fn of_equal_explanations_the_simplest_wins_and_of_unequal_ones_the_better() {
        let kind = |candidates: Vec<Candidate>| choose(candidates, 1).map(|one| one.kind);
        let equal = || vec![candidate(Kind::Flow, 50, 0, 20.0), candidate(Kind::Port, 50, 0, 5.0)];
        assert_eq!(kind(equal()), Some(Kind::Port));
        let unequal = vec![candidate(Kind::Flow, 50, 0, 20.0), candidate(Kind::Port, 50, 100, 5.0)];
        assert_eq!(kind(unequal), Some(Kind::Flow));
    }

    #[test]
    fn what_explains_too_little_or_is_common_is_no_pattern() {
        for (lost_with, passed_with) in [(44, 0), (50, 960), (1, 0), (50, 1000)] {
            assert_eq!(choose(vec![candidate(Kind::Flag, lost_with, passed_with, 1.0)], 1), None);
        }
        assert!(choose(vec![candidate(Kind::Flag, 46, 20, 1.0)], 1).is_some());
    }

    #[test]
    fn more_losses_to_judge_ask_for_more_evidence() {
        let few = || {
            let split = Split::new((2, 2), (0, 500));
            vec![Candidate { split, ..candidate(Kind::Size, 2, 0, 4.0) }]
        };
        assert!(choose(few(), 1).is_some());
        assert!(choose(few(), 100).is_none());
    }
}
