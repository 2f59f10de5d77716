//! Offset of a node's clock from exchanges on the control stream, after RFC 5905 §8.
//!
//! Each exchange bounds the offset by half of its round trip. Older ones get worse by the drift two clocks can
//! have, so of the last exchanges the one with the smallest sum of both bounds the offset best.

use std::collections::VecDeque;

use crate::model::ClockFix;

/// Exchanges looked back on.
const WINDOW: usize = 64;
/// How far two clocks drift apart, parts per million. RFC 5905 assumes 15; cheap oscillators do 50.
const DRIFT_PPM: i64 = 50;

/// One finished exchange.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    /// Ping left, coordinator's clock.
    pub sent_nanos: i64,
    /// Ping arrived, node's `CLOCK_MONOTONIC`.
    pub node_received_nanos: i64,
    /// Reply left, node's `CLOCK_MONOTONIC`.
    pub node_sent_nanos: i64,
    /// Reply arrived, coordinator's clock.
    pub received_nanos: i64,
    /// The node's `CLOCK_REALTIME` minus its `CLOCK_MONOTONIC`.
    pub realtime_minus_monotonic_nanos: i64,
    /// Bound of the error of the coordinator's clock itself.
    pub coordinator_error_nanos: i64,
}

impl Exchange {
    /// The offset that it shows; absent when its times contradict each other.
    fn fix(&self) -> Option<ClockFix> {
        let there = self.sent_nanos.checked_sub(self.node_received_nanos)?;
        let back = self.received_nanos.checked_sub(self.node_sent_nanos)?;
        let round_trip_nanos = back.checked_sub(there)?;
        if round_trip_nanos < 0 || self.node_sent_nanos < self.node_received_nanos {
            return None;
        }
        Some(ClockFix {
            at_nanos: self.received_nanos,
            coordinator_minus_monotonic_nanos: there + round_trip_nanos / 2,
            realtime_minus_monotonic_nanos: self.realtime_minus_monotonic_nanos,
            error_nanos: round_trip_nanos / 2 + 1 + self.coordinator_error_nanos,
            round_trip_nanos,
        })
    }
}

/// The last exchanges with one process of one agent.
#[derive(Debug, Default)]
pub struct ClockFilter {
    fixes: VecDeque<ClockFix>,
}

impl ClockFilter {
    /// Takes an exchange in. False when its times contradict each other. What came before is forgotten if one of the two
    /// clocks was set since: the bounds of the offsets then have nothing in common.
    pub fn add(&mut self, exchange: &Exchange) -> bool {
        let Some(fix) = exchange.fix() else { return false };
        if self.fixes.back().is_some_and(|last| is_apart(last, &fix)) {
            self.fixes.clear();
        }
        if self.fixes.len() == WINDOW {
            self.fixes.pop_front();
        }
        self.fixes.push_back(fix);
        true
    }

    /// The best offset at `now_nanos` with the bound it has then. The node's wall clock is as last heard, because it can
    /// be stepped. Absent before the first exchange.
    pub fn best(&self, now_nanos: i64) -> Option<ClockFix> {
        self.basis(now_nanos).map(|fix| aged(fix, now_nanos))
    }

    /// The exchange that is best at `now_nanos`, with the bound it had when it was made. Absent before the first one.
    pub fn basis(&self, now_nanos: i64) -> Option<ClockFix> {
        let last = self.fixes.back()?;
        let best = self.fixes.iter().min_by_key(|fix| bound(fix, now_nanos))?;
        Some(ClockFix { realtime_minus_monotonic_nanos: last.realtime_minus_monotonic_nanos, ..*best })
    }

    /// The smallest round trip.
    pub fn round_trip_nanos(&self) -> Option<i64> {
        self.fixes.iter().map(|fix| fix.round_trip_nanos).min()
    }
}

/// A fix with the bound that it has at `now_nanos`.
pub fn aged(fix: ClockFix, now_nanos: i64) -> ClockFix {
    ClockFix { error_nanos: bound(&fix, now_nanos), ..fix }
}

fn is_apart(old: &ClockFix, new: &ClockFix) -> bool {
    let apart = old.coordinator_minus_monotonic_nanos.abs_diff(new.coordinator_minus_monotonic_nanos);
    apart > (bound(old, new.at_nanos).saturating_add(new.error_nanos)).unsigned_abs()
}

fn bound(fix: &ClockFix, now_nanos: i64) -> i64 {
    fix.error_nanos + (now_nanos - fix.at_nanos).max(0) / 1_000_000 * DRIFT_PPM
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{MILLISECOND, SECOND};

    const OFFSET: i64 = 1_700_000_000 * SECOND;

    /// An exchange at coordinator time `at` with given one-way delays; the node's clock runs `ppm` fast.
    fn exchange(at: i64, there: i64, back: i64, ppm: i64) -> Exchange {
        let node = |t: i64| t + (t / 1_000_000) * ppm;
        Exchange {
            sent_nanos: OFFSET + at,
            node_received_nanos: node(at + there),
            node_sent_nanos: node(at + there) + 1_000,
            received_nanos: OFFSET + at + there + back + 1_000,
            realtime_minus_monotonic_nanos: 7,
            coordinator_error_nanos: 0,
        }
    }

    #[test]
    fn the_shortest_round_trip_wins_and_bounds_the_error() {
        let mut filter = ClockFilter::default();
        for (at, there, back) in [(0, 9, 1), (20, 1, 1), (40, 1, 30)] {
            assert!(filter.add(&exchange(at * MILLISECOND, there * MILLISECOND, back * MILLISECOND, 0)));
        }
        let fix = filter.best(OFFSET + 60 * MILLISECOND).unwrap();
        assert_eq!(fix.coordinator_minus_monotonic_nanos, OFFSET);
        assert_eq!(fix.round_trip_nanos, 2 * MILLISECOND);
        assert!(fix.error_nanos >= MILLISECOND && fix.error_nanos < MILLISECOND + 10_000);
    }

    #[test]
    fn drift_of_50_ppm_stays_inside_the_bound() {
        let mut filter = ClockFilter::default();
        for second in 0..600 {
            let jitter = (second * 7 % 11) * 100_000;
            filter.add(&exchange(second * SECOND, 100_000 + jitter, 100_000, 50));
            let now = second * SECOND + MILLISECOND;
            let fix = filter.best(OFFSET + now).unwrap();
            let truth = OFFSET + now - (now + now / 1_000_000 * 50);
            let error = (fix.coordinator_minus_monotonic_nanos - truth).abs();
            assert!(error <= fix.error_nanos, "{error} > {} at {second} s", fix.error_nanos);
        }
    }

    #[test]
    fn a_clock_that_was_set_is_followed_at_once() {
        for step in [3_600 * SECOND, -3_600 * SECOND] {
            let mut filter = ClockFilter::default();
            for second in 0..10 {
                filter.add(&exchange(second * SECOND, 1_000, 1_000, 0));
            }
            // A worse measurement than those before.
            let after = exchange(10 * SECOND, MILLISECOND, MILLISECOND, 0);
            let set = |nanos| nanos + step;
            filter.add(&Exchange {
                sent_nanos: set(after.sent_nanos),
                received_nanos: set(after.received_nanos),
                ..after
            });
            let fix = filter.best(set(OFFSET + 11 * SECOND)).unwrap();
            assert_eq!(fix.coordinator_minus_monotonic_nanos, set(OFFSET));
        }
    }

    #[test]
    fn contradicting_times_are_dropped() {
        let mut filter = ClockFilter::default();
        let mut impossible = exchange(0, 10, 10, 0);
        impossible.received_nanos = impossible.sent_nanos - 1;
        assert!(!filter.add(&impossible));
        let extreme = Exchange { node_received_nanos: i64::MIN, node_sent_nanos: i64::MAX, ..impossible };
        assert!(!filter.add(&extreme));
        assert_eq!(filter.best(0), None);
    }
}
