//! How often a point misses what passes it, measured from what points before and after it saw.
//!
//! A segment that was seen before and after a point passed it. The share of these that the point did not see is its
//! miss rate, whatever its own counters say. It is counted in bins of time, because misses come in bursts: a bin in
//! which a point missed far more than usual is one in which it was blind.

use crate::evidence::coverage::Coverage;
use crate::input::Job;
use crate::matching::trajectory::Trajectory;

/// Width of a bin, nanoseconds, unless that makes more than [`MOST_COUNTS`].
const BIN_NANOS: i64 = 50_000_000;
/// Most counts of one table, 8 MiB. A run has a table per core.
const MOST_COUNTS: usize = 1 << 20;
/// Segments a bin needs before its own rate means anything.
const ENOUGH: u32 = 20;
/// Misses that a burst has at least.
const BURST: u32 = 5;
/// How many times its usual rate a point misses in a burst, at least.
const BURST_FACTOR: f64 = 3.0;
/// And the least rate of a burst.
const BURST_RATE: f64 = 0.05;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    /// Segments known to have passed the point.
    passed: u32,
    /// Of these, not seen by it.
    missed: u32,
}

/// Counts by point and bin.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sandwich {
    start: i64,
    width: i64,
    bins_per_nano: f64,
    bins: usize,
    points: usize,
    /// By bin, then by point: a segment's counts lie together.
    counts: Vec<Count>,
}

/// A stretch of time in which a point missed far more than usual.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Burst {
    pub(crate) point: usize,
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// Share missed, 0 to 1.
    pub(crate) rate: f64,
}

impl Sandwich {
    pub(crate) fn new(job: &Job) -> Self {
        let points = job.points.len().max(1);
        let length = job.window.end_nanos.saturating_sub(job.window.start_nanos).max(1);
        let most = (MOST_COUNTS / points).max(1) as i64;
        let width = BIN_NANOS.max(length / most + 1);
        let bins = (length / width + 1) as usize;
        Self {
            start: job.window.start_nanos,
            width,
            bins_per_nano: (width as f64).recip(),
            bins,
            points,
            counts: vec![Count::default(); bins * points],
        }
    }

    /// Counts a segment that is known to have passed all of `positions`. `points` are those of its path.
    pub(crate) fn count_at(&mut self, points: &[usize], positions: u32, copy: &Trajectory) {
        let mut left = positions;
        if left == 0 {
            return;
        }
        let bin = self.bin(copy.first);
        while left != 0 {
            let at = left.trailing_zeros();
            let count = &mut self.counts[bin * self.points + points[at as usize]];
            count.passed = count.passed.saturating_add(1);
            count.missed += u32::from(copy.mask & 1 << at == 0);
            left &= left - 1;
        }
    }

    fn bin(&self, time: i64) -> usize {
        // A division of integers would be the slowest step of the count.
        let bin = time.saturating_sub(self.start) as f64 * self.bins_per_nano;
        (bin as usize).min(self.bins - 1)
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (count, theirs) in self.counts.iter_mut().zip(&other.counts) {
            count.passed = count.passed.saturating_add(theirs.passed);
            count.missed = count.missed.saturating_add(theirs.missed);
        }
    }

    /// The counts of a point in the bins in which it neither dropped nor was blind, with the time of each bin. Bins go
    /// by when a segment was first seen, wherever that was.
    fn of_point<'s>(
        &'s self,
        point: usize,
        coverage: &'s Coverage,
        passing: i64,
    ) -> impl Iterator<Item = (Count, (i64, i64))> + use<'s> {
        let counts = (0..self.bins).map(move |bin| (self.counts[bin * self.points + point], self.span(bin)));
        let is_clean = move |&(start, end): &(i64, i64)| coverage.is_clean_around(start, end, passing);
        counts.filter(move |(count, span)| count.passed > 0 && is_clean(span))
    }

    /// Bins in which a point that dropped nothing missed far more than it usually does. Segments take `passing` at most
    /// from point to point.
    pub(crate) fn bursts(&self, coverage: &[Coverage], passing: i64) -> Vec<Burst> {
        let rates = self.rates(coverage, passing);
        let mut bursts = Vec::new();
        for (point, known) in coverage.iter().enumerate().filter(|(point, _)| rates[*point].missed > 0) {
            let least = BURST_RATE.max(BURST_FACTOR * rates[point].share());
            for (Count { passed, missed }, (start, end)) in self.of_point(point, known, passing) {
                let rate = f64::from(missed) / f64::from(passed);
                if passed >= ENOUGH && missed >= BURST && rate >= least {
                    bursts.push(Burst { point, start, end, rate });
                }
            }
        }
        bursts
    }

    /// By point, over the time in which it neither dropped nor was blind.
    pub(crate) fn rates(&self, coverage: &[Coverage], passing: i64) -> Vec<MissRate> {
        let of_point = |(point, known): (usize, &Coverage)| {
            let rate = MissRate { vouched: known.totals.received, ..MissRate::default() };
            self.of_point(point, known, passing).fold(rate, |rate, (count, _)| MissRate {
                passed: rate.passed + u64::from(count.passed),
                missed: rate.missed + u64::from(count.missed),
                ..rate
            })
        };
        coverage.iter().enumerate().map(of_point).collect()
    }

    fn span(&self, bin: usize) -> (i64, i64) {
        let start = self.start.saturating_add(bin as i64 * self.width);
        (start, start.saturating_add(self.width))
    }
}

/// How often a point misses a packet that passes it while it believes to see all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MissRate {
    /// Segments that were seen before and after it.
    pub(crate) passed: u64,
    /// Of these, not seen by it.
    pub(crate) missed: u64,
    /// Packets its own counters vouch for.
    pub(crate) vouched: u64,
}

impl MissRate {
    /// Share missed, as measured: 0 where no miss was.
    pub(crate) fn share(&self) -> f64 {
        if self.missed == 0 { 0.0 } else { self.missed as f64 / self.passed as f64 }
    }

    /// The share it may miss: never less than what so few observations can tell. A point that was never seen to miss
    /// anything has its own counters to vouch for it.
    pub(crate) fn floored(&self) -> f64 {
        let of = if self.missed == 0 { self.passed.max(self.vouched) } else { self.passed };
        (self.missed as f64 + 0.5) / (of as f64 + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::coverage::PASSING_NANOS;
    use crate::input::{Slice, SliceCounters};

    const MS: i64 = 1_000_000;

    fn coverage(drops: Option<(i64, i64)>) -> Coverage {
        let mut coverage = Coverage::default();
        let clean = |start, end| Slice { start_nanos: start, end_nanos: end, ..Slice::default() };
        coverage.add(clean(-1000 * MS, 20_000 * MS), 0);
        if let Some((start, end)) = drops {
            let counters = SliceCounters { received: 10, kernel_drops: 10, ..SliceCounters::default() };
            coverage.add(Slice { counters, ..clean(start * MS, end * MS) }, 0);
        }
        coverage.seal();
        coverage
    }

    fn table() -> Sandwich {
        let bins = 100;
        let bins_per_nano = (BIN_NANOS as f64).recip();
        Sandwich {
            start: 0,
            width: BIN_NANOS,
            bins_per_nano,
            bins,
            points: 4,
            counts: vec![Count::default(); bins * 4],
        }
    }

    fn copy(mask: u32, millis: i64) -> Trajectory {
        Trajectory { mask, first: millis * MS, last: millis * MS, is_extra: false, may_be_late: false }
    }

    fn count(table: &mut Sandwich, points: &[usize], active: u32, copy: &Trajectory) {
        table.count_at(points, active & copy.between(), copy);
    }

    #[test]
    fn only_points_between_the_first_and_the_last_sighting_are_measured() {
        let mut table = table();
        for millis in 0..100 {
            count(
                &mut table,
                &[0, 1, 2, 3],
                0b1111,
                &copy(if millis < 25 { 0b1011 } else { 0b1111 }, millis),
            );
        }
        count(&mut table, &[0, 1, 2, 3], 0b1111, &copy(0b0001, 5));
        let rates = table.rates(&vec![coverage(None); 4], PASSING_NANOS);
        let counts: Vec<_> = rates.iter().map(|rate| (rate.passed, rate.missed)).collect();
        assert_eq!(counts, [(0, 0), (100, 0), (100, 25), (0, 0)]);
        assert!((rates[2].floored() - 25.5 / 101.0).abs() < 1e-12);
        assert!((rates[1].floored() - 0.5 / 101.0).abs() < 1e-12);
    }

    #[test]
    fn what_was_missed_while_the_point_dropped_is_not_counted_against_it() {
        let mut table = table();
        count(&mut table, &[0, 1, 2], 0b111, &copy(0b101, 500));
        count(&mut table, &[0, 1, 2], 0b111, &copy(0b111, 2000));
        let rates = table.rates(&[coverage(None), coverage(Some((450, 550))), coverage(None)], PASSING_NANOS);
        assert_eq!((rates[1].passed, rates[1].missed), (1, 0));
    }

    #[test]
    fn a_bin_with_far_more_misses_than_usual_is_a_burst() {
        let mut table = table();
        for millis in 0..4000 {
            let is_missed = (1000..1050).contains(&millis) && millis % 2 == 0 || millis % 400 == 0;
            count(&mut table, &[0, 1, 2], 0b111, &copy(if is_missed { 0b101 } else { 0b111 }, millis));
        }
        let bursts = table.bursts(&vec![coverage(None); 3], PASSING_NANOS);
        assert_eq!(bursts, [Burst { point: 1, start: 1000 * MS, end: 1050 * MS, rate: 0.5 }]);
    }
}
