//! The embedded database. One writer connection, so that writers queue here and not on the file's lock, and a few
//! readers beside it. Write-ahead log, synced at every commit: what was committed survives a power cut.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use lastseen_correlate::report::FlowRecord;
use sqlx::SqlitePool;
use sqlx::error::DatabaseError;
use sqlx::migrate::MigrateError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::{
    Cursor, Placed, Results, Store, StoreError, StoredBatch, StoredCount, captures, flows, ledger, nodes,
    results,
};
use crate::model::{BatchKey, Capture, NodeRecord};

/// Result code `SQLITE_NOTADB`.
const NOT_A_DATABASE: &str = "26";
/// Readers beside the writer.
const READERS: u32 = 4;

/// [`Store`] on SQLite.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl SqliteStore {
    /// Opens or creates the database and brings its schema up to date. Without a URL it is `lastseen.db` in the data
    /// directory.
    pub async fn open(url: Option<&str>, data_dir: &Path) -> Result<Self, StoreError> {
        let (url, options) = options(url, data_dir)?;
        let failed = |error: MigrateError| StoreError::Open {
            url: url.clone(),
            advice: advice(&error),
            reason: match error {
                MigrateError::Execute(error) => error.to_string(),
                error => error.to_string(),
            },
        };
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options.clone())
            .await
            .map_err(|e| failed(e.into()))?;
        sqlx::migrate!().run(&writer).await.map_err(failed)?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_with(options.read_only(true))
            .await
            .map_err(|e| failed(e.into()))?;
        Ok(Self { writer, readers })
    }

    /// Closes every connection; the write-ahead log is folded into the file.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// What to do about a database that does not open.
fn advice(error: &MigrateError) -> &'static str {
    const WRITABLE: &str = "check that the directory exists and is writable";
    match error {
        MigrateError::Execute(error) => match error.as_database_error().and_then(DatabaseError::code) {
            Some(code) if code == NOT_A_DATABASE => "move that file away or give another path",
            _ => WRITABLE,
        },
        MigrateError::VersionMissing(_)
        | MigrateError::VersionMismatch(_)
        | MigrateError::VersionTooNew(..) => {
            "another version of the coordinator made it; start that one, or a newer one"
        }
        _ => WRITABLE,
    }
}

fn options(url: Option<&str>, data_dir: &Path) -> Result<(String, SqliteConnectOptions), StoreError> {
    let (shown, options) = match url {
        None => {
            let path: PathBuf = data_dir.join("lastseen.db");
            (path.display().to_string(), SqliteConnectOptions::new().filename(path))
        }
        Some(url) if url.starts_with("sqlite:") => {
            let parsed = SqliteConnectOptions::from_str(url).map_err(|e| StoreError::Open {
                url: url.to_owned(),
                reason: e.to_string(),
                advice: "give sqlite:///path/to/file.db",
            })?;
            (url.to_owned(), parsed)
        }
        // A URL of another database may carry a password: only its scheme is repeated.
        Some(url) => {
            let scheme = url.split(':').next().unwrap_or_default();
            return Err(StoreError::Scheme(format!("{scheme}:…")));
        }
    };
    let options = options
        .create_if_missing(true)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(10));
    Ok((shown, options))
}

#[async_trait::async_trait]
impl Store for SqliteStore {
    async fn save_node(&self, node: &NodeRecord) -> Result<(), StoreError> {
        nodes::save(&self.writer, node).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError> {
        nodes::all(&self.readers).await
    }

    async fn save_capture(&self, capture: &Capture) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await?;
        captures::save(&mut transaction, capture).await?;
        Ok(transaction.commit().await?)
    }

    async fn capture(&self, id: &str) -> Result<Option<Capture>, StoreError> {
        captures::one(&mut *self.readers.begin().await?, id).await
    }

    async fn captures(&self, after: Option<&Cursor>, limit: u32) -> Result<Vec<Capture>, StoreError> {
        captures::page(&mut *self.readers.begin().await?, after, limit).await
    }

    async fn unfinished(&self) -> Result<Vec<Capture>, StoreError> {
        captures::unfinished(&mut *self.readers.begin().await?).await
    }

    async fn delete_capture(&self, id: &str) -> Result<(), StoreError> {
        captures::delete(&self.writer, id).await
    }

    async fn add_runs(&self, capture: &str, change: i64) -> Result<i64, StoreError> {
        let mut transaction = self.writer.begin().await?;
        let runs = captures::add_runs(&mut transaction, capture, change).await?;
        transaction.commit().await?;
        Ok(runs)
    }

    async fn save_topology(&self, capture: &str, node: &str, topology: &Bytes) -> Result<(), StoreError> {
        captures::save_topology(&self.writer, capture, node, topology).await
    }

    async fn save_translations(
        &self,
        capture: &str,
        node: &str,
        translations: &Bytes,
    ) -> Result<(), StoreError> {
        captures::save_translations(&self.writer, capture, node, translations).await
    }

    async fn translations(&self, capture: &str) -> Result<Vec<(String, Bytes)>, StoreError> {
        captures::translations(&self.readers, capture).await
    }

    async fn topologies(&self, capture: &str) -> Result<Vec<(String, Bytes)>, StoreError> {
        captures::topologies(&self.readers, capture).await
    }

    async fn find_batch(&self, key: &BatchKey) -> Result<Option<(u32, u32)>, StoreError> {
        ledger::find(&self.readers, key).await
    }

    async fn commit_batches(&self, batches: &[Placed]) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await?;
        ledger::commit(&mut transaction, batches).await?;
        Ok(transaction.commit().await?)
    }

    async fn batches(&self, capture: &str) -> Result<Vec<StoredBatch>, StoreError> {
        ledger::batches(&self.readers, capture).await
    }

    async fn stored_counts(&self, capture: &str) -> Result<Vec<StoredCount>, StoreError> {
        ledger::counts(&self.readers, capture).await
    }

    async fn files(&self) -> Result<Vec<(String, String)>, StoreError> {
        ledger::files(&self.readers).await
    }

    async fn save_results(&self, capture: &str, found: &Results) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await?;
        results::save(&mut transaction, capture, found).await?;
        Ok(transaction.commit().await?)
    }

    async fn report(&self, capture: &str) -> Result<Option<Vec<u8>>, StoreError> {
        results::report(&self.readers, capture).await
    }

    async fn flows(&self, capture: &str, from: u64, limit: u32) -> Result<Vec<FlowRecord>, StoreError> {
        flows::page(&self.readers, capture, from, limit).await
    }

    async fn lost(&self, capture: &str, from: u64, limit: u32) -> Result<Vec<Vec<u8>>, StoreError> {
        results::lost(&self.readers, capture, from, limit).await
    }
}
