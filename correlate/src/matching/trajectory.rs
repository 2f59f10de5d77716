//! Trajectories: the sightings of one identity, assigned to copies.
//!
//! Where an identity was seen once per point there is nothing to assign. Otherwise copies are matched in path order:
//! each sighting, the latest first, continues the latest copy that was at the point before it, then at the point before
//! that. This is an order-preserving assignment of the largest size on each leg, so that each leg loses what its
//! points differ by, and it prefers short delays: of a SYN-ACK sent at 0, 1 and 3 s of which the first was lost, the
//! two that arrive at 1 and 3 s continue the right ones.
//!
//! Where an identity comes round again, a sighting that every point before it may have missed does not go on in place of
//! a copy that was lost long before: it is a copy of its own. Once another was sent after that one and came through,
//! nothing speaks against it, since queues keep the order; until then, or if no other came, the lost one may be late.

use std::ops::Range;

use crate::evidence::sighting::Sighting;
use crate::matching::plan::Plan;

/// A sighting is of the copy that was nearest on the path if that was no longer ago than this, nanoseconds. Where
/// copies are a slack apart, time alone would let one that was lost earlier go on in place of one that was not.
const NEAR_NANOS: i64 = 100_000_000;

/// One copy's way. Bit `i` of `mask` is point `i` of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trajectory {
    /// Points that saw it.
    pub(crate) mask: u32,
    /// Time at the first of them.
    pub(crate) first: i64,
    /// Time at the last of them.
    pub(crate) last: i64,
    /// Begins beyond a point that saw fewer copies: not a segment of its own.
    pub(crate) is_extra: bool,
    /// A copy that nobody saw before may be this one, late.
    pub(crate) may_be_late: bool,
}

/// What a sighting is to a copy that it could continue long after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    /// It continues it.
    Same,
    /// It is another, unless this one is late.
    Perhaps,
    /// It is another.
    Other,
}

impl Trajectory {
    fn start(at: u32, time: i64, is_extra: bool) -> Self {
        Self { mask: 1 << at, first: time, last: time, is_extra, may_be_late: false }
    }

    /// Positions between the first and the last that saw it.
    #[inline]
    pub(crate) fn between(&self) -> u32 {
        ((1 << self.reach()) - 1) & !((2_u32 << self.mask.trailing_zeros()).wrapping_sub(1))
    }

    /// Position of the last point that saw it.
    #[inline]
    pub(crate) fn reach(&self) -> u32 {
        self.mask.ilog2()
    }
}

/// A step of a copy from one point to a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Position left.
    pub(crate) from: u32,
    /// Position reached.
    pub(crate) to: u32,
    /// Time between, nanoseconds, clocks corrected.
    pub(crate) nanos: i64,
    /// When the copy was first seen.
    pub(crate) first: i64,
}

/// Reused memory of the assignment.
#[derive(Debug, Default)]
pub(crate) struct Assigner {
    /// Result: the copies.
    pub(crate) copies: Vec<Trajectory>,
    /// Result: their steps, extra copies left out.
    pub(crate) steps: Vec<Step>,
    placed: Vec<(u32, i64)>,
    /// Times of sightings at the position at hand that continue no copy yet.
    waiting: Vec<i64>,
    /// When copies came to the position at hand, ascending, each with the latest time at which one of those until then
    /// was first seen.
    came: Vec<(i64, i64)>,
}

impl Assigner {
    /// Assigns the sightings of one identity, in order of time, none further than `bound` from the one before.
    /// `is_blind` says whether a position may have missed packets at a time.
    pub(crate) fn assign(
        &mut self,
        plan: &Plan,
        sightings: &[Sighting],
        bound: i64,
        is_blind: impl Fn(u32, i64) -> bool,
    ) {
        self.copies.clear();
        self.steps.clear();
        self.place(plan, sightings);
        let was_missed = |at: u32, time: i64| (0..at).all(|before| is_blind(before, time));
        let is_next = |pair: &[(u32, i64)]| {
            let [(from, left), (at, time)] = [pair[0], pair[1]];
            from < at && (is_near(left, time, plan.slack) || !was_missed(at, time))
        };
        if self.placed.windows(2).all(is_next) {
            self.follow_one();
            return;
        }
        let placed = std::mem::take(&mut self.placed);
        for here in placed.chunk_by(|a, b| a.0 == b.0) {
            self.advance(here, plan.slack, bound, was_missed);
        }
        self.placed = placed;
        self.give_extras_away();
    }

    /// Positions and times by position, then time.
    fn place(&mut self, plan: &Plan, sightings: &[Sighting]) {
        self.placed.clear();
        let placed = sightings.iter().filter_map(|s| Some((plan.position(s.point)?, s.time)));
        self.placed.extend(placed);
        self.placed.sort_unstable();
    }

    fn follow_one(&mut self) {
        let Some((&(at, time), rest)) = self.placed.split_first() else { return };
        let mut copy = Trajectory::start(at, time, false);
        for &(at, time) in rest {
            self.steps.push(step(&copy, at, time));
            copy.mask |= 1 << at;
            copy.last = time;
        }
        self.copies.push(copy);
    }

    /// Continues copies through one position, whose sightings are in order of time: first those that were near, the
    /// nearest position first, then any.
    fn advance(
        &mut self,
        here: &[(u32, i64)],
        slack: i64,
        bound: i64,
        was_missed: impl Fn(u32, i64) -> bool,
    ) {
        let (known, at) = (self.copies.len(), here[0].0);
        self.waiting.clear();
        self.waiting.extend(here.iter().map(|&(_, time)| time));
        self.copies.sort_unstable_by_key(|copy| (copy.reach(), copy.last, copy.first, copy.mask));
        let mut end = known;
        while end > 0 && !self.waiting.is_empty() {
            let reach = self.copies[end - 1].reach();
            let begin = self.copies[..end].partition_point(|copy| copy.reach() < reach);
            self.follow(begin..end, at, slack, bound.min(NEAR_NANOS), |_, _| Claim::Same);
            end = begin;
        }
        if !self.waiting.is_empty() {
            self.copies.sort_unstable_by_key(|copy| (copy.reach() == at, copy.last, copy.first, copy.mask));
            let left = self.copies.partition_point(|copy| copy.reach() < at);
            let came = self.note_who_came(left);
            let claim = |last: i64, time: i64| {
                let until = came.partition_point(|(came, _)| *came <= time);
                if is_near(last, time, slack) && came.is_empty() || !was_missed(at, time) {
                    Claim::Same
                } else if until > 0 && came[until - 1].1 > last.saturating_add(slack) {
                    Claim::Other
                } else {
                    Claim::Perhaps
                }
            };
            self.follow(0..left, at, slack, bound, claim);
            self.came = came;
        }
        for &time in &self.waiting {
            let was_seen = known > 0 && !was_missed(at, time);
            self.copies.push(Trajectory::start(at, time, was_seen));
        }
    }

    /// Of the copies from `begin` on, which came to the position at hand and are in order of that; see [`Self::came`].
    fn note_who_came(&mut self, begin: usize) -> Vec<(i64, i64)> {
        let mut came = std::mem::take(&mut self.came);
        came.clear();
        let mut latest = i64::MIN;
        // One that begins here may have been sent at any time.
        for copy in self.copies[begin..].iter().filter(|copy| copy.mask.count_ones() > 1) {
            latest = latest.max(copy.first);
            came.push((copy.last, latest));
        }
        came
    }

    /// Continues as many copies of a range, which is in order of time, as there are waiting sightings that can be
    /// theirs; the others go on waiting. `claim` is asked with a copy's last time and a sighting's.
    fn follow(
        &mut self,
        range: Range<usize>,
        at: u32,
        slack: i64,
        bound: i64,
        claim: impl Fn(i64, i64) -> Claim,
    ) {
        let mut free = range.end;
        let mut kept = self.waiting.len();
        for index in (0..self.waiting.len()).rev() {
            let time = self.waiting[index];
            while free > range.start && self.copies[free - 1].last > time.saturating_add(slack) {
                free -= 1;
            }
            let last = (free > range.start).then(|| self.copies[free - 1].last);
            let near = last.filter(|last| time.saturating_sub(*last) <= bound);
            let claim = near.map_or(Claim::Other, |last| claim(last, time));
            if claim != Claim::Other {
                free -= 1;
            }
            if claim == Claim::Same {
                self.go_on(free, at, time);
            } else {
                if claim == Claim::Perhaps {
                    self.copies[free].may_be_late = true;
                }
                kept -= 1;
                self.waiting[kept] = time;
            }
        }
        self.waiting.drain(..kept);
    }

    fn go_on(&mut self, index: usize, at: u32, time: i64) {
        let copy = &mut self.copies[index];
        if !copy.is_extra {
            self.steps.push(step(copy, at, time));
        }
        copy.mask |= 1 << at;
        copy.last = time;
        copy.may_be_late = false;
    }

    /// Of two identical copies of which one arrived, the original arrived: an extra copy that got further than an
    /// original stands in for it.
    fn give_extras_away(&mut self) {
        let mut extras: Vec<usize> = (0..self.copies.len()).filter(|&at| self.copies[at].is_extra).collect();
        if extras.is_empty() {
            return;
        }
        let mut originals: Vec<usize> =
            (0..self.copies.len()).filter(|&at| !self.copies[at].is_extra).collect();
        extras.sort_by_key(|&at| std::cmp::Reverse(self.copies[at].reach()));
        originals.sort_by_key(|&at| self.copies[at].reach());
        for (original, extra) in originals.into_iter().zip(extras) {
            let further = self.copies[extra];
            let copy = &mut self.copies[original];
            if further.reach() > copy.reach() {
                copy.mask |= further.mask;
                copy.last = copy.last.max(further.last);
            }
        }
    }
}

/// Whether time alone tells that a sighting may be of a copy that was last seen then, give or take the clocks' error.
#[inline]
fn is_near(last: i64, time: i64, slack: i64) -> bool {
    time.saturating_sub(last) <= NEAR_NANOS.saturating_add(slack)
}

#[inline]
fn step(copy: &Trajectory, at: u32, time: i64) -> Step {
    Step { from: copy.reach(), to: at, nanos: time.saturating_sub(copy.last), first: copy.first }
}
