//! Who leads which capture: claims, renewals and what every write of a leader rests on.

use sqlx::{Connection as _, Row as _};

use super::super::statements::captures;
use super::super::{ASKED, Connection, commit_once};
use super::Shared;
use crate::limits;
use crate::model::{Capture, State};
use crate::store::cluster::{Renewed, Word};
use crate::store::codec::text;
use crate::store::{Fence, Placed, StoreError};

/// Advisory lock under which captures are admitted: `lastseen` in ASCII. No other may have this number.
const ADMISSION: i64 = 0x6c61_7374_7365_656e;

/// How long a claim holds, in nanoseconds.
fn term() -> i64 {
    limits::LEASE.as_nanos() as i64
}

/// Fails if the capture has changed hands since; nobody can take it over before the transaction ends.
pub(in crate::store::postgres) async fn check(
    connection: &mut Connection,
    fence: &Fence,
) -> Result<(), StoreError> {
    let held = sqlx::query("SELECT 1 FROM captures WHERE id = $1 AND token = $2 FOR NO KEY UPDATE")
        .bind(text(&fence.capture))
        .bind(fence.token)
        .fetch_optional(connection)
        .await?;
    held.map(drop).ok_or_else(|| StoreError::Fenced { capture: fence.capture.clone() })
}

/// Until the transaction ends, no other coordinator admits a capture.
pub(in crate::store::postgres) async fn one_at_a_time(connection: &mut Connection) -> Result<(), StoreError> {
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(ADMISSION).execute(connection).await?;
    Ok(())
}

/// The first lease of a capture that was just written.
pub(in crate::store::postgres) async fn begin(
    connection: &mut Connection,
    capture: &str,
    owner: i64,
) -> Result<Fence, StoreError> {
    let token = sqlx::query_scalar(
        "UPDATE captures SET owner = $2, token = token + 1, lease_until = lastseen_now() + $3
         WHERE id = $1 RETURNING token",
    )
    .bind(text(capture))
    .bind(owner)
    .bind(term())
    .fetch_one(connection)
    .await?;
    Ok(Fence { capture: capture.to_owned(), token })
}

/// Keeps the captures of these batches from going on to their correlation before the transaction ends, see
/// [`wait_for_commits`], and from nothing else: leases are renewed meanwhile. Fails if one has done so already.
pub(in crate::store::postgres) async fn hold_open(
    connection: &mut Connection,
    batches: &[Placed],
) -> Result<(), StoreError> {
    let mut ids: Vec<_> = batches.iter().map(|placed| text(&placed.batch.key.capture).into_owned()).collect();
    ids.sort_unstable();
    ids.dedup();
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT id, state FROM captures WHERE id = ANY($1) ORDER BY id FOR KEY SHARE")
            .bind(ids)
            .fetch_all(connection)
            .await?;
    match rows.into_iter().find(|(_, state)| *state >= State::Correlating as i64) {
        Some((capture, _)) => Err(StoreError::Closed { capture }),
        None => Ok(()),
    }
}

/// Waits until every commit of batches of the capture that is under way has ended; until the transaction ends no other
/// begins. This is the one lock that [`hold_open`] stands in the way of.
pub(in crate::store::postgres) async fn wait_for_commits(
    connection: &mut Connection,
    capture: &str,
) -> Result<(), StoreError> {
    sqlx::query("SELECT 1 FROM captures WHERE id = $1 FOR UPDATE")
        .bind(text(capture))
        .execute(connection)
        .await?;
    Ok(())
}

impl Shared {
    /// Takes every capture that nobody leads, but for those named. Of several that try, one gets it.
    pub async fn claim(&self, except: &[String]) -> Result<Vec<(Capture, Fence)>, StoreError> {
        let store = &self.0;
        store
            .again(ASKED, || async move {
                let mut transaction = store.pool.begin().await?;
                let rows = sqlx::query(
                    "WITH due AS (
                         SELECT id FROM captures
                         WHERE state < $1 AND lease_until < lastseen_now() AND id <> ALL($2)
                         ORDER BY created_at, id FOR NO KEY UPDATE SKIP LOCKED)
                     UPDATE captures c SET owner = $3, token = c.token + 1, lease_until = lastseen_now() + $4
                     FROM due WHERE c.id = due.id RETURNING c.id, c.token",
                )
                .bind(State::Completed as i64)
                .bind(except)
                .bind(store.id)
                .bind(term())
                .fetch_all(&mut *transaction)
                .await?;
                let mut claimed = Vec::with_capacity(rows.len());
                for row in rows {
                    let fence = Fence { capture: row.try_get("id")?, token: row.try_get("token")? };
                    if let Some(capture) = captures::one(&mut transaction, &fence.capture).await? {
                        claimed.push((capture, fence));
                    }
                }
                commit_once(transaction).await?;
                Ok(claimed)
            })
            .await
    }

    /// Says that this process lives, and that it still leads these captures. Made once: what is late is of no use.
    pub async fn renew(&self, held: &[Fence]) -> Result<Renewed, StoreError> {
        let store = &self.0;
        let (ids, tokens): (Vec<_>, Vec<_>) = held.iter().map(|f| (f.capture.clone(), f.token)).unzip();
        let mut connection = store.leases.take().await?;
        let mut transaction = connection.begin().await?;
        let is_new = sqlx::query_scalar(
            "INSERT INTO coordinators (id, alive_until) VALUES ($1, lastseen_now() + $2)
             ON CONFLICT (id) DO UPDATE SET alive_until = excluded.alive_until RETURNING xmax = 0",
        )
        .bind(store.id)
        .bind(term())
        .fetch_one(&mut *transaction)
        .await?;
        // One that is being written is left for the next time, which comes soon: nobody can claim it meanwhile.
        let kept: Vec<String> = sqlx::query_scalar(
            "WITH mine AS (
                 SELECT c.id FROM captures c JOIN UNNEST($1::TEXT[], $2::BIGINT[]) AS h (id, token)
                     ON c.id = h.id AND c.token = h.token
                 WHERE c.state < $3 ORDER BY c.id FOR NO KEY UPDATE OF c SKIP LOCKED)
             UPDATE captures c SET lease_until = lastseen_now() + $4 FROM mine WHERE c.id = mine.id RETURNING c.id",
        )
        .bind(&ids)
        .bind(&tokens)
        .bind(State::Completed as i64)
        .bind(term())
        .fetch_all(&mut *transaction)
        .await?;
        let others: Vec<(String, bool)> = sqlx::query_as(
            "SELECT h.id, c.id IS NULL FROM UNNEST($1::TEXT[], $2::BIGINT[]) AS h (id, token)
             LEFT JOIN captures c ON c.id = h.id AND c.token = h.token
             WHERE c.id IS NULL OR c.state < $3 AND c.id <> ALL($4)",
        )
        .bind(&ids)
        .bind(&tokens)
        .bind(State::Completed as i64)
        .bind(&kept)
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        store.leases.put_back(connection);
        let is_partial = others.iter().any(|(_, is_lost)| !is_lost);
        let lost = others.into_iter().filter(|(_, is_lost)| *is_lost).map(|(id, _)| id).collect();
        Ok(Renewed { kept, lost, is_partial, is_new })
    }

    /// Gives a capture up: whoever looks next may claim it.
    pub async fn release(&self, fence: &Fence) -> Result<(), StoreError> {
        let store = &self.0;
        store
            .again(ASKED, || async move {
                let mut transaction = store.pool.begin().await?;
                sqlx::query("UPDATE captures SET lease_until = 0 WHERE id = $1 AND token = $2")
                    .bind(text(&fence.capture))
                    .bind(fence.token)
                    .execute(&mut *transaction)
                    .await?;
                super::notify(&mut transaction, store.id, Word::Captures).await?;
                Ok(transaction.commit().await?)
            })
            .await
    }

    /// Forgets coordinators that have not said for two terms that they live, and ends their transactions: one that is
    /// frozen in the middle of one holds up everybody who wants the same rows.
    pub async fn reap(&self) -> Result<u64, StoreError> {
        self.0.once(self.reap_all()).await
    }

    async fn reap_all(&self) -> Result<u64, StoreError> {
        let store = &self.0;
        let gone: Vec<i64> = sqlx::query_scalar(
            "DELETE FROM coordinators WHERE alive_until + $1 < lastseen_now() AND id <> $2 RETURNING id",
        )
        .bind(term())
        .bind(store.id)
        .fetch_all(&store.pool)
        .await?;
        for id in &gone {
            sqlx::query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE datname = current_database() AND usename = current_user AND application_name LIKE '% ' || $1",
            )
            .bind(id.to_string())
            .execute(&store.pool)
            .await?;
        }
        Ok(gone.len() as u64)
    }

    /// This process has ended in order: nobody need wait until it has not been heard of for a while.
    pub async fn leave(&self) -> Result<(), StoreError> {
        let leaving =
            sqlx::query("DELETE FROM coordinators WHERE id = $1").bind(self.0.id).execute(&self.0.pool);
        self.0.once(async { Ok(leaving.await.map(|_| ())?) }).await
    }
}
