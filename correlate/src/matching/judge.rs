//! From trajectories to states.
//!
//! A segment is judged if the first point that saw it did so in the window, unless that is the only point of its path
//! and nothing says that it went on: then it was compared with nothing, and the point only counts it. It is `delivered`
//! if the last point of its path saw it. Otherwise every later point is asked whether it was capturing without drops
//! when the segment could have passed: if none was, the segment is `not_observable`; else it is missing, and what the
//! word of those that were is worth decides later whether it is `lost`. A drop event proves a loss whoever was
//! capturing; an acknowledgment proves that a segment arrived and every later point missed it. A segment last seen so
//! late that recording ended around it is `in_flight`.
//!
//! Of identical copies the missing ones are counted where they are missing, and which of them it was does not matter.
//! Only where one copy belongs to the window and another does not, and time cannot tell which of them arrived, is even
//! the count uncertain: that is `ambiguous`. And where time cannot tell copies apart and a point was blind while some
//! of them passed, as many missing ones may be those that were missed: they are `not_observable`, see
//! [`crate::matching::alike`].

use std::cell::OnceCell;

use crate::evidence::coverage::{Coverage, PASSING_NANOS};
use crate::evidence::sighting::Sighting;
use crate::input::{Job, Window};
use crate::losses::sandwich::Sandwich;
use crate::losses::tally::{Missing, Tally};
use crate::matching::acks::Acks;
use crate::matching::alike::Alike;
use crate::matching::drops::{Drops, Open};
use crate::matching::outsiders::Outsiders;
use crate::matching::plan::{Course, Plan, Plans};
use crate::matching::trajectory::{Assigner, Trajectory};
use crate::pattern::Timeline;

/// A segment last seen this close to the end of recording may still be on its way, nanoseconds.
pub(crate) const SETTLE_NANOS: i64 = 1_000_000_000;
/// Copies that arrived within this time of each other cannot be told apart by delay, nanoseconds.
const AMBIGUITY_NANOS: i64 = 50_000_000;

/// What proves the fate of a segment whatever points saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proofs<'a> {
    pub(crate) acks: &'a Acks<'a>,
    pub(crate) drops: &'a Drops,
}

/// Where a worker writes down what it finds.
#[derive(Debug)]
pub(crate) struct Ledger<'l> {
    /// Of the conversation at hand.
    pub(crate) tally: &'l mut Tally,
    pub(crate) sandwich: &'l mut Sandwich,
    pub(crate) missing: &'l mut Vec<Missing>,
}

/// What every judgement needs, shared by the threads of a run.
#[derive(Debug)]
pub(crate) struct Court<'a> {
    pub(crate) job: &'a Job,
    pub(crate) plans: &'a Plans,
    coverage: &'a [Coverage],
    proofs: Proofs<'a>,
    window: Window,
    recorded_to: i64,
    bound: i64,
    timeline: &'a Timeline,
}

impl<'a> Court<'a> {
    pub(crate) fn new(
        job: &'a Job,
        plans: &'a Plans,
        coverage: &'a [Coverage],
        proofs: Proofs<'a>,
        timeline: &'a Timeline,
    ) -> Self {
        let bound = longest_delay(job);
        let recorded_to = job.window.end_nanos.saturating_add(job.guard_nanos);
        Self { job, plans, coverage, proofs, window: job.window, recorded_to, bound, timeline }
    }

    /// Judges all sightings of one identity in one conversation, in order of time.
    pub(crate) fn hear(&self, group: &[Sighting], assigner: &mut Assigner, ledger: &mut Ledger<'_>) {
        let course = self.plans.courses[group[0].owner as usize];
        let plan = &self.plans.plans[course.plan as usize];
        let bound = self.bound.saturating_add(plan.slack);
        let together = |a: &Sighting, b: &Sighting| b.time.saturating_sub(a.time) <= bound;
        let mut drops = self.proofs.drops.of(group[0].k0);
        for cluster in group.chunk_by(together) {
            let is_blind = |at: u32, time: i64| self.is_blind(plan, course, at, time);
            assigner.assign(plan, cluster, bound, is_blind);
            let (alike, outsiders) = Default::default();
            Case { court: self, plan, course, evidence: &cluster[0], assigner, alike, outsiders }
                .decide(&mut drops, ledger);
        }
    }

    fn is_judged(&self, time: i64) -> bool {
        (self.window.start_nanos..self.window.end_nanos).contains(&time)
    }

    /// Whether a position may have missed what a later one saw at a time. On slow paths too it is asked for near that time
    /// alone: what is looked for is another copy, and before the recording every position is blind.
    fn is_blind(&self, plan: &Plan, course: Course, at: u32, time: i64) -> bool {
        let is_off = course.active & 1 << at == 0;
        let earliest = time.saturating_sub(plan.slack).saturating_sub(PASSING_NANOS);
        is_off
            || !self.coverage[plan.path.points[at as usize]]
                .is_clean(earliest, time.saturating_add(plan.slack))
    }
}

/// Identifications wrap: the same identity after a longer silence, clocks' errors aside, is another segment.
pub(crate) fn longest_delay(job: &Job) -> i64 {
    job.guard_nanos.max(SETTLE_NANOS)
}

struct Case<'c, 'a> {
    court: &'c Court<'a>,
    plan: &'c Plan,
    course: Course,
    /// The first sighting: what the copies have in common.
    evidence: &'c Sighting,
    assigner: &'c Assigner,
    /// Found out where copies are missing.
    alike: Option<Alike>,
    outsiders: OnceCell<Outsiders>,
}

impl Case<'_, '_> {
    fn decide(mut self, drops: &mut Open<'_>, ledger: &mut Ledger<'_>) {
        let Assigner { copies, steps, .. } = self.assigner;
        for step in steps {
            let skipped =
                self.course.active & !(u32::MAX << step.to) & !((2_u32 << step.from).wrapping_sub(1));
            if skipped == 0 && self.court.is_judged(step.first) {
                ledger.tally.hops[step.to as usize].delays.add(step.nanos);
            }
        }
        if let [copy] = copies.as_slice() {
            ledger.tally.longest_nanos = ledger.tally.longest_nanos.max(copy.last.saturating_sub(copy.first));
        }
        for copy in copies {
            if self.court.is_judged(copy.first) {
                self.decide_one(copy, drops, ledger);
            }
        }
    }

    fn decide_one(&mut self, copy: &Trajectory, drops: &mut Open<'_>, ledger: &mut Ledger<'_>) {
        if copy.is_extra {
            ledger.tally.totals.duplicated += 1;
            return;
        }
        let bin = self.court.timeline.bin(self.evidence.owner, copy.first);
        self.count_hops(copy, bin, ledger.tally);
        if self.plan.is_uncompared {
            return;
        }
        self.count_passed(copy, ledger.sandwich);
        let totals = &mut ledger.tally.totals;
        totals.segments += 1;
        ledger.tally.bytes += u64::from(self.evidence.payload_length());
        let later = self.course.active & (u32::MAX << copy.reach()) & !(1 << copy.reach());
        if later == 0 && (self.plan.is_end_unseen || self.course.is_open) {
            totals.not_observable += 1;
        } else if later == 0 {
            totals.delivered += 1;
        } else if self.court.recorded_to.saturating_sub(copy.last) < SETTLE_NANOS {
            totals.in_flight += 1;
        } else {
            self.decide_missing((copy, bin), later, drops, ledger);
        }
    }

    fn decide_missing(
        &mut self,
        (copy, bin): (&Trajectory, u16),
        later: u32,
        drops: &mut Open<'_>,
        ledger: &mut Ledger<'_>,
    ) {
        let until = copy.last.saturating_add(self.court.bound).saturating_add(self.plan.slack);
        let drop = drops.take(copy.last.saturating_sub(self.plan.slack), until);
        let is_acknowledged = drop == 0 && self.is_acknowledged(copy);
        ledger.tally.acknowledged += u64::from(is_acknowledged);
        if is_acknowledged && !self.court.proofs.acks.is_partial() {
            ledger.tally.totals.delivered += 1;
            ledger.sandwich.count_at(&self.plan.path.points, later, copy);
            return;
        }
        let testify = self.witnesses(copy, later);
        if drop == 0 && (testify == 0 || copy.may_be_late || self.may_be_another(copy)) {
            ledger.tally.totals.not_observable += 1;
        } else if drop == 0 && self.is_ambiguous(copy) {
            ledger.tally.totals.ambiguous += 1;
        } else {
            let record = self.record(copy, testify, drop);
            ledger.tally.miss(record, self.evidence, bin);
            ledger.missing.push(record);
        }
    }

    /// Counts at which points the segment was seen or missed on its way. That it passed the last of them only an
    /// acknowledgment can tell.
    fn count_passed(&self, copy: &Trajectory, sandwich: &mut Sandwich) {
        if self.course.is_coarse {
            return;
        }
        let points = &self.plan.path.points;
        let is_end = copy.reach() as usize + 1 == points.len();
        let is_answered =
            is_end && self.evidence.payload_length() > 0 && self.court.proofs.acks.has(self.evidence.owner);
        let end = if is_answered { 1 << copy.reach() } else { 0 };
        sandwich.count_at(points, end | self.course.active & copy.between(), copy);
    }

    /// An acknowledgment proves that the segment arrived, and points that would have seen another transmission of its
    /// bytes saw none until then.
    fn is_acknowledged(&self, copy: &Trajectory) -> bool {
        let slack = self.plan.slack;
        let is_alone = !self.course.is_coarse && self.assigner.copies.len() == 1;
        let proof = if is_alone { self.court.proofs.acks.proved(self.evidence, copy, slack) } else { None };
        let nearest = self.plan.path.points[copy.mask.trailing_zeros() as usize];
        proof.is_some_and(|time| {
            let (start, end) = (copy.first.saturating_sub(slack), time.max(copy.first).saturating_add(slack));
            self.court.coverage[nearest].is_clean_around(start, end, self.plan.passing)
        })
    }

    fn count_hops(&self, copy: &Trajectory, bin: u16, tally: &mut Tally) {
        let mut left = copy.mask;
        while left != 0 {
            tally.hops[left.trailing_zeros() as usize].seen += 1;
            left &= left - 1;
        }
        tally.hops[copy.reach() as usize].end(self.evidence, bin);
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

    /// Later points that would have seen the segment if it had come. None if when it went on is on no clock of theirs.
    fn witnesses(&self, copy: &Trajectory, later: u32) -> u32 {
        if self.court.coverage[self.plan.path.points[copy.reach() as usize]].is_apart {
            return 0;
        }
        let last = copy.last;
        let start = last.saturating_sub(self.plan.slack);
        let end = last.saturating_add(self.plan.slack).saturating_add(self.plan.passing);
        let points = self.plan.path.points.iter().enumerate();
        let asked = points.filter(|(at, _)| later & 1 << at != 0);
        let could_see = asked.filter(|(_, point)| self.court.coverage[**point].is_clean(start, end));
        could_see.fold(0, |mask, (at, _)| mask | 1 << at)
    }

    /// Another copy, which is not judged, got further at a time at which this one could have.
    fn is_ambiguous(&self, copy: &Trajectory) -> bool {
        let earliest = copy.last.saturating_sub(self.plan.slack);
        let latest = copy.last.saturating_add(self.plan.slack).saturating_add(AMBIGUITY_NANOS);
        let Assigner { copies, .. } = self.assigner;
        let outsiders = || Outsiders::new(copies, |first| self.court.is_judged(first));
        copies.len() > 1 && self.outsiders.get_or_init(outsiders).got_beyond(copy.reach(), earliest, latest)
    }

    /// It, or another that time cannot tell from it, passed points that may have missed it.
    fn may_be_another(&mut self, copy: &Trajectory) -> bool {
        let Assigner { copies, steps, .. } = self.assigner;
        if copies.len() < 2 {
            return false;
        }
        let (court, plan, active) = (self.court, self.plan, self.course.active);
        let may_miss = |start: i64, end: i64| {
            let mut active = plan.path.points.iter().enumerate().filter(|(at, _)| active & 1 << at != 0);
            active.any(|(_, point)| !court.coverage[*point].is_clean(start, end))
        };
        let alike = || Alike::new(copies, steps, (plan.slack, plan.passing), may_miss);
        self.alike.get_or_insert_with(alike).excuse(copy)
    }

    fn record(&self, copy: &Trajectory, testify: u32, drop: u16) -> Missing {
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
            drop,
            tcp_flags,
            header_length,
        }
    }
}
