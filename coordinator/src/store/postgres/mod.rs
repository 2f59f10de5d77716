//! The database server of a cluster. Transactions that the server or the network broke off are made again for a while
//! where that can do no harm: a restart of the server is a pause, not an error.

mod again;
mod bulk;
mod copy;
mod lone;
mod open;
mod probes;
mod shared;
#[path = "../statements/mod.rs"]
#[allow(clippy::duplicate_mod, reason = "compiled once per backend, see statements")]
mod statements;

use std::sync::Arc;

use bytes::Bytes;
use lastseen_correlate::report::FlowRecord;
use sqlx::PgPool;

use self::again::{ASKED, WORK};
use self::lone::Lone;
pub use self::shared::Shared;
use self::statements::{audit, captures, flows, ledger, nodes, results};
use super::cluster::Word;
use super::{
    Admission, Age, Alone, Connections, Created, Cursor, Fence, Placed, Results, Store, StoreError,
    StoredBatch, StoredCount,
};
use crate::audit::{Query, Record};
use crate::model::{BatchKey, Capture, NodeRecord, State};

type Connection = sqlx::PgConnection;
type Row = sqlx::postgres::PgRow;
type Transaction = sqlx::Transaction<'static, sqlx::Postgres>;

/// Advisory lock of whoever deletes what is old: `lastswee` in ASCII. Locks of sessions and of transactions are one space:
/// no other may have this number.
const RETENTION: i64 = 0x6c61_7374_7377_6565;
/// Several statements that read see one state of things.
const READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// [`Store`] on Postgres.
#[derive(Clone, Debug)]
pub struct PostgresStore {
    pool: PgPool,
    /// One connection more, for what says that this process lives: calls that take every other one cost no lease.
    leases: Arc<Lone>,
    /// Where, without a password.
    place: String,
    /// This process among those that share the database.
    id: i64,
    /// What every write rests on.
    fence: Option<Fence>,
}

impl PostgresStore {
    /// Connects and brings the schema up to date.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let id = rand::random::<i64>() & i64::MAX;
        let target = open::Target::parse(url, id)?;
        let place = target.shown.clone();
        let (pool, leases) = target.open().await?;
        Ok(Self { pool, leases: Arc::new(leases), place, id, fence: None })
    }

    async fn read(&self) -> Result<Transaction, StoreError> {
        Ok(self.pool.begin_with(READ).await?)
    }

    async fn write(&self) -> Result<Transaction, StoreError> {
        let mut transaction = self.pool.begin().await?;
        self.check(&mut transaction).await?;
        Ok(transaction)
    }

    /// Holds on to the right to write, if this store rests on one, until the transaction ends.
    async fn check(&self, connection: &mut Connection) -> Result<(), StoreError> {
        match &self.fence {
            Some(fence) => shared::lease::check(connection, fence).await,
            None => Ok(()),
        }
    }
}

/// Commits what would do harm twice: an error says that it may have been done.
async fn commit_once(transaction: Transaction) -> Result<(), StoreError> {
    transaction.commit().await.map_err(|error| match error.into() {
        StoreError::Sql(error) => StoreError::Uncertain(error),
        error => error,
    })
}

#[async_trait::async_trait]
impl Store for PostgresStore {
    async fn save_node(&self, node: &NodeRecord) -> Result<(), StoreError> {
        self.again(WORK, || async move {
            let mut transaction = self.write().await?;
            if !shared::is_overtaken(&mut transaction, node).await? {
                nodes::save(&mut transaction, node).await?;
            }
            Ok(transaction.commit().await?)
        })
        .await
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError> {
        self.again(WORK, || async move { nodes::all(&mut *self.read().await?).await }).await
    }

    async fn save_capture(&self, capture: &Capture) -> Result<(), StoreError> {
        self.again(WORK, || async move {
            let mut transaction = self.pool.begin().await?;
            if capture.state >= State::Correlating {
                shared::lease::wait_for_commits(&mut transaction, &capture.id).await?;
            }
            self.check(&mut transaction).await?;
            captures::save(&mut transaction, capture).await?;
            shared::notify(&mut transaction, self.id, Word::Captures).await?;
            Ok(transaction.commit().await?)
        })
        .await
    }

    async fn create_capture(
        &self,
        capture: &Capture,
        request: Option<&str>,
        admission: &Admission<'_>,
    ) -> Result<Created, StoreError> {
        self.again(ASKED, || async move {
            let mut transaction = self.write().await?;
            shared::lease::one_at_a_time(&mut transaction).await?;
            if let Some(known) = captures::create(&mut transaction, capture, request, admission).await? {
                return Ok(Created::Known(known));
            }
            let fence = shared::lease::begin(&mut transaction, &capture.id, self.id).await?;
            shared::notify(&mut transaction, self.id, Word::Captures).await?;
            commit_once(transaction).await?;
            Ok(Created::New(Some(fence)))
        })
        .await
    }

    async fn capture(&self, id: &str) -> Result<Option<Capture>, StoreError> {
        self.again(ASKED, || async move { captures::one(&mut *self.read().await?, id).await }).await
    }

    async fn captures(&self, after: Option<&Cursor>, limit: u32) -> Result<Vec<Capture>, StoreError> {
        self.again(ASKED, || async move { captures::page(&mut *self.read().await?, after, limit).await })
            .await
    }

    async fn unfinished(&self) -> Result<Vec<Capture>, StoreError> {
        self.again(WORK, || async move { captures::unfinished(&mut *self.read().await?).await }).await
    }

    async fn ages(&self) -> Result<Vec<Age>, StoreError> {
        self.again(WORK, || async move { captures::ages(&mut *self.read().await?).await }).await
    }

    async fn stored_bytes(&self, capture: &str) -> Result<u64, StoreError> {
        self.again(WORK, || async move { ledger::bytes(&mut *self.read().await?, capture).await }).await
    }

    /// An advisory lock of a connection that leaves the pool: closed with it, by whichever end.
    async fn alone(&self) -> Result<Option<Alone>, StoreError> {
        self.again(ASKED, || async move {
            let mut connection = self.pool.acquire().await?.detach();
            let query = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(RETENTION);
            let is_ours: bool = query.fetch_one(&mut connection).await?;
            Ok(is_ours.then(|| Box::new(connection) as Alone))
        })
        .await
    }

    async fn fabric(&self) -> Result<String, StoreError> {
        self.again(ASKED, || async move {
            let query = sqlx::query_scalar("SELECT id FROM fabric");
            Ok(query.fetch_one(&mut *self.pool.acquire().await?).await?)
        })
        .await
    }

    async fn version(&self) -> Result<String, StoreError> {
        let version: String = self
            .again(ASKED, || async move {
                let query = sqlx::query_scalar("SELECT current_setting('server_version')");
                Ok(query.fetch_one(&mut *self.pool.acquire().await?).await?)
            })
            .await?;
        Ok(format!("Postgres {version}"))
    }

    async fn delete_capture(&self, id: &str) -> Result<(), StoreError> {
        self.again(WORK, || async move {
            let mut transaction = self.write().await?;
            captures::delete(&mut transaction, id).await?;
            Ok(transaction.commit().await?)
        })
        .await
    }

    async fn add_runs(&self, capture: &str, change: i64) -> Result<i64, StoreError> {
        self.again(WORK, || async move {
            // A run that is called off because somebody else leads by now is taken back all the same.
            let mut transaction = if change < 0 { self.pool.begin().await? } else { self.write().await? };
            let runs = captures::add_runs(&mut transaction, capture, change).await?;
            commit_once(transaction).await?;
            Ok(runs)
        })
        .await
    }

    async fn save_topologies(&self, capture: &str, topologies: &[(String, Bytes)]) -> Result<(), StoreError> {
        self.again(WORK, || async move {
            let mut transaction = self.write().await?;
            bulk::save_topologies(&mut transaction, capture, topologies).await?;
            Ok(transaction.commit().await?)
        })
        .await
    }

    async fn save_translations(
        &self,
        capture: &str,
        translations: &[(String, Bytes)],
    ) -> Result<(), StoreError> {
        self.again(WORK, || async move {
            let mut transaction = self.write().await?;
            bulk::save_translations(&mut transaction, capture, translations).await?;
            Ok(transaction.commit().await?)
        })
        .await
    }

    async fn translations(&self, capture: &str) -> Result<Vec<(String, Bytes)>, StoreError> {
        self.again(WORK, || async move { captures::translations(&mut *self.read().await?, capture).await })
            .await
    }

    async fn topologies(&self, capture: &str) -> Result<Vec<(String, Bytes)>, StoreError> {
        self.again(WORK, || async move { captures::topologies(&mut *self.read().await?, capture).await })
            .await
    }

    async fn find_batches(&self, keys: &[&BatchKey]) -> Result<Vec<Option<(u32, u32)>>, StoreError> {
        self.again(ASKED, || async move { bulk::find_batches(&mut *self.pool.acquire().await?, keys).await })
            .await
    }

    async fn commit_batches(&self, batches: &[Placed]) -> Result<(), StoreError> {
        self.again(ASKED, || async move {
            let mut transaction = self.write().await?;
            shared::lease::hold_open(&mut transaction, batches).await?;
            bulk::save_batches(&mut transaction, batches).await?;
            shared::notify(&mut transaction, self.id, Word::Batches).await?;
            commit_once(transaction).await
        })
        .await
    }

    async fn batches(&self, capture: &str) -> Result<Vec<StoredBatch>, StoreError> {
        self.again(WORK, || async move { ledger::batches(&mut *self.read().await?, capture).await }).await
    }

    async fn stored_counts(&self, capture: &str) -> Result<Vec<StoredCount>, StoreError> {
        self.again(WORK, || async move { ledger::counts(&mut *self.read().await?, capture).await }).await
    }

    async fn files(&self, capture: &str) -> Result<Vec<String>, StoreError> {
        self.again(WORK, || async move { ledger::files(&mut *self.read().await?, capture).await }).await
    }

    async fn save_results(&self, capture: &str, found: &Results) -> Result<(), StoreError> {
        self.again(WORK, || async move {
            // A lease cannot be renewed while its row is locked: the right to write is taken last.
            let mut transaction = self.pool.begin().await?;
            results::save(&mut transaction, capture, found).await?;
            self.check(&mut transaction).await?;
            Ok(transaction.commit().await?)
        })
        .await
    }

    async fn report(&self, capture: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.again(ASKED, || async move { results::report(&mut *self.read().await?, capture).await }).await
    }

    async fn flows(&self, capture: &str, from: u64, limit: u32) -> Result<Vec<FlowRecord>, StoreError> {
        self.again(ASKED, || async move { flows::page(&mut *self.read().await?, capture, from, limit).await })
            .await
    }

    async fn lost(&self, capture: &str, from: u64, limit: u32) -> Result<Vec<Vec<u8>>, StoreError> {
        self.again(
            ASKED,
            || async move { results::lost(&mut *self.read().await?, capture, from, limit).await },
        )
        .await
    }

    async fn add_audit(&self, record: &Record, keep: u64) -> Result<(), StoreError> {
        self.again(ASKED, || async move {
            let mut transaction = self.write().await?;
            audit::add(&mut transaction, record, keep).await?;
            Ok(transaction.commit().await?)
        })
        .await
    }

    async fn audit(&self, query: &Query, limit: u32) -> Result<Vec<(u64, Record)>, StoreError> {
        self.again(ASKED, || async move { audit::page(&mut *self.read().await?, query, limit).await }).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        captures::ping(&mut *self.pool.acquire().await?).await
    }

    fn connections(&self) -> Connections {
        Connections::of(&self.pool)
    }

    fn fenced(&self, fence: Fence) -> Arc<dyn Store> {
        Arc::new(Self { fence: Some(fence), ..self.clone() })
    }

    fn shared(&self) -> Option<Shared> {
        Some(Shared::new(self.clone()))
    }

    async fn close(&self) {
        self.leases.close().await;
        self.pool.close().await;
    }
}
