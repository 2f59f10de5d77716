//! From trajectories to states.
//!
//! A segment is judged if the first point that saw it did so in the window, unless that is the only point of its path
//! and nothing says that it went on: then it was compared with nothing, and the point only counts it. It is `delivered` if the last point of
//! its path saw it. Otherwise every later point is asked whether it was capturing without drops when the segment could
//! have passed: if one was, the segment is `lost`; if none was, `not_observable`. A segment last seen so late that
//! recording ended around it is `in_flight`.
//!
//! Of identical copies the missing ones are counted where they are missing, and which of them it was does not matter.
//! Only where one copy belongs to the window and another does not, and time cannot tell which of them arrived, is even
//! the count uncertain: that is `ambiguous`.

use crate::coverage::Coverage;
use crate::input::{Job, Window};
use crate::plan::{Course, Plan, Plans};
use crate::sighting::Sighting;
use crate::tally::{Missing, Tally};
use crate::trajectory::{Assigner, Trajectory};

/// How long a segment may take to the points after it and still be asked for there, nanoseconds.
const PASSING_NANOS: i64 = 100_000_000;
/// A segment last seen this close to the end of recording may still be on its way, nanoseconds.
const SETTLE_NANOS: i64 = 1_000_000_000;
/// Copies that arrived within this time of each other cannot be told apart by delay, nanoseconds.
const AMBIGUITY_NANOS: i64 = 50_000_000;

/// What every judgement needs, shared by the threads of a run.
#[derive(Debug)]
pub(crate) struct Court<'a> {
    pub(crate) plans: &'a Plans,
    coverage: &'a [Coverage],
    window: Window,
    recorded_to: i64,
    bound: i64,
}

impl<'a> Court<'a> {
    pub(crate) fn new(job: &Job, plans: &'a Plans, coverage: &'a [Coverage]) -> Self {
        let bound = job.guard_nanos.max(SETTLE_NANOS);
        let recorded_to = job.window.end_nanos.saturating_add(job.guard_nanos);
        Self { plans, coverage, window: job.window, recorded_to, bound }
    }

    /// Judges all sightings of one identity in one conversation, in order of time.
    pub(crate) fn hear(
        &self,
        group: &[Sighting],
        assigner: &mut Assigner,
        tally: &mut Tally,
        missing: &mut impl FnMut(Missing),
    ) {
        let course = self.plans.courses[group[0].owner as usize];
        let plan = &self.plans.plans[course.plan as usize];
        let bound = self.bound.saturating_add(plan.slack);
        // Identifications wrap: the same identity after a longer silence than any delay is another segment.
        let together = |a: &Sighting, b: &Sighting| b.time.saturating_sub(a.time) <= bound;
        for cluster in group.chunk_by(together) {
            let is_blind = |at: u32, time: i64| self.is_blind(plan, course, at, time);
            assigner.assign(plan, cluster, bound, is_blind);
            Case { court: self, plan, course, evidence: &cluster[0], assigner }.decide(tally, missing);
        }
    }

    fn is_judged(&self, time: i64) -> bool {
        (self.window.start_nanos..self.window.end_nanos).contains(&time)
    }

    fn is_blind(&self, plan: &Plan, course: Course, at: u32, time: i64) -> bool {
        let is_off = course.active & 1 << at == 0;
        is_off
            || !self.coverage[plan.path.points[at as usize]]
                .is_clean(time.saturating_sub(plan.slack), time.saturating_add(plan.slack))
    }
}

struct Case<'c, 'a> {
    court: &'c Court<'a>,
    plan: &'c Plan,
    course: Course,
    /// The first sighting: what the copies have in common.
    evidence: &'c Sighting,
    assigner: &'c Assigner,
}

impl Case<'_, '_> {
    fn decide(&self, tally: &mut Tally, missing: &mut impl FnMut(Missing)) {
        for step in &self.assigner.steps {
            let skipped =
                self.course.active & !(u32::MAX << step.to) & !((2_u32 << step.from).wrapping_sub(1));
            if skipped == 0 && self.court.is_judged(step.first) {
                tally.hops[step.to as usize].delays.add(step.nanos);
            }
        }
        for copy in &self.assigner.copies {
            if self.court.is_judged(copy.first) {
                self.decide_one(copy, tally, missing);
            }
        }
    }

    fn decide_one(&self, copy: &Trajectory, tally: &mut Tally, missing: &mut impl FnMut(Missing)) {
        if copy.is_extra {
            tally.totals.duplicated += 1;
            return;
        }
        self.count_hops(copy, tally);
        if self.plan.is_uncompared {
            return;
        }
        tally.totals.segments += 1;
        let later = self.course.active & (u32::MAX << copy.reach()) & !(1 << copy.reach());
        if later == 0 && (self.plan.is_end_unseen || self.course.is_open) {
            tally.totals.not_observable += 1;
        } else if later == 0 {
            tally.totals.delivered += 1;
        } else if self.court.recorded_to.saturating_sub(copy.last) < SETTLE_NANOS {
            tally.totals.in_flight += 1;
        } else {
            self.decide_missing(copy, later, tally, missing);
        }
    }

    fn decide_missing(
        &self,
        copy: &Trajectory,
        later: u32,
        tally: &mut Tally,
        missing: &mut impl FnMut(Missing),
    ) {
        let testify = self.witnesses(copy.last, later);
        if testify == 0 {
            tally.totals.not_observable += 1;
        } else if self.is_ambiguous(copy) {
            tally.totals.ambiguous += 1;
        } else {
            let record = self.record(copy, testify);
            tally.miss(copy.reach(), record);
            missing(record);
        }
    }

    fn count_hops(&self, copy: &Trajectory, tally: &mut Tally) {
        let mut left = copy.mask;
        while left != 0 {
            tally.hops[left.trailing_zeros() as usize].seen += 1;
            left &= left - 1;
        }
        let end = &mut tally.hops[copy.reach() as usize];
        end.ended += 1;
        end.longest_ended = end.longest_ended.max(self.evidence.ip_length);
        for &(at, point) in &self.plan.dirty {
            let rate = self.court.coverage[point].miss_rate(copy.first, copy.first);
            tally.hops[usize::from(at)].doubt(rate);
        }
        tally.totals.bypassed += u64::from((self.course.bypassed & !copy.mask).count_ones());
        let before = self.course.active & ((1 << copy.mask.trailing_zeros()) - 1);
        if self.course.is_coarse && before != 0 && self.evidence.payload_length() > 0 {
            tally.orphaned |= copy.mask;
        }
    }

    /// Later points that would have seen the segment if it had come.
    fn witnesses(&self, last: i64, later: u32) -> u32 {
        let start = last.saturating_sub(self.plan.slack);
        let end = last.saturating_add(self.plan.slack).saturating_add(PASSING_NANOS);
        let points = self.plan.path.points.iter().enumerate();
        let asked = points.filter(|(at, _)| later & 1 << at != 0);
        let could_see = asked.filter(|(_, point)| self.court.coverage[**point].is_clean(start, end));
        could_see.fold(0, |mask, (at, _)| mask | 1 << at)
    }

    /// Another copy, which is not judged, got further at a time at which this one could have.
    fn is_ambiguous(&self, copy: &Trajectory) -> bool {
        let earliest = copy.last.saturating_sub(self.plan.slack);
        let latest = copy.last.saturating_add(self.plan.slack).saturating_add(AMBIGUITY_NANOS);
        self.assigner.copies.len() > 1
            && self.assigner.copies.iter().any(|other| {
                other.reach() > copy.reach()
                    && !self.court.is_judged(other.first)
                    && (earliest..=latest).contains(&other.last)
            })
    }

    fn record(&self, copy: &Trajectory, testify: u32) -> Missing {
        let Sighting { k0, owner, tcp_seq, ip_length, ip_id, tcp_flags, header_length, .. } = *self.evidence;
        Missing {
            first: copy.first,
            k0,
            tcp_seq,
            mask: copy.mask,
            testify,
            conversation: owner,
            ip_length,
            ip_id,
            tcp_flags,
            header_length,
        }
    }
}
