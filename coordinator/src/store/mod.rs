//! What survives a crash: nodes, jobs, where every batch lies, and results. SQL lives here and nowhere else.
//!
//! [`Store`] is the whole surface, in the coordinator's own words; SQLite is its backend.

mod captures;
mod codec;
mod flows;
mod ledger;
mod nodes;
mod results;
mod sqlite;

use bytes::Bytes;
use lastseen_correlate::report::FlowRecord;
pub use sqlite::SqliteStore;

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
    #[error("--database-url: {0:?} is not supported; give sqlite:///path/to/file.db or leave it out")]
    Scheme(String),
    /// A statement failed.
    #[error("database: {0}")]
    Sql(#[from] sqlx::Error),
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

/// Place in the list of captures, newest first: what comes after it is older.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Creation of the last one seen.
    pub created_at_nanos: i64,
    /// Its id.
    pub id: String,
}

/// What every backend does. Each call is one transaction.
#[async_trait::async_trait]
pub trait Store: Send + Sync {
    /// Writes a node, new or known.
    async fn save_node(&self, node: &NodeRecord) -> Result<(), StoreError>;
    /// Every node, by name.
    async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError>;

    /// Writes a capture with its parts and points, new or known. Topologies are left as they are.
    async fn save_capture(&self, capture: &Capture) -> Result<(), StoreError>;
    /// One capture.
    async fn capture(&self, id: &str) -> Result<Option<Capture>, StoreError>;
    /// Up to `limit` captures, newest first, from after `after`.
    async fn captures(&self, after: Option<&Cursor>, limit: u32) -> Result<Vec<Capture>, StoreError>;
    /// Captures that have not ended, oldest first.
    async fn unfinished(&self) -> Result<Vec<Capture>, StoreError>;
    /// Removes a capture and all that hangs on it.
    async fn delete_capture(&self, id: &str) -> Result<(), StoreError>;
    /// Changes how many correlation runs of the capture count as started; returns how many do.
    async fn add_runs(&self, capture: &str, change: i64) -> Result<i64, StoreError>;
    /// Keeps the node's encoded topology with the capture.
    async fn save_topology(&self, capture: &str, node: &str, topology: &Bytes) -> Result<(), StoreError>;
    /// Node names and their topologies in a capture.
    async fn topologies(&self, capture: &str) -> Result<Vec<(String, Bytes)>, StoreError>;
    /// Keeps what the node's connection tracking translated, encoded, with the capture.
    async fn save_translations(
        &self,
        capture: &str,
        node: &str,
        translations: &Bytes,
    ) -> Result<(), StoreError>;
    /// Node names and their translations in a capture.
    async fn translations(&self, capture: &str) -> Result<Vec<(String, Bytes)>, StoreError>;

    /// Length and checksum of a batch, if it is stored.
    async fn find_batch(&self, key: &BatchKey) -> Result<Option<(u32, u32)>, StoreError>;
    /// Records batches. None of their keys may be stored yet.
    async fn commit_batches(&self, batches: &[Placed]) -> Result<(), StoreError>;
    /// Batches of a capture by node, point, incarnation and sequence.
    async fn batches(&self, capture: &str) -> Result<Vec<StoredBatch>, StoreError>;
    /// How many batches of each point are stored.
    async fn stored_counts(&self, capture: &str) -> Result<Vec<StoredCount>, StoreError>;
    /// Observation files that hold committed batches, as (capture, file).
    async fn files(&self) -> Result<Vec<(String, String)>, StoreError>;

    /// Writes what a correlation run found, in place of what was there.
    async fn save_results(&self, capture: &str, results: &Results) -> Result<(), StoreError>;
    /// The encoded report.
    async fn report(&self, capture: &str) -> Result<Option<Vec<u8>>, StoreError>;
    /// Up to `limit` flow records from number `from`, counted from 0.
    async fn flows(&self, capture: &str, from: u64, limit: u32) -> Result<Vec<FlowRecord>, StoreError>;
    /// Up to `limit` encoded lost packets from number `from`, counted from 0.
    async fn lost(&self, capture: &str, from: u64, limit: u32) -> Result<Vec<Vec<u8>>, StoreError>;
}
