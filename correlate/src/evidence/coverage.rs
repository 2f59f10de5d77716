//! When a point could see and when it could not: time without capture, and drops.

use std::collections::BinaryHeap;

use crate::input::{Slice, SliceCounters};

/// Slices that were converted between clocks may leave cracks; shorter ones than this are none.
const CRACK_NANOS: i64 = 5_000_000;
/// Rows may be stamped before the slice they are read in, and wait for it in the ring: where a slice is without some of
/// them, it spreads doubt this far to both sides. Packets that the kernel drops are counted at once when they come, and
/// slices begin and end when it was asked for the count: these are blind for as long as they last and no longer.
const ROW_MARGIN_NANOS: i64 = 100_000_000;
/// How long a packet takes from its first point to its last at most, unless some took longer, nanoseconds.
pub(crate) const PASSING_NANOS: i64 = 100_000_000;

/// Counters come from the network: no point counts more, so that sums over points cannot overflow.
const MOST_COUNTED: u64 = 1 << 46;

/// A stretch of time in which a point may have missed packets.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Blind {
    start: i64,
    end: i64,
    /// Share of packets missed, above 0 up to 1.
    rate: f64,
}

/// What one point could see.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coverage {
    slices: Vec<(i64, i64)>,
    dropping: Vec<Blind>,
    blind: Vec<Blind>,
    /// Sums over all slices.
    pub(crate) totals: SliceCounters,
    /// Packets that were observed but cannot be recognised elsewhere.
    pub(crate) cut: u64,
    /// When it saw anything cannot be compared with other nodes' times, so that neither can say what the other missed.
    pub(crate) is_apart: bool,
}

impl Coverage {
    /// A slice, of whose rows `cut` cannot be recognised elsewhere.
    pub(crate) fn add(&mut self, slice: Slice, cut: u64) {
        let SliceCounters {
            received,
            kernel_drops,
            agent_drops,
            unreadable,
            own_connections,
            undecoded,
            sampled_out,
        } = slice.counters;
        let count = |total: &mut u64, more: u64| *total = total.saturating_add(more).min(MOST_COUNTED);
        count(&mut self.totals.received, received);
        count(&mut self.totals.kernel_drops, kernel_drops);
        count(&mut self.totals.agent_drops, agent_drops);
        count(&mut self.totals.unreadable, unreadable);
        count(&mut self.totals.own_connections, own_connections);
        count(&mut self.totals.undecoded, undecoded);
        count(&mut self.totals.sampled_out, sampled_out);
        count(&mut self.cut, cut);
        self.slices.push((slice.start_nanos, slice.end_nanos));
        let rows = [agent_drops, unreadable, cut].into_iter().fold(0, u64::saturating_add);
        let missed = kernel_drops.saturating_add(rows);
        if missed > 0 {
            let margin = if rows > 0 { ROW_MARGIN_NANOS } else { 0 };
            self.dropping.push(Blind {
                start: slice.start_nanos.saturating_sub(margin),
                end: slice.end_nanos.saturating_add(margin),
                rate: missed_share(&slice.counters, cut),
            });
        }
    }

    /// Call once all slices are in.
    pub(crate) fn seal(&mut self) {
        self.slices.sort_unstable();
        self.blind = std::mem::take(&mut self.dropping);
        let mut covered_to = i64::MIN;
        for &(start, end) in &self.slices {
            if start.saturating_sub(covered_to) > CRACK_NANOS {
                self.blind.push(Blind { start: covered_to, end: start, rate: 1.0 });
            }
            covered_to = covered_to.max(end);
        }
        self.blind.push(Blind { start: covered_to, end: i64::MAX, rate: 1.0 });
        self.slices = Vec::new();
        if self.is_apart {
            self.blind = vec![Blind { start: i64::MIN, end: i64::MAX, rate: 1.0 }];
        }
        self.flatten();
    }

    /// The point turned out to miss `rate` of what passed in `[start, end)`. Call once sealed.
    pub(crate) fn blind(&mut self, start: i64, end: i64, rate: f64) {
        self.blind.push(Blind { start, end, rate });
        self.flatten();
    }

    /// Puts the stretches onto another clock, which keeps their order.
    pub(crate) fn correct(&mut self, to: impl Fn(i64) -> i64) {
        let moved = |time: i64| if matches!(time, i64::MIN | i64::MAX) { time } else { to(time) };
        for blind in &mut self.blind {
            (blind.start, blind.end) = (moved(blind.start), moved(blind.end));
        }
    }

    /// Makes the blind stretches disjoint and ascending, the highest rate winning. Agents choose how many there are and
    /// how they overlap: a stretch is looked at again only once it has the highest rate.
    fn flatten(&mut self) {
        let mut edges: Vec<i64> = self.blind.iter().flat_map(|blind| [blind.start, blind.end]).collect();
        edges.sort_unstable();
        edges.dedup();
        self.blind.sort_unstable_by_key(|blind| blind.start);
        let mut flat: Vec<Blind> = Vec::new();
        // Rates are not negative, and the bits of such numbers have their order.
        let mut open: BinaryHeap<(u64, i64)> = BinaryHeap::new();
        let mut next = 0;
        for pair in edges.windows(2) {
            while let Some(blind) = self.blind.get(next).filter(|blind| blind.start <= pair[0]) {
                open.push((blind.rate.to_bits(), blind.end));
                next += 1;
            }
            while open.peek().is_some_and(|(_, end)| *end <= pair[0]) {
                open.pop();
            }
            let Some((rate, _)) = open.peek() else { continue };
            flat.push(Blind { start: pair[0], end: pair[1], rate: f64::from_bits(*rate) });
        }
        self.blind = flat;
    }

    /// The largest share of packets the point may have missed at any time in `[start, end]`: 0 if it could see all.
    pub(crate) fn miss_rate(&self, start: i64, end: i64) -> f64 {
        self.blind_within(start, end).map(|blind| blind.rate).fold(0.0, f64::max)
    }

    /// True if the point dropped nothing and captured throughout `[start, end]`.
    pub(crate) fn is_clean(&self, start: i64, end: i64) -> bool {
        self.blind_within(start, end).next().is_none()
    }

    /// As [`Self::is_clean`], for packets that another point saw in `[start, end]`, which may have come here earlier or
    /// later by `passing`.
    pub(crate) fn is_clean_around(&self, start: i64, end: i64, passing: i64) -> bool {
        self.is_clean(start.saturating_sub(passing), end.saturating_add(passing))
    }

    fn blind_within(&self, start: i64, end: i64) -> impl Iterator<Item = &Blind> {
        let first = self.blind.partition_point(|blind| blind.end <= start);
        self.blind[first..].iter().take_while(move |blind| blind.start <= end)
    }

    /// Nanoseconds of `[start, end]` in which the point was not capturing at all.
    pub(crate) fn uncovered(&self, start: i64, end: i64) -> i64 {
        let gaps = self.blind.iter().filter(|blind| blind.rate >= 1.0);
        gaps.map(|gap| gap.end.min(end).saturating_sub(gap.start.max(start)).max(0)).sum()
    }
}

/// The share of packets missed in a slice, of whose rows `cut` cannot be recognised elsewhere. Of those that were not
/// selected nothing was dropped or cut, so what was counts for its share of all.
fn missed_share(counters: &SliceCounters, cut: u64) -> f64 {
    let &SliceCounters { received, kernel_drops, agent_drops, unreadable, sampled_out, .. } = counters;
    let selected = received.saturating_sub(sampled_out).max(1) as f64;
    let scale = if sampled_out == 0 { 1.0 } else { received as f64 / selected };
    let missed = kernel_drops as f64 + unreadable as f64 + scale * (agent_drops as f64 + cut as f64);
    (missed / (received as f64 + kernel_drops as f64)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn slice(start: i64, end: i64, drops: u64) -> Slice {
        let counters =
            SliceCounters { received: 100 - drops, kernel_drops: drops, ..SliceCounters::default() };
        Slice { start_nanos: start * 1_000_000, end_nanos: end * 1_000_000, counters }
    }

    fn percent(coverage: &Coverage, at: i64) -> u64 {
        (coverage.miss_rate(at * 1_000_000, at * 1_000_000) * 100.0).round() as u64
    }

    #[test]
    fn gaps_and_drops_blind_a_point_and_nothing_else_does() {
        let mut coverage = Coverage::default();
        for (start, end, drops) in [(2000, 3000, 0), (0, 1000, 0), (1000, 2000, 20), (4000, 5000, 0)] {
            coverage.add(slice(start, end, drops), 0);
        }
        coverage.seal();
        assert_eq!(percent(&coverage, 500), 0);
        assert_eq!(percent(&coverage, 950), 0);
        assert!(!coverage.is_clean_around(950_000_000, 950_000_000, PASSING_NANOS));
        assert_eq!(percent(&coverage, 1500), 20);
        assert_eq!(percent(&coverage, 2500), 0);
        assert_eq!(percent(&coverage, 3500), 100);
        assert_eq!(percent(&coverage, 4500), 0);
        assert_eq!(percent(&coverage, 5500), 100);
        assert_eq!(percent(&coverage, -1), 100);
    }

    /// A row that the agent had no room for was stamped some time before its slice, or came with a block after it.
    #[test]
    fn rows_that_are_missing_spread_doubt_beyond_their_slice() {
        let mut coverage = Coverage::default();
        coverage.add(slice(0, 5000, 0), 0);
        let counters = SliceCounters { received: 100, agent_drops: 20, ..SliceCounters::default() };
        coverage.add(Slice { counters, ..slice(1000, 2000, 0) }, 0);
        coverage.seal();
        let percents = [880, 920, 1500, 2080, 2120].map(|at| percent(&coverage, at));
        assert_eq!(percents, [0, 20, 20, 20, 0]);
    }

    #[test]
    fn a_point_without_a_slice_is_blind_throughout() {
        let mut coverage = Coverage::default();
        coverage.seal();
        assert_eq!(percent(&coverage, 0), 100);
    }

    #[test]
    fn of_overlapping_slices_the_one_that_dropped_most_counts() {
        let slices: Vec<_> = (0..60)
            .map(|at| slice(at * 37 % 500, at * 37 % 500 + at * 13 % 400, at.unsigned_abs() % 9))
            .collect();
        let mut coverage = Coverage::default();
        for slice in &slices {
            coverage.add(*slice, 0);
        }
        coverage.seal();
        for at in 0..900 {
            let time = i64::from(at) * 1_000_000;
            let is_in = |s: &&Slice| (s.start_nanos..s.end_nanos).contains(&time);
            let most = slices.iter().filter(is_in).map(|s| s.counters.kernel_drops).max().unwrap_or(0);
            let is_covered = slices.iter().any(|s| (s.start_nanos..s.end_nanos).contains(&time));
            assert_eq!(
                percent(&coverage, time / 1_000_000),
                if is_covered { most } else { 100 },
                "at {at} ms"
            );
        }
    }

    /// Every slice overlaps every other: looking at each for each would take 10^11 steps.
    #[test]
    fn a_point_may_send_any_number_of_overlapping_slices_with_drops() {
        let mut coverage = Coverage::default();
        for at in 0..300_000_i64 {
            let counters = SliceCounters {
                received: 1_000_000,
                kernel_drops: at.unsigned_abs() + 1,
                ..SliceCounters::default()
            };
            coverage.add(Slice { start_nanos: at, end_nanos: SECOND - at, counters }, 0);
        }
        coverage.seal();
        let rate = coverage.miss_rate(SECOND / 2, SECOND / 2);
        assert!((rate - 300_000.0 / 1_300_000.0).abs() < 1e-12, "{rate}");
    }
}
