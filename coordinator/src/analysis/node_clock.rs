//! A node's clock over a capture, from its first and its last measurement.

use lastseen_correlate::Window;

use crate::model::{ClockFix, Part};

/// Two clocks part no faster, parts per million: oscillators do 50 each.
const MOST_DRIFT_PPM: i128 = 100;
const MILLION: i128 = 1_000_000;

/// A line through what two measurements allow: as flat as their errors let it be, because over a short capture the
/// errors are larger than any drift, and no steeper than clocks drift.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeClock {
    /// The node's `CLOCK_MONOTONIC` at both measurements.
    at: [i64; 2],
    /// Coordinator's clock minus the node's `CLOCK_MONOTONIC` there.
    ahead: [i64; 2],
    error: i64,
    realtime_minus_monotonic: i64,
}

impl NodeClock {
    /// The clock of a node that took part. Absent if it was never measured.
    pub(super) fn of(part: &Part) -> Option<Self> {
        let start = part.clock_start?;
        Some(Self::between(start, part.clock_end.unwrap_or(start)))
    }

    fn between(start: ClockFix, end: ClockFix) -> Self {
        let at = [start, end].map(|fix| fix.to_monotonic(fix.at_nanos));
        let rise = rise(start, end, at[1].saturating_sub(at[0]));
        // Both measurements as seen from the first: what both allow, or the surer one if they contradict each other.
        let ranges = [range(start, 0), range(end, rise)];
        let (least, most) = (ranges[0].0.max(ranges[1].0), ranges[0].1.min(ranges[1].1));
        let surer = if start.error_nanos <= end.error_nanos { ranges[0] } else { ranges[1] };
        let (least, most) = if least <= most { (least, most) } else { surer };
        let first = least.midpoint(most);
        let off = ranges.map(|(least, most)| first.abs_diff(least).max(first.abs_diff(most)));
        Self {
            at,
            ahead: [first, first.saturating_add(rise)],
            error: i64::try_from(off[0].max(off[1])).unwrap_or(i64::MAX),
            realtime_minus_monotonic: end.realtime_minus_monotonic_nanos,
        }
    }

    /// Coordinator's clock minus the node's `CLOCK_MONOTONIC` at a time of that clock.
    pub(super) fn coordinator_minus_monotonic_nanos(&self, monotonic_nanos: i64) -> i64 {
        let [from, to] = self.at.map(i128::from);
        let [first, last] = self.ahead.map(i128::from);
        if to <= from {
            return self.ahead[0];
        }
        let along = i128::from(monotonic_nanos).clamp(from, to) - from;
        (first + (last - first) * along / (to - from)) as i64
    }

    /// The node's `CLOCK_REALTIME` minus the coordinator's clock in the middle of a window.
    pub(super) fn offset_nanos(&self, window: Window) -> i64 {
        let middle = window.start_nanos.midpoint(window.end_nanos).saturating_sub(self.ahead[0]);
        self.realtime_minus_monotonic.saturating_sub(self.coordinator_minus_monotonic_nanos(middle))
    }

    /// Bound of the error.
    pub(super) fn error_nanos(&self) -> i64 {
        self.error
    }
}

/// The least that the offset must have changed between two measurements.
fn rise(start: ClockFix, end: ClockFix, elapsed: i64) -> i64 {
    let change = i128::from(end.coordinator_minus_monotonic_nanos)
        - i128::from(start.coordinator_minus_monotonic_nanos);
    let explained = i128::from(start.error_nanos) + i128::from(end.error_nanos);
    let most = i128::from(elapsed.max(0)) * MOST_DRIFT_PPM / MILLION;
    let least = (change.abs() - explained).clamp(0, most);
    (least * change.signum()) as i64
}

/// What a measurement allows, taken back by `rise`.
fn range(fix: ClockFix, rise: i64) -> (i64, i64) {
    let middle = fix.coordinator_minus_monotonic_nanos.saturating_sub(rise);
    (middle.saturating_sub(fix.error_nanos), middle.saturating_add(fix.error_nanos))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{MILLISECOND, SECOND};

    const OFFSET: i64 = 50 * SECOND;

    fn fix(at_nanos: i64, off: i64, error_nanos: i64) -> ClockFix {
        ClockFix {
            at_nanos: OFFSET + at_nanos,
            coordinator_minus_monotonic_nanos: OFFSET + off,
            realtime_minus_monotonic_nanos: 0,
            error_nanos,
            round_trip_nanos: 2 * error_nanos,
        }
    }

    #[test]
    fn drift_is_followed_along_the_line_between_two_measurements() {
        let clock = NodeClock::between(fix(100 * SECOND, 0, 10), fix(160 * SECOND, 3 * MILLISECOND, 10));
        let at = |monotonic| clock.coordinator_minus_monotonic_nanos(monotonic) - OFFSET;
        assert!(at(50 * SECOND).abs() <= 20 && (at(1_000 * SECOND) - 3 * MILLISECOND).abs() <= 20);
        assert!((at(130 * SECOND) - 1_500_000).abs() < 2_000, "{}", at(130 * SECOND));
        assert!(clock.error_nanos() <= 20);
    }

    #[test]
    fn two_measurements_of_a_moment_tighten_each_other() {
        let clock =
            NodeClock::between(fix(0, 4 * MILLISECOND, 4 * MILLISECOND), fix(5 * SECOND, 0, MILLISECOND));
        for monotonic in [0, 3 * SECOND, 9 * SECOND] {
            let off = clock.coordinator_minus_monotonic_nanos(monotonic) - OFFSET;
            assert!((0..=MILLISECOND).contains(&off), "{off}");
        }
        assert!(clock.error_nanos() >= MILLISECOND, "the first one alone allows more");
    }

    #[test]
    fn the_error_covers_the_worse_measurement() {
        let clock = NodeClock::between(fix(0, 3 * MILLISECOND, 4 * MILLISECOND), fix(5 * SECOND, 0, 500_000));
        let truth = 0;
        for monotonic in [0, 5 * SECOND] {
            let off = clock.coordinator_minus_monotonic_nanos(monotonic) - OFFSET;
            assert!((off - truth).abs() <= clock.error_nanos());
        }
    }

    #[test]
    fn no_line_is_steeper_than_clocks_drift() {
        let clock = NodeClock::between(fix(0, 0, 1), fix(SECOND, 5 * MILLISECOND, 100));
        assert!((99_000..=100_000).contains(&(clock.ahead[1] - clock.ahead[0])), "{clock:?}");
    }
}
