//! Database time: every coordinator follows the clock of the server that all of them share, so that a window and an
//! offset mean the same to whoever goes on with a capture.

use tokio_util::sync::CancellationToken;

use crate::clock::{ClockFilter, Exchange};
use crate::limits;
use crate::store::{Shared, StoreError};
use crate::time::Clock;

/// Exchanges before anything is timed.
const FIRST: usize = 8;

/// Measures the server's clock, RFC 5905 §8 with the server's times as one.
pub(super) struct Follower {
    shared: Shared,
    clock: Clock,
    filter: ClockFilter,
}

impl Follower {
    /// Follows it well enough to begin.
    pub(super) async fn start(shared: Shared, clock: Clock) -> Result<Self, StoreError> {
        let mut follower = Self { shared, clock, filter: ClockFilter::default() };
        for _ in 0..FIRST {
            follower.measure().await?;
        }
        Ok(follower)
    }

    /// Goes on until `stopping`.
    pub(super) async fn run(mut self, stopping: CancellationToken) {
        loop {
            let pause = tokio::time::sleep(limits::CLOCK_INTERVAL);
            if stopping.run_until_cancelled(pause).await.is_none() {
                return;
            }
            if let Err(error) = self.measure().await {
                tracing::debug!(%error, "the database's clock cannot be read");
            }
        }
    }

    async fn measure(&mut self) -> Result<(), StoreError> {
        let sent_nanos = self.clock.own_now();
        let server_nanos = self.shared.now().await?;
        let received_nanos = self.clock.own_now();
        self.filter.add(&Exchange {
            sent_nanos,
            node_received_nanos: server_nanos,
            node_sent_nanos: server_nanos,
            received_nanos,
            realtime_minus_monotonic_nanos: 0,
            coordinator_error_nanos: 0,
        });
        if let Some(fix) = self.filter.best(received_nanos) {
            self.clock.follow(-fix.coordinator_minus_monotonic_nanos, fix.error_nanos);
        }
        Ok(())
    }
}
