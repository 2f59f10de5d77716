//! The embedded database. One writer connection, so that writers queue here and not on the file's lock, and a few
//! readers beside it. Write-ahead log, synced at every commit: what was committed survives a power cut.

mod bulk;
mod probes;
#[path = "../statements/mod.rs"]
#[allow(clippy::duplicate_mod, reason = "compiled once per backend, see statements")]
mod statements;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lastseen_correlate::report::FlowRecord;
use sqlx::error::DatabaseError;
use sqlx::migrate::MigrateError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, SqlitePool};

use self::statements::{audit, captures, flows, ledger, nodes, results};
use super::{
    Admission, Age, Alone, Connections, Created, Cursor, Fence, Placed, Results, Store, StoreError,
    StoredBatch, StoredCount,
};
use crate::audit::{Query, Record};
use crate::model::{BatchKey, Capture, NodeRecord};

type Connection = sqlx::SqliteConnection;
type Row = sqlx::sqlite::SqliteRow;

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
            .after_release(|connection, _| Box::pin(is_reusable(connection)))
            .connect_with(options.clone())
            .await
            .map_err(|e| failed(e.into()))?;
        sqlx::migrate!("./migrations/sqlite").run(&writer).await.map_err(failed)?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_with(options.read_only(true))
            .await
            .map_err(|e| failed(e.into()))?;
        Ok(Self { writer, readers })
    }
}

/// Whether the next transaction on a connection would be one. Where the disk is full, SQLite may end a transaction by
/// itself (its manual, "BEGIN TRANSACTION", response to errors); the driver, whose rollback then fails, takes what follows
/// for nested ones, and none of them is ever committed.
async fn is_reusable(connection: &mut Connection) -> sqlx::Result<bool> {
    // Behind the rollback of a transaction that was dropped.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
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
        nodes::save(&mut *self.writer.acquire().await?, node).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError> {
        nodes::all(&mut *self.readers.acquire().await?).await
    }

    async fn save_capture(&self, capture: &Capture) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await?;
        captures::save(&mut transaction, capture).await?;
        Ok(transaction.commit().await?)
    }

    async fn create_capture(
        &self,
        capture: &Capture,
        request: Option<&str>,
        admission: &Admission<'_>,
    ) -> Result<Created, StoreError> {
        let mut transaction = self.writer.begin().await?;
        let known = captures::create(&mut transaction, capture, request, admission).await?;
        transaction.commit().await?;
        Ok(known.map_or(Created::New(None), Created::Known))
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

    async fn ages(&self) -> Result<Vec<Age>, StoreError> {
        captures::ages(&mut *self.readers.acquire().await?).await
    }

    async fn stored_bytes(&self, capture: &str) -> Result<u64, StoreError> {
        ledger::bytes(&mut *self.readers.acquire().await?, capture).await
    }

    /// The lock of the data directory keeps others out.
    async fn alone(&self) -> Result<Option<Alone>, StoreError> {
        Ok(Some(Box::new(())))
    }

    async fn fabric(&self) -> Result<String, StoreError> {
        Ok(sqlx::query_scalar("SELECT id FROM fabric").fetch_one(&self.readers).await?)
    }

    async fn version(&self) -> Result<String, StoreError> {
        let version: String = sqlx::query_scalar("SELECT sqlite_version()").fetch_one(&self.readers).await?;
        Ok(format!("SQLite {version}"))
    }

    async fn delete_capture(&self, id: &str) -> Result<(), StoreError> {
        captures::delete(&mut *self.writer.acquire().await?, id).await
    }

    async fn add_runs(&self, capture: &str, change: i64) -> Result<i64, StoreError> {
        let mut transaction = self.writer.begin().await?;
        let runs = captures::add_runs(&mut transaction, capture, change).await?;
        transaction.commit().await?;
        Ok(runs)
    }

    async fn save_topologies(&self, capture: &str, topologies: &[(String, Bytes)]) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await?;
        bulk::save_topologies(&mut transaction, capture, topologies).await?;
        Ok(transaction.commit().await?)
    }

    async fn save_translations(
        &self,
        capture: &str,
        translations: &[(String, Bytes)],
    ) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await?;
        bulk::save_translations(&mut transaction, capture, translations).await?;
        Ok(transaction.commit().await?)
    }

    async fn translations(&self, capture: &str) -> Result<Vec<(String, Bytes)>, StoreError> {
        captures::translations(&mut *self.readers.acquire().await?, capture).await
    }

    async fn topologies(&self, capture: &str) -> Result<Vec<(String, Bytes)>, StoreError> {
        captures::topologies(&mut *self.readers.acquire().await?, capture).await
    }

    async fn find_batches(&self, keys: &[&BatchKey]) -> Result<Vec<Option<(u32, u32)>>, StoreError> {
        bulk::find_batches(&mut *self.readers.acquire().await?, keys).await
    }

    async fn commit_batches(&self, batches: &[Placed]) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await?;
        bulk::save_batches(&mut transaction, batches).await?;
        Ok(transaction.commit().await?)
    }

    async fn batches(&self, capture: &str) -> Result<Vec<StoredBatch>, StoreError> {
        ledger::batches(&mut *self.readers.acquire().await?, capture).await
    }

    async fn stored_counts(&self, capture: &str) -> Result<Vec<StoredCount>, StoreError> {
        ledger::counts(&mut *self.readers.acquire().await?, capture).await
    }

    async fn files(&self, capture: &str) -> Result<Vec<String>, StoreError> {
        ledger::files(&mut *self.readers.acquire().await?, capture).await
    }

    async fn save_results(&self, capture: &str, found: &Results) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await?;
        results::save(&mut transaction, capture, found).await?;
        Ok(transaction.commit().await?)
    }

    async fn report(&self, capture: &str) -> Result<Option<Vec<u8>>, StoreError> {
        results::report(&mut *self.readers.acquire().await?, capture).await
    }

    async fn flows(&self, capture: &str, from: u64, limit: u32) -> Result<Vec<FlowRecord>, StoreError> {
        flows::page(&mut *self.readers.acquire().await?, capture, from, limit).await
    }

    async fn lost(&self, capture: &str, from: u64, limit: u32) -> Result<Vec<Vec<u8>>, StoreError> {
        results::lost(&mut *self.readers.acquire().await?, capture, from, limit).await
    }

    async fn add_audit(&self, record: &Record, keep: u64) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await?;
        audit::add(&mut transaction, record, keep).await?;
        Ok(transaction.commit().await?)
    }

    async fn audit(&self, query: &Query, limit: u32) -> Result<Vec<(u64, Record)>, StoreError> {
        audit::page(&mut *self.readers.acquire().await?, query, limit).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        captures::ping(&mut *self.readers.acquire().await?).await
    }

    fn connections(&self) -> Connections {
        let (writer, readers) = (Connections::of(&self.writer), Connections::of(&self.readers));
        Connections { in_use: writer.in_use + readers.in_use, idle: writer.idle + readers.idle }
    }

    /// There is one coordinator, and it is this.
    fn fenced(&self, _fence: Fence) -> Arc<dyn Store> {
        Arc::new(self.clone())
    }

    async fn close(&self) {
        self.readers.close().await;
        // Folds the write-ahead log into the file.
        self.writer.close().await;
    }
}
