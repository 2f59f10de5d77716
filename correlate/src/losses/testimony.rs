//! From missing segments to losses on legs: which later points testify, and which losses their word is enough for.

use std::collections::BTreeMap;

use crate::input::Job;
use crate::losses::confidence::{Word, prior};
use crate::losses::sandwich::MissRate;
use crate::losses::tally::{Class, MissingTally, Tally};
use crate::matching::drops::Drops;
use crate::matching::plan::{Course, Plan};
use crate::report::DropReason;

/// How many deviations more than expected may be the work of chance.
const DEVIATIONS: f64 = 3.0;

/// Segments lost between two positions of a path.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LegLoss {
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) missing: MissingTally,
    /// Segments that reached `from`.
    pub(crate) total: u64,
    /// Segments that were seen beyond `from`.
    pub(crate) passed: u64,
    /// Inner IP length of the longest of them.
    pub(crate) longest_passed: u16,
    /// Mean over the segments.
    pub(crate) confidence: f64,
    /// What most drop events name.
    pub(crate) reason: Option<DropReason>,
}

/// Missing segments that were not called lost, because the points that did not see them are known to miss some.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Doubt {
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) count: u64,
    /// That they were lost.
    pub(crate) confidence: f64,
}

/// What became of one class of missing segments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fate {
    /// Where they should have been seen first.
    pub(crate) to: u32,
    pub(crate) confidence: f64,
}

/// All that is missing of a conversation.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Settlement {
    /// Worst leg first.
    pub(crate) losses: Vec<LegLoss>,
    pub(crate) doubts: Vec<Doubt>,
    /// Of the classes that were called lost.
    pub(crate) fates: BTreeMap<Class, Fate>,
}

/// What it takes to settle the losses of a run.
#[derive(Debug)]
pub(crate) struct Settler<'a> {
    pub(crate) job: &'a Job,
    pub(crate) rates: &'a [MissRate],
    pub(crate) drops: &'a Drops,
}

/// Segments missing after each position, and how many of those that passed it all witnesses miss on average.
#[derive(Clone, Copy, Debug, Default)]
struct Gone {
    count: u64,
    /// Sum over the missing.
    missed: f64,
}

enum Judgement {
    /// Nobody testifies.
    Unseen,
    Doubted(Fate),
    Lost(Fate),
}

/// What is lost on one leg, while it is summed.
#[derive(Debug, Default)]
struct Leg {
    missing: MissingTally,
    /// Sum over the segments.
    confidence: f64,
    by_reason: BTreeMap<u16, u64>,
}

impl Settler<'_> {
    /// Settles what is missing: fills in `lost`, and what nobody testifies to, or too weakly, as `not_observable`.
    pub(crate) fn settle(&self, plan: &Plan, course: Course, tally: &mut Tally) -> Settlement {
        let mut settlement = Settlement::default();
        let mut legs: BTreeMap<(u32, u32), Leg> = BTreeMap::new();
        let gone = self.gone(plan, course, tally);
        for (&class, missing) in &tally.missing {
            let from = u32::from(class.from);
            match self.judge(plan, course, tally, &gone, class) {
                Judgement::Lost(fate) => {
                    tally.totals.lost += missing.count;
                    settlement.fates.insert(class, fate);
                    legs.entry((from, fate.to)).or_default().add(class, missing, fate);
                }
                Judgement::Doubted(Fate { to, confidence }) => {
                    tally.totals.not_observable += missing.count;
                    settlement.doubts.push(Doubt { from, to, count: missing.count, confidence });
                }
                Judgement::Unseen => tally.totals.not_observable += missing.count,
            }
        }
        settlement.losses = legs.into_iter().map(|(ends, leg)| self.loss(tally, ends, leg)).collect();
        settlement.losses.sort_by_key(|loss| (std::cmp::Reverse(loss.missing.count), loss.from, loss.to));
        settlement
    }

    fn word(&self, plan: &Plan, witnesses: u32) -> Word {
        Word::of(self.job, self.rates, &plan.path.points, witnesses)
    }

    /// By position.
    fn gone(&self, plan: &Plan, course: Course, tally: &Tally) -> Vec<Gone> {
        let mut gone = vec![Gone::default(); plan.len()];
        for (class, missing) in &tally.missing {
            let at = &mut gone[usize::from(class.from)];
            at.count += missing.count;
            let witnesses = witnesses(course, tally, class.testify);
            if class.drop == 0 && witnesses != 0 {
                at.missed += missing.count as f64 * self.word(plan, witnesses).measured;
            }
        }
        gone
    }

    fn judge(&self, plan: &Plan, course: Course, tally: &Tally, gone: &[Gone], class: Class) -> Judgement {
        let from = usize::from(class.from);
        let witnesses = witnesses(course, tally, class.testify);
        if class.drop != 0 {
            let to = self.drops.leg_end(self.job, plan, course, class);
            return Judgement::Lost(Fate { to, confidence: 1.0 });
        }
        if witnesses == 0 {
            return Judgement::Unseen;
        }
        let Gone { count, missed } = gone[from];
        let prior = prior(count, tally.hops[from].seen, missed / count as f64);
        let word = self.word(plan, witnesses);
        let confidence = word.confidence(prior);
        let fate = Fate { to: self.leg_end(plan, gone, from, witnesses), confidence };
        if word.suffices(confidence) { Judgement::Lost(fate) } else { Judgement::Doubted(fate) }
    }

    /// The first point whose missing them is not just what it misses of the segments that are lost beyond it.
    fn leg_end(&self, plan: &Plan, gone: &[Gone], from: usize, witnesses: u32) -> u32 {
        let mut left = witnesses;
        while left & (left - 1) != 0 {
            let at = left.trailing_zeros();
            let share = self.rates[plan.path.points[at as usize]].share().min(0.99);
            let expected = gone[at as usize].count as f64 * share / (1.0 - share);
            if gone[from].count as f64 > expected + DEVIATIONS * expected.sqrt() {
                break;
            }
            left &= left - 1;
        }
        left.trailing_zeros()
    }

    fn loss(&self, tally: &Tally, (from, to): (u32, u32), leg: Leg) -> LegLoss {
        let beyond = &tally.hops[from as usize + 1..];
        let reason =
            leg.by_reason.iter().max_by_key(|(reason, count)| (**count, std::cmp::Reverse(**reason)));
        LegLoss {
            from,
            to,
            total: tally.hops[from as usize].seen,
            passed: beyond.iter().map(|hop| hop.ended).sum(),
            longest_passed: beyond.iter().map(|hop| hop.longest_ended).max().unwrap_or(0),
            confidence: leg.confidence / leg.missing.count as f64,
            reason: reason.map(|(reason, _)| self.drops.reason(*reason)),
            missing: leg.missing,
        }
    }
}

impl Leg {
    fn add(&mut self, class: Class, missing: &MissingTally, fate: Fate) {
        self.missing.merge(missing);
        self.confidence += missing.count as f64 * fate.confidence;
        if class.drop != 0 {
            *self.by_reason.entry(class.drop).or_default() += missing.count;
        }
    }
}

/// The points that testify. Super-packets of unknown segment size may hide segments at a point that saw some which
/// points before it did not.
fn witnesses(course: Course, tally: &Tally, testify: u32) -> u32 {
    if course.is_coarse { testify & !tally.orphaned } else { testify }
}
