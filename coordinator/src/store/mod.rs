//! What survives a crash: nodes, jobs, where every batch lies, and results. SQL lives here and nowhere else.
//!
//! [`Store`] is the whole surface, in the coordinator's own words. It has two backends, [`SqliteStore`] and
//! [`PostgresStore`], each written against its own driver, so that either can do what only it can: one writer and a
//! write-ahead log there, COPY, arrays and transactions that survive a restart of the server here. What reads and writes
//! a row at a time is one text for both, because SQLite takes `$1` for a parameter and `ON CONFLICT` for an upsert as
//! well: `statements` holds it once, and each backend compiles it with its own types. (The driver's run-time `Any` knows
//! fewer types and no COPY; generic functions would have to repeat a dozen bounds each.) What is written in bulk differs
//! and is in each backend's `bulk`. Migrations are a folder each, only ever added to. `tests/store.rs` holds both
//! to the same list.

pub mod cluster;
mod codec;
#[cfg(test)]
mod migrations;
mod postgres;
pub mod probes;
mod sqlite;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use lastseen_correlate::report::FlowRecord;
pub use postgres::{PostgresStore, Shared};
pub use sqlite::SqliteStore;

use crate::audit;
use crate::model::{BatchKey, Capture, CheckedBatch, NodeRecord, Point};

/// The database failed, or holds what this version cannot read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database could not be opened.
    #[error("database {url}: {reason}; {advice}")]
    Open {
        /// Where.
        url: String,
        /// Why.
        reason: String,
        /// What to do.
        advice: &'static str,
    },
    /// A URL of another database.
    #[error(
        "--database-url: {0:?} is not supported; give sqlite:///path/to/file.db or postgres://user@host/database, or \
         leave it out"
    )]
    Scheme(String),
    /// A statement failed.
    #[error("database: {0}")]
    Sql(#[source] sqlx::Error),
    /// A transaction that must not be made twice may have been committed.
    #[error("database: it is not known whether the last change was stored: {0}")]
    Uncertain(sqlx::Error),
    /// The database did not come back in time.
    #[error("database {place}: {reason}; check that it runs and can be reached")]
    Lost {
        /// Where.
        place: String,
        /// Why.
        reason: String,
    },
    /// Another coordinator leads the capture now: nothing was written.
    #[error("capture {capture} is led by another coordinator now")]
    Fenced {
        /// Capture id.
        capture: String,
    },
    /// The correlation run of the capture has begun or is over: its batches are not stored any more.
    #[error("capture {capture} takes no more batches; this one came too late")]
    Closed {
        /// Capture id.
        capture: String,
    },
    /// A capture was not stored, because whoever was asked does not admit it.
    #[error("{0}")]
    NotAdmitted(String),
    /// A stored value is not what was written.
    #[error("database: {table}.{column} of {row} cannot be read: {reason}")]
    Corrupt {
        /// Table.
        table: &'static str,
        /// Column.
        column: &'static str,
        /// Key of the row.
        row: String,
        /// What is wrong.
        reason: String,
    },
}

impl StoreError {
    /// The database cannot be reached or has no room, for now.
    pub fn passes(&self) -> bool {
        matches!(self, Self::Sql(_) | Self::Uncertain(_) | Self::Lost { .. })
    }
}

/// Statements that failed in this process, on whichever store: a database that ails is the process's trouble.
static ERRORS: AtomicU64 = AtomicU64::new(0);

/// See `database_errors` in docs/METRICS.md.
pub fn errors() -> u64 {
    ERRORS.load(Ordering::Relaxed)
}

/// Counts one more: a statement was given up before the driver gave an answer.
pub(crate) fn gave_up() {
    ERRORS.fetch_add(1, Ordering::Relaxed);
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        ERRORS.fetch_add(1, Ordering::Relaxed);
        Self::Sql(error)
    }
}

/// Connections to the database that are open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// At work.
    pub in_use: u32,
    /// Ready for work.
    pub idle: u32,
}

impl Connections {
    fn of<D: sqlx::Database>(pool: &sqlx::Pool<D>) -> Self {
        let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
        Self { in_use: pool.size().saturating_sub(idle), idle }
    }
}

/// Where a stored batch lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// File name, relative to the capture's directory.
    pub file: String,
    /// Offset of the record.
    pub position: u64,
    /// Bytes of the batch.
    pub length: u32,
    /// CRC-32 of the batch.
    pub checksum: u32,
}

/// A batch and where it was written, about to be committed.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The batch.
    pub batch: CheckedBatch,
    /// Where its bytes are, on stable storage already.
    pub location: Location,
}

/// A committed batch, for reading back.
#[derive(Clone, Debug)]
pub struct StoredBatch {
    /// Node of the point.
    pub node: String,
    /// The point.
    pub point: Point,
    /// Agent process.
    pub incarnation: u64,
    /// Sequence of the point and process.
    pub sequence: u64,
    /// Where.
    pub location: Location,
}

#[cfg(test)]
impl StoredBatch {
    /// As it is read back.
    pub(crate) fn sample(placed: &Placed) -> Self {
        let Placed { batch, location } = placed.clone();
        let BatchKey { node, incarnation, sequence, .. } = batch.key;
        Self { node, point: batch.point, incarnation, sequence, location }
    }
}

/// How much of a point is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCount {
    /// Node of the point.
    pub node: String,
    /// The point.
    pub point: crate::model::PointKey,
    /// Agent process.
    pub incarnation: u64,
    /// Batches.
    pub batches: u64,
}

/// What a correlation run leaves behind, in its final order.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// Encoded report.
    pub report: Vec<u8>,
    /// Flow records.
    pub flows: Vec<FlowRecord>,
    /// Encoded lost packets.
    pub lost: Vec<Vec<u8>>,
}

/// How old a capture is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Age {
    /// Its id.
    pub id: String,
    /// Nothing follows.
    pub is_ended: bool,
    /// End of its window; of one that has none, when it was stored.
    pub until_nanos: i64,
}

/// As long as it is there, no other coordinator on the same database has one.
pub type Alone = Box<dyn Send>;

/// Place in the list of captures, newest first: what comes after it is older.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Creation of the last one seen.
    pub created_at_nanos: i64,
    /// Its id.
    pub id: String,
}

/// The right to write what becomes of a capture. It ends when another coordinator takes the capture over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Capture id.
    pub capture: String,
    /// Grows each time the capture changes hands.
    pub token: i64,
}

/// What became of a new capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// It is stored, and led by this process where several share the database.
    New(Option<Fence>),
    /// The same call was made before; this is the id of its capture.
    Known(String),
}

/// Judges a new capture by those that have not ended. Says why it is not admitted.
pub type Admission<'a> = dyn Fn(&[Capture]) -> Result<(), String> + Send + Sync + 'a;

/// Opens the database that a URL names, and brings its schema up to date. Without a URL it is `lastseen.db` in the data
/// directory.
pub async fn open(url: Option<&str>, data_dir: &Path) -> Result<Arc<dyn Store>, StoreError> {
    match url {
        Some(url) if is_shared(url) => Ok(Arc::new(PostgresStore::open(url).await?)),
        url => Ok(Arc::new(SqliteStore::open(url, data_dir).await?)),
    }
}

/// Whether several coordinators may have the database that a URL names.
pub fn is_shared(url: &str) -> bool {
    url.starts_with("postgres:") || url.starts_with("postgresql:")
}

/// What every backend does. Each call is one transaction. Text comes back as it was, but for NUL, which comes back as
/// U+FFFD.
#[async_trait::async_trait]
pub trait Store: probes::ProbeStore {
    /// Writes a node, new or known.
    async fn save_node(&self, node: &NodeRecord) -> Result<(), StoreError>;
    /// Every node, by name.
    async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError>;

    /// Writes a capture with its parts and points, new or known. Topologies are left as they are.
    async fn save_capture(&self, capture: &Capture) -> Result<(), StoreError>;
    /// Writes a new capture if `admission` agrees, in one transaction, so that limits hold over all coordinators. A
    /// `request` that the same person made before is not made again.
    async fn create_capture(
        &self,
        capture: &Capture,
        request: Option<&str>,
        admission: &Admission<'_>,
    ) -> Result<Created, StoreError>;
    /// One capture.
    async fn capture(&self, id: &str) -> Result<Option<Capture>, StoreError>;
    /// Up to `limit` captures, newest first, from after `after`.
    async fn captures(&self, after: Option<&Cursor>, limit: u32) -> Result<Vec<Capture>, StoreError>;
    /// Captures that have not ended, oldest first.
    async fn unfinished(&self) -> Result<Vec<Capture>, StoreError>;
    /// How old every capture is, oldest first.
    async fn ages(&self) -> Result<Vec<Age>, StoreError>;
    /// Bytes of the batches of a capture.
    async fn stored_bytes(&self, capture: &str) -> Result<u64, StoreError>;
    /// The turn to delete what is old, unless another coordinator has it.
    async fn alone(&self) -> Result<Option<Alone>, StoreError>;
    /// Which fabric this is: a name that no other database has.
    async fn fabric(&self) -> Result<String, StoreError>;
    /// What the database is, and its version.
    async fn version(&self) -> Result<String, StoreError>;
    /// Removes a capture and all that hangs on it.
    async fn delete_capture(&self, id: &str) -> Result<(), StoreError>;
    /// Changes how many correlation runs of the capture count as started; returns how many do. Fewer they become whoever
    /// leads the capture by now.
    async fn add_runs(&self, capture: &str, change: i64) -> Result<i64, StoreError>;
    /// Keeps the encoded topologies of nodes with the capture, all or none.
    async fn save_topologies(&self, capture: &str, topologies: &[(String, Bytes)]) -> Result<(), StoreError>;
    /// Node names and their topologies in a capture.
    async fn topologies(&self, capture: &str) -> Result<Vec<(String, Bytes)>, StoreError>;
    /// Keeps what the connection tracking of nodes translated, encoded, with the capture, all or none.
    async fn save_translations(
        &self,
        capture: &str,
        translations: &[(String, Bytes)],
    ) -> Result<(), StoreError>;
    /// Node names and their translations in a capture.
    async fn translations(&self, capture: &str) -> Result<Vec<(String, Bytes)>, StoreError>;

    /// Lengths and checksums of the batches that are stored, in the order of the keys.
    async fn find_batches(&self, keys: &[&BatchKey]) -> Result<Vec<Option<(u32, u32)>>, StoreError>;
    /// Records batches. None of their keys may be stored yet.
    async fn commit_batches(&self, batches: &[Placed]) -> Result<(), StoreError>;
    /// Batches of a capture by node, point, incarnation and sequence.
    async fn batches(&self, capture: &str) -> Result<Vec<StoredBatch>, StoreError>;
    /// How many batches of each point are stored.
    async fn stored_counts(&self, capture: &str) -> Result<Vec<StoredCount>, StoreError>;
    /// Names of the observation files that hold committed batches of a capture.
    async fn files(&self, capture: &str) -> Result<Vec<String>, StoreError>;

    /// Writes what a correlation run found, in place of what was there.
    async fn save_results(&self, capture: &str, results: &Results) -> Result<(), StoreError>;
    /// The encoded report.
    async fn report(&self, capture: &str) -> Result<Option<Vec<u8>>, StoreError>;
    /// Up to `limit` flow records from number `from`, counted from 0.
    async fn flows(&self, capture: &str, from: u64, limit: u32) -> Result<Vec<FlowRecord>, StoreError>;
    /// Up to `limit` encoded lost packets from number `from`, counted from 0.
    async fn lost(&self, capture: &str, from: u64, limit: u32) -> Result<Vec<Vec<u8>>, StoreError>;

    /// Adds a record of the audit and drops the oldest, so that about `keep` remain. After an error it may be there all
    /// the same.
    async fn add_audit(&self, record: &audit::Record, keep: u64) -> Result<(), StoreError>;
    /// Up to `limit` records of the audit with their numbers, newest first.
    async fn audit(&self, query: &audit::Query, limit: u32) -> Result<Vec<(u64, audit::Record)>, StoreError>;

    /// Asks for nothing in particular, once: an error means that the database cannot be used now.
    async fn ping(&self) -> Result<(), StoreError>;
    /// Its connections.
    fn connections(&self) -> Connections;
    /// The same store, whose writes all rest on `fence`: they fail with [`StoreError::Fenced`] once it has ended.
    fn fenced(&self, fence: Fence) -> Arc<dyn Store>;
    /// What coordinators share here; absent where there can be but one.
    fn shared(&self) -> Option<Shared> {
        None
    }

    /// Closes every connection.
    async fn close(&self);
}
