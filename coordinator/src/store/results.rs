//! What correlation runs found.

use sqlx::{SqliteConnection, SqlitePool};

use super::{Results, StoreError, flows};

pub(super) async fn save(
    connection: &mut SqliteConnection,
    capture: &str,
    results: &Results,
) -> Result<(), StoreError> {
    for statement in [
        "DELETE FROM reports WHERE capture_id = $1",
        "DELETE FROM flow_records WHERE capture_id = $1",
        "DELETE FROM lost_packets WHERE capture_id = $1",
    ] {
        sqlx::query(statement).bind(capture).execute(&mut *connection).await?;
    }
    sqlx::query("INSERT INTO reports (capture_id, report) VALUES ($1, $2)")
        .bind(capture)
        .bind(&results.report)
        .execute(&mut *connection)
        .await?;
    flows::save(connection, capture, &results.flows).await?;
    for (ordinal, record) in results.lost.iter().enumerate() {
        sqlx::query("INSERT INTO lost_packets (capture_id, ordinal, record) VALUES ($1, $2, $3)")
            .bind(capture)
            .bind(ordinal as i64)
            .bind(record)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

pub(super) async fn report(pool: &SqlitePool, capture: &str) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(sqlx::query_scalar("SELECT report FROM reports WHERE capture_id = $1")
        .bind(capture)
        .fetch_optional(pool)
        .await?)
}

pub(super) async fn lost(
    pool: &SqlitePool,
    capture: &str,
    from: u64,
    limit: u32,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let statement =
        "SELECT record FROM lost_packets WHERE capture_id = $1 AND ordinal >= $2 ORDER BY ordinal LIMIT $3";
    Ok(sqlx::query_scalar(statement)
        .bind(capture)
        .bind(i64::try_from(from).unwrap_or(i64::MAX))
        .bind(i64::from(limit))
        .fetch_all(pool)
        .await?)
}
