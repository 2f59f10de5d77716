//! The coordinator's clock: Unix time that no one can step while the process lives.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

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

/// A length of time as a person writes it: `90s`, `1.5s`, `20ms`.
pub fn display_span(nanos: i64) -> String {
    match nanos {
        n if n % 1_000_000_000 == 0 => format!("{}s", n / 1_000_000_000),
        n if n % 1_000_000 == 0 && n.abs() < 1_000_000_000 => format!("{}ms", n / 1_000_000),
        n => format!("{}s", n as f64 / 1e9),
    }
}
