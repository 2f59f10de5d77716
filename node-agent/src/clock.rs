//! The two clocks of a node: the kernel stamps packets on `CLOCK_REALTIME`, which steps; windows are kept on
//! `CLOCK_MONOTONIC`, which does not.

use std::sync::OnceLock;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use crate::capture::backend::Source;

/// What tells the time to everything in this process. The kernel does, unless a program installs something else.
pub trait Clock: Send + Sync {
    /// Nanoseconds since boot on `CLOCK_MONOTONIC`.
    fn monotonic_nanos(&self) -> i64;

    /// Nanoseconds since 1970 on `CLOCK_REALTIME`.
    fn realtime_nanos(&self) -> i64;

    /// Puts the kernel's stamps onto this clock.
    fn stamp(&self, source: Box<dyn Source>) -> Box<dyn Source>;
}

static INSTALLED: OnceLock<Box<dyn Clock>> = OnceLock::new();

/// Has `clock` tell the time from now on. False if one was installed before, which stays. Call it before the agent
/// runs.
pub fn install(clock: Box<dyn Clock>) -> bool {
    INSTALLED.set(clock).is_ok()
}

fn clock() -> &'static dyn Clock {
    INSTALLED.get().map_or(&Kernel, |clock| &**clock)
}

/// Nanoseconds since boot on `CLOCK_MONOTONIC`.
pub fn monotonic_nanos() -> i64 {
    clock().monotonic_nanos()
}

/// Nanoseconds since 1970 on `CLOCK_REALTIME`.
pub fn realtime_nanos() -> i64 {
    clock().realtime_nanos()
}

/// A time on `CLOCK_MONOTONIC` as timers take it; now if it has passed.
pub(crate) fn instant(monotonic_nanos: i64) -> Instant {
    let ahead = monotonic_nanos.saturating_sub(self::monotonic_nanos()).max(0);
    Instant::now() + Duration::from_nanos(ahead as u64)
}

/// Puts a source's stamps onto the clock.
pub(crate) fn stamp(source: Box<dyn Source>) -> Box<dyn Source> {
    clock().stamp(source)
}

/// `CLOCK_REALTIME` minus `CLOCK_MONOTONIC` in nanoseconds. Of three readings the one with the shortest gap between
/// its two monotonic halves counts, so that being descheduled in between does not show as an offset.
pub fn realtime_minus_monotonic() -> i64 {
    let reading = || {
        let before = monotonic_nanos();
        let realtime = realtime_nanos();
        let after = monotonic_nanos();
        (after - before, realtime - before.midpoint(after))
    };
    (0..3).map(|_| reading()).min().map_or(0, |(_, offset)| offset)
}

/// The kernel's own clocks.
#[derive(Clone, Copy, Debug)]
pub struct Kernel;

impl Clock for Kernel {
    fn monotonic_nanos(&self) -> i64 {
        read(ClockId::CLOCK_MONOTONIC)
    }

    fn realtime_nanos(&self) -> i64 {
        read(ClockId::CLOCK_REALTIME)
    }

    fn stamp(&self, source: Box<dyn Source>) -> Box<dyn Source> {
        source
    }
}

fn read(clock: ClockId) -> i64 {
    // Both clocks exist on every Linux; a reading of 0 would show as a window that never comes.
    clock_gettime(clock).map_or(0, |t| t.tv_sec() * 1_000_000_000 + t.tv_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offset_joins_the_two_clocks() {
        let offset = realtime_minus_monotonic();
        let before = realtime_nanos();
        let converted = monotonic_nanos() + offset;
        let after = realtime_nanos();
        assert!(converted > before - 5_000_000 && converted < after + 5_000_000);
    }
}
