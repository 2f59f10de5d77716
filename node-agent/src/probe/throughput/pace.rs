//! So many bytes a second, and no bursts.

use std::time::Duration;

use tokio::time::Instant;

/// What was not sent for so long is not made up for: after a stall it would come in a burst, and be dropped for that alone.
const BACKLOG: Duration = Duration::from_millis(10);

/// A token bucket, empty at first: what leaves it is never more than the rate times the time since.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: f64,
    most: f64,
    tokens: f64,
    last: Instant,
}

impl Pace {
    /// In pieces of `piece` bytes.
    pub(super) fn new(bits_per_second: u64, piece: usize, now: Instant) -> Self {
        let bytes_per_second = bits_per_second as f64 / 8.0;
        // Two, or else what a late look left over would be lost.
        let most = (bytes_per_second * BACKLOG.as_secs_f64()).max(2.0 * piece as f64);
        Self { bytes_per_second, most, tokens: 0.0, last: now }
    }

    /// Bytes that may be sent now.
    pub(super) fn room(&mut self, now: Instant) -> usize {
        let elapsed = now.saturating_duration_since(self.last).as_secs_f64();
        self.tokens = (self.tokens + elapsed * self.bytes_per_second).min(self.most);
        self.last = now;
        self.tokens.max(0.0) as usize
    }

    /// So many were.
    pub(super) fn take(&mut self, bytes: usize) {
        self.tokens -= bytes as f64;
    }

    /// Until so many may be.
    pub(super) fn until(&self, bytes: usize) -> Duration {
        Duration::from_secs_f64(((bytes as f64 - self.tokens) / self.bytes_per_second).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that leave in a second if it is looked at this often.
    fn sent(bits_per_second: u64, every: Duration) -> usize {
        const PIECE: usize = 1_232;
        let begin = Instant::now();
        let (mut pace, mut now, mut sent) = (Pace::new(bits_per_second, PIECE, begin), begin, 0);
        while now < begin + Duration::from_secs(1) {
            now += every;
            while pace.room(now) >= PIECE {
                pace.take(PIECE);
                sent += PIECE;
            }
        }
        sent
    }

    #[test]
    fn the_rate_is_kept_and_never_passed() {
        for rate in [100_000, 10_000_000, 1_000_000_000, 10_000_000_000] {
            for every in [Duration::from_micros(900), Duration::from_millis(5)] {
                let (sent, asked) = (sent(rate, every), rate as usize / 8);
                assert!(sent <= asked + asked / 100, "{rate} {every:?}: {sent}");
                assert!(sent + 2 * 1_232 >= asked - asked / 100, "{rate} {every:?}: {sent}");
            }
        }
    }

    #[test]
    fn a_stall_is_not_made_up_for() {
        let begin = Instant::now();
        let mut pace = Pace::new(80_000_000, 1_000, begin);
        assert_eq!(pace.room(begin), 0);
        assert_eq!(pace.until(1_000), Duration::from_micros(100));
        assert_eq!(pace.room(begin + Duration::from_secs(5)), 100_000, "of ten milliseconds");
    }
}
