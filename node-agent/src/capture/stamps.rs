//! Puts the kernel's stamps, which are on `CLOCK_REALTIME`, onto `CLOCK_MONOTONIC`, also where the former is set while
//! packets wait that bear stamps from before.

use crate::clock;

/// The clocks drift apart by less between two looks. More is a step.
const STEP_NANOS: i64 = 10_000_000;
/// Packets come in the order of their stamps, and after them, but for this much.
const LOOSE_NANOS: i64 = 10_000_000;

/// What a point's packets are stamped by.
pub(super) struct Stamps {
    /// `CLOCK_REALTIME` minus `CLOCK_MONOTONIC`.
    offset: i64,
    /// The same before the last step.
    before: i64,
    /// Packets that bear stamps from after the last step came after the first of these, others before the second.
    step: (i64, i64),
    now: i64,
    last: i64,
    /// No packet should be older.
    earliest: i64,
}

impl Stamps {
    /// Those of the clock as it is now.
    pub(super) fn new() -> Self {
        let (now, offset) = (clock::monotonic_nanos(), clock::realtime_minus_monotonic());
        Self { offset, before: offset, step: (i64::MIN, i64::MIN), now, last: i64::MIN, earliest: i64::MIN }
    }

    /// Packets are read from now on. `offset` was measured after `now`.
    pub(super) fn turn(&mut self, now: i64, offset: i64) {
        if is_step(self.offset, offset) {
            (self.before, self.step) = (self.offset, (self.now.saturating_sub(LOOSE_NANOS), now));
            self.earliest = self.earliest.max(self.step.0);
        }
        (self.now, self.offset) = (now, offset);
    }

    /// When a packet came, nanoseconds on `CLOCK_MONOTONIC`. Call it in the order in which they are read.
    #[inline]
    pub(super) fn monotonic(&mut self, stamp: i64) -> i64 {
        let mut time = stamp.saturating_sub(self.offset);
        if !self.is_plausible(time) {
            time = self.settle(stamp);
        }
        self.last = time;
        self.earliest = time.saturating_sub(LOOSE_NANOS).max(self.step.0);
        time
    }

    /// When the last packet came.
    pub(super) fn last(&self) -> i64 {
        self.last
    }

    #[inline]
    fn is_plausible(&self, time: i64) -> bool {
        (self.earliest..=self.now.saturating_add(LOOSE_NANOS)).contains(&time)
    }

    /// The time of a packet that seems to come from the future, or later than younger ones: it may bear a stamp from
    /// before a step, or the step may just have been. Where neither explains it, its stamp is taken as it is.
    #[cold]
    fn settle(&mut self, stamp: i64) -> i64 {
        let (now, offset) = (clock::monotonic_nanos(), clock::realtime_minus_monotonic());
        self.turn(now, if is_step(self.offset, offset) { offset } else { self.offset });
        let [time, before] = [self.offset, self.before].map(|offset| stamp.saturating_sub(offset));
        let waited = self.last.saturating_sub(LOOSE_NANOS)..=self.step.1.saturating_add(LOOSE_NANOS);
        if !self.is_plausible(time) && waited.contains(&before) { before } else { time }
    }
}

/// Whether `CLOCK_REALTIME` was set between two looks at its offset.
pub(super) fn is_step(before: i64, after: i64) -> bool {
    before.abs_diff(after) >= STEP_NANOS.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    /// Sets the clock by `step` while packets wait that came up to 300 ms before.
    fn keeps_times(step: i64) {
        let mut stamps = Stamps::new();
        let (after, now) = (stamps.offset, stamps.now);
        let before = after - step;
        stamps.offset = before;
        stamps.turn(now - 400 * MS, before);
        assert_eq!(stamps.monotonic(now - 410 * MS + before), now - 410 * MS);
        stamps.turn(now - 5 * MS, before);
        stamps.turn(now, after);
        let waited = [300, 200, 100, 6].map(|age| (now - age * MS, before));
        let came = [4, 1, 0].map(|age| (now - age * MS, after));
        for (time, offset) in waited.into_iter().chain(came) {
            assert_eq!(stamps.monotonic(time + offset) - now, time - now, "set by {} ms", step / MS);
        }
        assert_eq!(stamps.last(), now);
    }

    #[test]
    fn packets_that_waited_through_a_step_keep_their_time() {
        for step in [-36_000_000, -10_000, -2_000, -400, 400, 2_000, 10_000, 36_000_000] {
            keeps_times(step * MS);
        }
    }

    #[test]
    fn a_step_while_packets_are_read_is_found() {
        for step in [-10_000 * MS, -500 * MS, 500 * MS, 10_000 * MS] {
            let mut stamps = Stamps::new();
            let (after, now) = (stamps.offset, stamps.now);
            stamps.offset = after - step;
            assert_eq!(stamps.monotonic(now + after - step), now);
            // The clock is looked at again, which is exact to within less than this.
            assert!(
                stamps.monotonic(now + after).abs_diff(now) < 5 * MS.unsigned_abs(),
                "set by {} ms",
                step / MS
            );
        }
    }

    #[test]
    fn a_stamp_that_nothing_explains_is_taken_as_it_is() {
        let mut stamps = Stamps::new();
        let now = stamps.now;
        for time in [now, now - 3_000 * MS, now + 3_000 * MS, now] {
            assert_eq!(stamps.monotonic(time + stamps.offset), time);
        }
    }
}
