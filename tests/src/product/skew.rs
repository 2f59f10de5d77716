//! Clocks that are off, and the agent that goes by them: everything it reads and every stamp of the kernel it passes
//! on, so that to the coordinator it is a node whose clocks are wrong.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Error, Result};
use lastseen_node_agent::capture::backend::Source;
use lastseen_node_agent::clock::{Clock, Kernel};

use super::stamped::Stamped;

/// Environment variable that tells the skewed agent its [`Skew`].
pub const VARIABLE: &str = "LASTSEEN_LAB_SKEW";

/// How a node's clocks are off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skew {
    /// How far the wall clock is ahead at `since_nanos`, nanoseconds.
    pub ahead_nanos: i64,
    /// How much faster both clocks go, parts per million.
    pub ppm: i64,
    /// From when on, nanoseconds since 1970 on the true clock.
    pub since_nanos: i64,
}

impl Skew {
    /// Clocks that go wrong from now on.
    pub fn new(millis: i64, ppm: i64) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { ahead_nanos: millis * 1_000_000, ppm, since_nanos: since.as_nanos() as i64 }
    }

    /// How far the wall clock is ahead at a time on the true clock.
    pub fn at(self, nanos: i64) -> i64 {
        self.ahead_nanos + self.drift(nanos)
    }

    fn drift(self, nanos: i64) -> i64 {
        (i128::from(nanos - self.since_nanos) * i128::from(self.ppm) / 1_000_000) as i64
    }
}

impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.ahead_nanos, self.ppm, self.since_nanos)
    }
}

impl FromStr for Skew {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers: Vec<i64> = text.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let [ahead_nanos, ppm, since_nanos] = numbers[..].try_into().context("three numbers")?;
        Ok(Self { ahead_nanos, ppm, since_nanos })
    }
}

impl Clock for Skew {
    fn monotonic_nanos(&self) -> i64 {
        Kernel.monotonic_nanos() + self.drift(Kernel.realtime_nanos())
    }

    fn realtime_nanos(&self) -> i64 {
        let true_nanos = Kernel.realtime_nanos();
        true_nanos + self.at(true_nanos)
    }

    fn stamp(&self, source: Box<dyn Source>) -> Box<dyn Source> {
        let skew = *self;
        Box::new(Stamped::new(source, move |true_nanos| true_nanos + skew.at(true_nanos)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skew_survives_its_way_through_the_environment_and_grows_with_time() {
        let skew = Skew { ahead_nanos: -500_000_000, ppm: 50, since_nanos: 1_700_000_000_000_000_000 };
        assert_eq!(skew.to_string().parse::<Skew>().unwrap(), skew);
        assert_eq!(skew.at(skew.since_nanos + 10_000_000_000), -499_500_000);
    }
}
