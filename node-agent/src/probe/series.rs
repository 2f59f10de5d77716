//! Attempts that do not wait for one another.

use futures_util::future::join_all;
use tokio::time::{Instant, sleep_until};

use super::spec::Schedule;

/// What each comes to, in the order in which they begin.
pub(super) async fn run<T>(schedule: &Schedule, begin: Instant, attempt: impl AsyncFn() -> T) -> Vec<T> {
    let attempt = &attempt;
    let attempts = (0..schedule.count).map(|number| async move {
        sleep_until(begin + schedule.interval * u32::from(number)).await;
        attempt().await
    });
    join_all(attempts).await
}
