//! Points at the end of a path that packets do not pass: a program hands them past the pod's veth into the pod
//! (`bpf_redirect_peer`).
//!
//! A point between two that saw a conversation and that saw none of it is off its path, which needs no proof. At the
//! end of a path this would take every black hole for a bypass, so it takes acknowledgments: segments that arrived
//! though no later point saw any of their conversation. What else goes that path and was not seen there either goes
//! past these points as well.

use std::collections::BTreeMap;

use crate::plan::Plans;
use crate::tally::Tally;

/// Segments that must have arrived unseen: a point that misses packets without knowing seldom misses so many and sees
/// none.
const ENOUGH: u64 = 10;

/// Points off the ends of paths, by plan.
pub(crate) type Bypasses = BTreeMap<u32, u32>;

/// The points that acknowledgments show to be off the end of a path.
pub(crate) fn find(plans: &Plans, tallies: &BTreeMap<u32, Tally>) -> Bypasses {
    let mut found = Bypasses::new();
    for (&conversation, _) in tallies.iter().filter(|(_, tally)| tally.acknowledged >= ENOUGH) {
        let course = plans.courses[conversation as usize];
        let beyond = course.beyond();
        if beyond != 0 && plans.plans[course.plan as usize].dirty_mask() & beyond == 0 {
            *found.entry(course.plan).or_insert(beyond) &= beyond;
        }
    }
    found
}

/// Takes the points off the paths of all conversations that were not seen there.
pub(crate) fn apply(found: &Bypasses, plans: &mut Plans) {
    for course in &mut plans.courses {
        if let Some(points) = found.get(&course.plan) {
            course.bypass(course.beyond() & points);
        }
    }
}
