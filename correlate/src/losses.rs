//! From missing segments to losses on legs: which later points may testify, and how much their word is worth.

use std::collections::BTreeMap;

use crate::coverage::Coverage;
use crate::input::Job;
use crate::plan::{Course, Plan};
use crate::tally::{MissingTally, Tally};

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
    pub(crate) confidence: f64,
}

/// Where segments that are missing after `from` should have been seen first: the first point that testifies. Absent if
/// none is left: super-packets of unknown segment size may hide them at a point that saw segments which points before
/// it did not.
pub(crate) fn first_witness(course: Course, tally: &Tally, testify: u32) -> Option<u32> {
    let witnesses = witnesses(course, tally, testify);
    (witnesses != 0).then(|| witnesses.trailing_zeros())
}

fn witnesses(course: Course, tally: &Tally, testify: u32) -> u32 {
    if course.is_coarse { testify & !tally.orphaned } else { testify }
}

/// Settles what is missing: fills in `lost`, and what nobody testifies to as `not_observable`. Worst leg first.
pub(crate) fn settle(
    job: &Job,
    coverage: &[Coverage],
    plan: &Plan,
    course: Course,
    tally: &mut Tally,
) -> Vec<LegLoss> {
    let mut legs: BTreeMap<(u32, u32), (MissingTally, f64)> = BTreeMap::new();
    for ((from, testify), missing) in &tally.missing {
        let from = u32::from(*from);
        let witnesses = witnesses(course, tally, *testify);
        if witnesses == 0 {
            tally.totals.not_observable += missing.count;
            continue;
        }
        tally.totals.lost += missing.count;
        let (sum, missed) = legs.entry((from, witnesses.trailing_zeros())).or_default();
        sum.merge(missing);
        *missed += missing.count as f64 * all_missed(job, coverage, plan, witnesses);
    }
    let mut losses: Vec<_> =
        legs.into_iter().map(|(leg, (missing, missed))| loss(tally, leg, missing, missed)).collect();
    losses.sort_by_key(|loss| (std::cmp::Reverse(loss.missing.count), loss.from, loss.to));
    losses
}

fn loss(tally: &Tally, (from, to): (u32, u32), missing: MissingTally, missed: f64) -> LegLoss {
    let beyond = &tally.hops[from as usize + 1..];
    let total = tally.hops[from as usize].seen;
    // The share that is missing is itself the best guess of how often packets are lost here.
    let prior = (missing.count as f64 + 0.5) / (total as f64 + 1.0);
    let chance = missed / missing.count as f64;
    LegLoss {
        from,
        to,
        total,
        passed: beyond.iter().map(|hop| hop.ended).sum(),
        longest_passed: beyond.iter().map(|hop| hop.longest_ended).max().unwrap_or(0),
        confidence: (prior / (prior + (1.0 - prior).max(0.0) * chance)).clamp(0.0, 1.0),
        missing,
    }
}

/// The chance that all of these points missed a packet that passed them: on one node what makes one miss makes all
/// miss, between nodes they are independent.
fn all_missed(job: &Job, coverage: &[Coverage], plan: &Plan, witnesses: u32) -> f64 {
    let mut by_node: BTreeMap<usize, f64> = BTreeMap::new();
    for (at, &point) in plan.path.points.iter().enumerate() {
        if witnesses & 1 << at != 0 {
            let rate = by_node.entry(job.points[point].node).or_insert(1.0);
            *rate = rate.min(coverage[point].floor());
        }
    }
    by_node.values().product()
}
