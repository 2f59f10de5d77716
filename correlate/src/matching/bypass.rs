//! Points at the end of a path that packets do not pass: a program hands them past the pod's veth into the pod
//! (`bpf_redirect_peer`).
//!
//! A point between two that saw a conversation and that saw none of it is off its path, which needs no proof. At the
//! end of a path this would take every black hole for a bypass, so it takes acknowledgments: segments that arrived
//! though no later point saw any of their conversation. What else is to end there, comes by the same point before it,
//! and was seen there as little, goes past as well; unless something else between the same two ends was seen there.

use std::collections::{BTreeMap, BTreeSet};

use crate::losses::tally::Tally;
use crate::matching::plan::Plans;

/// Segments that must have arrived unseen: a point that misses packets without knowing seldom misses so many and sees
/// none.
const ENOUGH: u64 = 10;

/// Ends of paths: the last point packets pass, then those they go past.
pub(crate) type Bypasses = BTreeSet<Vec<usize>>;

/// The points that acknowledgments show to be off the end of a path.
pub(crate) fn find(plans: &Plans, tallies: &BTreeMap<u32, Tally>) -> Bypasses {
    let mut found = Bypasses::new();
    for (&conversation, _) in tallies.iter().filter(|(_, tally)| tally.acknowledged >= ENOUGH) {
        let course = plans.courses[conversation as usize];
        let plan = &plans.plans[course.plan as usize];
        if course.beyond() != 0 && plan.dirty_mask() & course.beyond() == 0 {
            found.extend(plan.path.points.get(course.last() as usize..).map(<[usize]>::to_vec));
        }
    }
    found
}

/// Takes the points off the paths that end like this and of which nothing was seen there.
pub(crate) fn apply(found: &Bypasses, plans: &mut Plans) {
    if found.is_empty() {
        return;
    }
    let mut past: Vec<u32> = plans.plans.iter().map(|plan| end(&plan.path.points, found)).collect();
    for course in &plans.courses {
        if course.saw(past[course.plan as usize]) {
            past[course.plan as usize] = 0;
        }
    }
    for course in &mut plans.courses {
        course.bypass(past[course.plan as usize]);
    }
}

/// Positions at the end of a path that packets go past.
fn end(points: &[usize], found: &Bypasses) -> u32 {
    let longest =
        found.iter().filter(|end| points.ends_with(end)).map(|end| end.len() - 1).max().unwrap_or(0);
    let all = u32::MAX.checked_shr(32_u32.saturating_sub(points.len() as u32)).unwrap_or(0);
    all & !all.checked_shr(longest as u32).unwrap_or(0)
}
