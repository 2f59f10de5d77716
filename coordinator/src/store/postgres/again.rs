//! Which errors pass by themselves, and trying again until they have.

use std::time::Duration;

use sqlx::error::DatabaseError;
use tokio::time::{Instant, sleep, timeout};

use super::{PostgresStore, open};
use crate::store::{StoreError, gave_up};

/// How long a call tries again for which somebody waits who can ask again: a person, an agent with its batches.
pub(super) const ASKED: Duration = Duration::from_secs(10);
/// How long a call tries again for which nobody can: a capture would fail for it. A server that restarts or fails over
/// is back by then.
pub(super) const WORK: Duration = Duration::from_mins(1);
/// An answer to what is asked again in a moment anyhow. A connection that swallows everything must not hold up who looks
/// after all the others.
const ANSWER: Duration = Duration::from_secs(10);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);
/// One attempt. A network that swallows everything ends a call this way.
const ATTEMPT: Duration = Duration::from_mins(1);

impl PostgresStore {
    /// Runs a transaction, and once more when the server or the network broke it off. `attempt` must be harmless when it
    /// is repeated after an error other than [`StoreError::Uncertain`].
    pub(super) async fn again<T, F>(
        &self,
        patience: Duration,
        attempt: impl Fn() -> F + Send,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send,
    {
        let started = Instant::now();
        loop {
            let error = match timeout(ATTEMPT, attempt()).await {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(StoreError::Sql(error))) if passes(&error) => error,
                Ok(Err(StoreError::Uncertain(error))) if is_undone(&error) => error,
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    gave_up();
                    return Err(self.lost(format!("no answer within {} s", ATTEMPT.as_secs())));
                }
            };
            if started.elapsed() >= patience {
                return Err(self.lost(open::reason(&error)));
            }
            tracing::warn!(database = self.place, reason = open::reason(&error), "trying again");
            sleep(PAUSE).await;
        }
    }

    /// Runs what is asked again in a moment anyhow: its answer comes soon, or not at all.
    pub(super) async fn once<T>(
        &self,
        asking: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        timeout(ANSWER, asking)
            .await
            .unwrap_or_else(|_| Err(self.lost(format!("no answer within {} s", ANSWER.as_secs()))))
    }

    fn lost(&self, reason: String) -> StoreError {
        StoreError::Lost { place: self.place.clone(), reason }
    }
}

/// The connection is gone, the server is on its way up or down, or two transactions were in each other's way.
fn passes(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            // Class 08 connection, 53300 too many, 57P01 to 57P03 shutdown and start.
            code.starts_with("08")
                || ["53300", "57P01", "57P02", "57P03"].contains(&code.as_ref())
                || is_conflict(error.as_ref())
        }
        _ => false,
    }
}

/// The server says that a commit did not happen.
fn is_undone(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if is_conflict(error.as_ref()))
}

/// Serialization failure or deadlock: rolled back, and worth another attempt.
fn is_conflict(error: &dyn DatabaseError) -> bool {
    ["40001", "40P01"].contains(&error.code().unwrap_or_default().as_ref())
}
