//! The coordinator's clock: Unix time that no one can step while the process lives.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use jiff::fmt::friendly::{Direction, SpanPrinter};

/// So far no measurement is wrong.
const STEP_NANOS: i64 = 1_000_000_000;

/// Unix time at one instant, carried on by the monotonic clock. A step of `CLOCK_REALTIME` (an operator, a first NTP
/// fix) therefore moves no window; slewing is followed because it acts on both clocks. Where several coordinators share
/// a database they all follow its clock, see [`Clock::follow`]. Clones are one clock, and it goes back only where the
/// clock that is followed was set back.
#[derive(Clone, Debug)]
pub struct Clock {
    unix_nanos: i64,
    anchor: Instant,
    followed: Arc<Followed>,
}

/// How the clock that is followed stands to ours, in nanoseconds.
#[derive(Debug, Default)]
struct Followed {
    ahead: AtomicI64,
    error: AtomicI64,
    last: AtomicI64,
}

impl Clock {
    /// A clock that agrees with `CLOCK_REALTIME` now.
    pub fn start() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { unix_nanos: unix.as_nanos() as i64, anchor: Instant::now(), followed: Arc::default() }
    }

    /// Nanoseconds since 1970.
    pub fn now(&self) -> i64 {
        let now = self.own_now() + self.followed.ahead.load(Ordering::Relaxed);
        self.followed.last.fetch_max(now, Ordering::Relaxed).max(now)
    }

    /// Nanoseconds since 1970 by this machine, whatever is followed.
    pub fn own_now(&self) -> i64 {
        self.unix_nanos + self.anchor.elapsed().as_nanos() as i64
    }

    /// From now on it is `ahead_nanos` more than by this machine, with this bound of the error. What was measured too high
    /// it waits for; a clock that was set back it follows, or it would stand still as long as the step.
    pub fn follow(&self, ahead_nanos: i64, error_nanos: i64) {
        self.followed.ahead.store(ahead_nanos, Ordering::Relaxed);
        self.followed.error.store(error_nanos, Ordering::Relaxed);
        let behind = self.now() - (self.own_now() + ahead_nanos);
        if behind > STEP_NANOS {
            tracing::warn!(
                by = display_span(behind),
                "the database's clock was set back; windows may be wrong"
            );
            self.followed.last.fetch_sub(behind, Ordering::Relaxed);
        }
    }

    /// Bound of the error against the clock that is followed; 0 without one.
    pub fn error_nanos(&self) -> i64 {
        self.followed.error.load(Ordering::Relaxed)
    }
}

/// RFC 3339 in UTC with milliseconds, for messages to people.
pub fn display(unix_nanos: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(unix_nanos))
        .map_or_else(|_| format!("{unix_nanos} ns"), |time| format!("{time:.3}"))
}

/// A length of time as a person writes it: `25h`, `1m 30s`, `20ms`.
pub fn display_span(nanos: i64) -> String {
    let printer = SpanPrinter::new().direction(Direction::Sign);
    printer.duration_to_string(&jiff::SignedDuration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_followed_clock_is_right_at_once_and_goes_back_only_when_it_was_set_back() {
        const HOUR: i64 = 3_600_000_000_000;
        let clock = Clock::start();
        clock.follow(HOUR, 5);
        let ahead = clock.now();
        assert!(ahead >= clock.unix_nanos + HOUR);
        clock.clone().follow(HOUR - STEP_NANOS / 2, 7);
        assert!(clock.now() >= ahead);
        assert_eq!(clock.error_nanos(), 7);
        clock.follow(0, 7);
        assert!(clock.now() < ahead - HOUR / 2);
        let before = clock.now();
        assert!(clock.now() >= before);
    }

    #[test]
    fn lengths_are_in_the_units_that_people_give() {
        let shown = [90_000_000_000_000, 90_000_000_000, 20_000_000, 0, -5_000_000_000].map(display_span);
        assert_eq!(shown, ["25h", "1m 30s", "20ms", "0s", "-5s"]);
    }
}
