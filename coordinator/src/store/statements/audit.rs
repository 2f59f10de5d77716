//! Who did what.

use sqlx::Row as _;

use super::{Connection, Row};
use crate::audit::{NAMES, Outcome, Query, Record};
use crate::store::StoreError;
use crate::store::codec::{corrupt, text};

/// Adds a record and drops those that are `keep` and more behind it.
pub(in crate::store) async fn add(
    connection: &mut Connection,
    record: &Record,
    keep: u64,
) -> Result<(), StoreError> {
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO audit (at, who, peer, action, subject, outcome, detail)
         VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id",
    )
    .bind(record.at_nanos)
    .bind(text(&record.who))
    .bind(text(&record.peer))
    .bind(text(&record.action))
    .bind(text(&record.subject))
    .bind(record.outcome as i64)
    .bind(text(&record.detail))
    .fetch_one(&mut *connection)
    .await?;
    sqlx::query("DELETE FROM audit WHERE id <= $1")
        .bind(id.saturating_sub_unsigned(keep))
        .execute(connection)
        .await?;
    Ok(())
}

/// Up to `limit` records and their numbers, newest first.
pub(in crate::store) async fn page(
    connection: &mut Connection,
    query: &Query,
    limit: u32,
) -> Result<Vec<(u64, Record)>, StoreError> {
    let name = |at: usize| text(query.who.get(at).map_or("", String::as_str));
    debug_assert!(query.who.len() <= NAMES, "more names than the statement has places");
    let rows = sqlx::query(
        "SELECT id, at, who, peer, action, subject, outcome, detail FROM audit
         WHERE id < $1 AND at >= $2 AND ($3 = 0 OR who IN ($4, $5, $6, $7))
         ORDER BY id DESC LIMIT $8",
    )
    .bind(query.before.and_then(|before| i64::try_from(before).ok()).unwrap_or(i64::MAX))
    .bind(query.since_nanos.unwrap_or(i64::MIN))
    .bind(query.who.len() as i64)
    .bind(name(0))
    .bind(name(1))
    .bind(name(2))
    .bind(name(3))
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?;
    rows.iter().map(read).collect()
}

fn read(row: &Row) -> Result<(u64, Record), StoreError> {
    let (id, outcome): (i64, i64) = (row.try_get("id")?, row.try_get("outcome")?);
    let unknown = || corrupt("audit", "outcome", &id.to_string(), &format!("unknown outcome {outcome}"));
    let record = Record {
        at_nanos: row.try_get("at")?,
        who: row.try_get("who")?,
        peer: row.try_get("peer")?,
        action: row.try_get("action")?,
        subject: row.try_get("subject")?,
        outcome: Outcome::from_number(outcome).ok_or_else(unknown)?,
        detail: row.try_get("detail")?,
    };
    Ok((id as u64, record))
}
