//! What correlation runs found.

use super::{Connection, bulk};
use crate::store::codec::text;
use crate::store::{Results, StoreError};

pub(in crate::store) async fn save(
    connection: &mut Connection,
    capture: &str,
    results: &Results,
) -> Result<(), StoreError> {
    for statement in [
        "DELETE FROM reports WHERE capture_id = $1",
        "DELETE FROM flow_records WHERE capture_id = $1",
        "DELETE FROM lost_packets WHERE capture_id = $1",
    ] {
        sqlx::query(statement).bind(text(capture)).execute(&mut *connection).await?;
    }
    sqlx::query("INSERT INTO reports (capture_id, report) VALUES ($1, $2)")
        .bind(text(capture))
        .bind(results.report.as_slice())
        .execute(&mut *connection)
        .await?;
    bulk::save_flows(connection, capture, &results.flows).await?;
    bulk::save_lost(connection, capture, &results.lost).await
}

pub(in crate::store) async fn report(
    connection: &mut Connection,
    capture: &str,
) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(sqlx::query_scalar("SELECT report FROM reports WHERE capture_id = $1")
        .bind(text(capture))
        .fetch_optional(connection)
        .await?)
}

pub(in crate::store) async fn lost(
    connection: &mut Connection,
    capture: &str,
    from: u64,
    limit: u32,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let statement =
        "SELECT record FROM lost_packets WHERE capture_id = $1 AND ordinal >= $2 ORDER BY ordinal LIMIT $3";
    Ok(sqlx::query_scalar(statement)
        .bind(text(capture))
        .bind(i64::try_from(from).unwrap_or(i64::MAX))
        .bind(i64::from(limit))
        .fetch_all(connection)
        .await?)
}
