//! A connection apart from the pool.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};

/// A connection that is made anew when it is gone. One whose use breaks off is dropped there and then: a pool would ask it
/// first whether it is sound, and wait for a server that does not answer.
#[derive(Debug)]
pub(super) struct Lone {
    options: PgConnectOptions,
    prepare: &'static str,
    patience: Duration,
    kept: Mutex<Option<PgConnection>>,
}

impl Lone {
    /// None yet; each begins with the statement `prepare`, within `patience`.
    pub(super) fn new(options: PgConnectOptions, prepare: &'static str, patience: Duration) -> Self {
        Self { options, prepare, patience, kept: Mutex::default() }
    }

    /// The one that was put back, or a new one. Whoever is done with it puts it back.
    pub(super) async fn take(&self) -> Result<PgConnection, sqlx::Error> {
        if let Some(kept) = self.taken() {
            return Ok(kept);
        }
        let connecting = async {
            let mut connection = self.options.connect().await?;
            sqlx::query(self.prepare).execute(&mut connection).await?;
            Ok(connection)
        };
        let connected = tokio::time::timeout(self.patience, connecting).await;
        connected.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// For the next time.
    pub(super) fn put_back(&self, connection: PgConnection) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
    }

    /// Tells the server that it is needed no more.
    pub(super) async fn close(&self) {
        if let Some(kept) = self.taken() {
            let _ = tokio::time::timeout(self.patience, kept.close()).await;
        }
    }

    fn taken(&self) -> Option<PgConnection> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
