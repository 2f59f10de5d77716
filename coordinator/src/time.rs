//! The coordinator's clock: Unix time that no one can step while the process lives.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use jiff::fmt::friendly::{Direction, SpanPrinter};

/// Unix time at one instant, carried on by the monotonic clock. A step of `CLOCK_REALTIME` (an operator, a first NTP
/// fix) therefore moves no window; slewing is followed because it acts on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    unix_nanos: i64,
    anchor: Instant,
}

impl Clock {
    /// A clock that agrees with `CLOCK_REALTIME` now.
    pub fn start() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { unix_nanos: unix.as_nanos() as i64, anchor: Instant::now() }
    }

    /// Nanoseconds since 1970.
    pub fn now(&self) -> i64 {
        self.unix_nanos + self.anchor.elapsed().as_nanos() as i64
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
    fn lengths_are_in_the_units_that_people_give() {
        let shown = [90_000_000_000_000, 90_000_000_000, 20_000_000, 0, -5_000_000_000].map(display_span);
        assert_eq!(shown, ["25h", "1m 30s", "20ms", "0s", "-5s"]);
    }
}
