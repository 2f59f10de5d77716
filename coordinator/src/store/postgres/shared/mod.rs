//! What coordinators share beyond what one alone would store: leases on captures, and rows in which they reach each
//! other's agents. Every wait of theirs ends by looking again; notifications only make it end sooner.

pub(super) mod lease;
mod post;

use sqlx::postgres::{PgListener, PgNotification};

use super::{ASKED, Connection, PostgresStore};
use crate::model::{NodeRecord, State};
use crate::store::StoreError;
use crate::store::cluster::Word;
use crate::store::codec::text;

const CHANNEL: &str = "lastseen";

/// The database as a place where several coordinators meet.
#[derive(Clone, Debug)]
pub struct Shared(PostgresStore);

impl Shared {
    pub(super) fn new(store: PostgresStore) -> Self {
        Self(PostgresStore { fence: None, ..store })
    }

    /// This process among those that share the database.
    pub fn id(&self) -> i64 {
        self.0.id
    }

    /// The server's clock, nanoseconds since 1970. Asked once: an answer that took two attempts says little.
    pub async fn now(&self) -> Result<i64, StoreError> {
        let asking = sqlx::query_scalar("SELECT lastseen_now()").fetch_one(&self.0.pool);
        self.0.once(async { Ok(asking.await?) }).await
    }

    /// Name of the place of all observation files: `ours`, unless another coordinator was first.
    pub async fn place(&self, ours: &str) -> Result<String, StoreError> {
        let store = &self.0;
        store
            .again(ASKED, || async move {
                let query = "UPDATE fabric SET place = COALESCE(place, $1) RETURNING place";
                Ok(sqlx::query_scalar(query).bind(text(ours)).fetch_one(&store.pool).await?)
            })
            .await
    }

    /// Captures that have not ended, with the number of their last write.
    pub async fn revisions(&self) -> Result<Vec<(String, i64)>, StoreError> {
        let asking = sqlx::query_as("SELECT id, revision FROM captures WHERE state < $1")
            .bind(State::Completed as i64)
            .fetch_all(&self.0.pool);
        self.0.once(async { Ok(asking.await?) }).await
    }

    /// Hears what changes elsewhere. Makes its connection anew when that breaks.
    pub async fn listen(&self) -> Result<Ear, StoreError> {
        let mut listener = PgListener::connect_with(&self.0.pool).await?;
        listener.listen(CHANNEL).await?;
        Ok(Ear { listener, id: self.0.id })
    }
}

/// See [`Shared::listen`].
pub struct Ear {
    listener: PgListener,
    id: i64,
}

impl Ear {
    /// The next word of another process; none after a broken connection, when something may have been missed.
    pub async fn next(&mut self) -> Result<Option<Word>, StoreError> {
        loop {
            match self.listener.try_recv().await? {
                Some(notification) => {
                    if let Some(word) = self.word(&notification) {
                        return Ok(Some(word));
                    }
                }
                None => return Ok(None),
            }
        }
    }

    fn word(&self, notification: &PgNotification) -> Option<Word> {
        let (word, id) = notification.payload().split_once(' ')?;
        Word::from_name(word).filter(|_| id != self.id.to_string())
    }
}

/// Whether another process of the node's agent was heard of later, elsewhere.
pub(super) async fn is_overtaken(connection: &mut Connection, node: &NodeRecord) -> Result<bool, StoreError> {
    let statement = "SELECT incarnation <> $2 AND last_seen > $3 FROM nodes WHERE name = $1 FOR UPDATE";
    let overtaken: Option<bool> = sqlx::query_scalar(statement)
        .bind(text(&node.name))
        .bind(node.incarnation as i64)
        .bind(node.last_seen_nanos)
        .fetch_optional(connection)
        .await?;
    Ok(overtaken.unwrap_or(false))
}

/// Tells the other coordinators once the transaction is committed.
pub(super) async fn notify(connection: &mut Connection, id: i64, word: Word) -> Result<(), StoreError> {
    sqlx::query("SELECT pg_notify($1, $2)")
        .bind(CHANNEL)
        .bind(format!("{} {id}", word.name()))
        .execute(connection)
        .await?;
    Ok(())
}
