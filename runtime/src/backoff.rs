//! How long to wait before trying again.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// Delays that double from `first` to `max`, each stretched by a random share of itself, without end.
#[derive(Debug)]
pub struct Backoff {
    builder: ExponentialBuilder,
    delays: ExponentialBackoff,
    max: Duration,
}

impl Backoff {
    /// A fresh series.
    pub fn new(first: Duration, max: Duration) -> Self {
        let builder = ExponentialBuilder::default()
            .with_min_delay(first)
            .with_max_delay(max)
            .with_jitter()
            .without_max_times();
        Self { builder, delays: builder.build(), max }
    }

    /// The next delay: never below the undisturbed one, never above twice `max`.
    pub fn next_delay(&mut self) -> Duration {
        self.delays.next().unwrap_or(self.max)
    }

    /// Starts over, after a success.
    pub fn reset(&mut self) {
        self.delays = self.builder.build();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_maximum_and_start_over() {
        let (first, max) = (Duration::from_millis(100), Duration::from_secs(2));
        let mut backoff = Backoff::new(first, max);
        let delays: Vec<_> = (0..12).map(|_| backoff.next_delay()).collect();
        assert!(delays[0] >= first && delays[0] <= first * 2, "{delays:?}");
        assert!(delays[3] >= first * 8, "{delays:?}");
        assert!(delays[11] >= max && delays.iter().all(|d| *d <= max * 2), "{delays:?}");
        backoff.reset();
        assert!(backoff.next_delay() <= first * 2);
    }

    #[test]
    fn two_series_differ() {
        let series = || -> Vec<_> {
            let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_mins(1));
            (0..8).map(|_| backoff.next_delay()).collect()
        };
        assert_ne!(series(), series());
    }
}
