//! When a capture records, and how much: what its workers read and its job decides.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use tokio::sync::Notify;

const NEVER: i64 = i64::MAX;

/// Times on `CLOCK_MONOTONIC`, in nanoseconds. Starts out closed.
#[derive(Debug)]
pub struct Window {
    from: AtomicI64,
    until: AtomicI64,
    abandoned: AtomicBool,
    packets_left: AtomicU64,
    bytes_left: AtomicU64,
    /// Signalled once when a limit is reached.
    pub spent: Notify,
}

impl Window {
    /// A closed window that ends after `max_packets` or `max_bytes`.
    pub fn new(max_packets: Option<u64>, max_bytes: Option<u64>) -> Self {
        Self {
            from: AtomicI64::new(NEVER),
            until: AtomicI64::new(NEVER),
            abandoned: AtomicBool::new(false),
            packets_left: AtomicU64::new(max_packets.unwrap_or(u64::MAX)),
            bytes_left: AtomicU64::new(max_bytes.unwrap_or(u64::MAX)),
            spent: Notify::new(),
        }
    }

    /// Recording lasts from `from` until `until`.
    pub fn open(&self, from: i64, until: i64) {
        self.until.store(until, Ordering::Release);
        self.from.store(from, Ordering::Release);
    }

    /// Recording ends at `until`, unless it ends earlier anyway.
    pub fn shorten(&self, until: i64) {
        self.until.fetch_min(until, Ordering::AcqRel);
    }

    /// Workers stop at once and deliver nothing more.
    pub fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
    }

    /// See [`Self::abandon`].
    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    /// Begin and end of recording, once they are known.
    pub fn recording(&self) -> Option<(i64, i64)> {
        let from = self.from.load(Ordering::Acquire);
        (from != NEVER).then(|| (from, self.until.load(Ordering::Acquire)))
    }

    /// Takes recorded packets and bytes off the limits.
    pub fn spend(&self, packets: u64, bytes: u64) {
        let take = |left: &AtomicU64, amount: u64| {
            let before = left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| {
                (left != u64::MAX).then(|| left.saturating_sub(amount))
            });
            before.is_ok_and(|before| before > 0 && before <= amount)
        };
        if take(&self.packets_left, packets) | take(&self.bytes_left, bytes) {
            self.spent.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_limit_signals_once_it_is_reached() {
        let window = Window::new(Some(10), None);
        window.spend(9, 1_000_000);
        let early = tokio::time::timeout(std::time::Duration::from_millis(1), window.spent.notified()).await;
        assert!(early.is_err());
        window.spend(5, 0);
        window.spent.notified().await;
    }

    #[test]
    fn shortening_never_lengthens() {
        let window = Window::new(None, None);
        assert_eq!(window.recording(), None);
        window.open(5, 100);
        window.shorten(200);
        assert_eq!(window.recording(), Some((5, 100)));
        window.shorten(50);
        assert_eq!(window.recording(), Some((5, 50)));
    }
}
