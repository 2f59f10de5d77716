//! Jobs: a capture, its parts and their points, written whole at every transition.

use bytes::Bytes;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection, SqlitePool};

use super::codec::{corrupt, from_json, to_json, to_state};
use super::{Cursor, StoreError, ledger};
use crate::model::{Capture, ClockFix, IdentityKey, Part, State, Window};

pub(super) async fn save(connection: &mut SqliteConnection, capture: &Capture) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO captures (id, state, reason, spec, identity_key, created_at, created_by, window_start,
             window_end)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (id) DO UPDATE SET state = excluded.state, reason = excluded.reason,
             window_start = excluded.window_start, window_end = excluded.window_end",
    )
    .bind(&capture.id)
    .bind(capture.state as i64)
    .bind(&capture.reason)
    .bind(to_json(&capture.spec))
    .bind(capture.identity_key.0.as_slice())
    .bind(capture.created_at_nanos)
    .bind(&capture.created_by)
    .bind(capture.window.map(|w| w.start_nanos))
    .bind(capture.window.map(|w| w.end_nanos))
    .execute(&mut *connection)
    .await?;
    for part in &capture.parts {
        save_part(connection, &capture.id, part).await?;
    }
    Ok(())
}

async fn save_part(connection: &mut SqliteConnection, capture: &str, part: &Part) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO capture_nodes (capture_id, node, state, reason, armed_at, incarnation, clock_start,
             clock_end, coverage)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (capture_id, node) DO UPDATE SET state = excluded.state, reason = excluded.reason,
             armed_at = excluded.armed_at, incarnation = excluded.incarnation,
             clock_start = excluded.clock_start, clock_end = excluded.clock_end, coverage = excluded.coverage",
    )
    .bind(capture)
    .bind(&part.node)
    .bind(part.state as i64)
    .bind(&part.reason)
    .bind(part.armed_at_nanos)
    .bind(part.incarnation.map(|i| i as i64))
    .bind(part.clock_start.as_ref().map(to_json))
    .bind(part.clock_end.as_ref().map(to_json))
    .bind(to_json(&part.coverage))
    .execute(&mut *connection)
    .await?;
    for status in &part.points {
        ledger::save_point(connection, capture, &part.node, status).await?;
    }
    Ok(())
}

pub(super) async fn one(connection: &mut SqliteConnection, id: &str) -> Result<Option<Capture>, StoreError> {
    let row =
        sqlx::query("SELECT * FROM captures WHERE id = $1").bind(id).fetch_optional(&mut *connection).await?;
    Ok(read(connection, row.into_iter().collect()).await?.pop())
}

pub(super) async fn page(
    connection: &mut SqliteConnection,
    after: Option<&Cursor>,
    limit: u32,
) -> Result<Vec<Capture>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM captures WHERE $1 IS NULL OR (created_at, id) < ($1, $2)
         ORDER BY created_at DESC, id DESC LIMIT $3",
    )
    .bind(after.map(|a| a.created_at_nanos))
    .bind(after.map(|a| a.id.as_str()))
    .bind(i64::from(limit))
    .fetch_all(&mut *connection)
    .await?;
    read(connection, rows).await
}

pub(super) async fn unfinished(connection: &mut SqliteConnection) -> Result<Vec<Capture>, StoreError> {
    let rows = sqlx::query("SELECT * FROM captures WHERE state < $1 ORDER BY created_at, id")
        .bind(State::Completed as i64)
        .fetch_all(&mut *connection)
        .await?;
    read(connection, rows).await
}

async fn read(connection: &mut SqliteConnection, rows: Vec<SqliteRow>) -> Result<Vec<Capture>, StoreError> {
    let mut captures = Vec::with_capacity(rows.len());
    for row in rows {
        let mut capture = read_capture(&row)?;
        capture.parts = read_parts(connection, &capture.id).await?;
        captures.push(capture);
    }
    Ok(captures)
}

fn read_capture(row: &SqliteRow) -> Result<Capture, StoreError> {
    let id: String = row.try_get("id")?;
    let key: Vec<u8> = row.try_get("identity_key")?;
    let key =
        key.try_into().map_err(|_| corrupt("captures", "identity_key", &id, &"it is not 16 bytes long"))?;
    let start: Option<i64> = row.try_get("window_start")?;
    let end: Option<i64> = row.try_get("window_end")?;
    Ok(Capture {
        state: to_state("captures", &id, row.try_get("state")?)?,
        reason: row.try_get("reason")?,
        spec: from_json("captures", "spec", &id, row.try_get("spec")?)?,
        identity_key: IdentityKey(key),
        created_at_nanos: row.try_get("created_at")?,
        created_by: row.try_get("created_by")?,
        window: start.zip(end).map(|(start_nanos, end_nanos)| Window { start_nanos, end_nanos }),
        parts: Vec::new(),
        id,
    })
}

async fn read_parts(connection: &mut SqliteConnection, capture: &str) -> Result<Vec<Part>, StoreError> {
    let rows = sqlx::query(
        "SELECT node, state, reason, armed_at, incarnation, clock_start, clock_end, coverage
         FROM capture_nodes WHERE capture_id = $1 ORDER BY node",
    )
    .bind(capture)
    .fetch_all(&mut *connection)
    .await?;
    let mut parts: Vec<Part> = rows.iter().map(|row| read_part(capture, row)).collect::<Result<_, _>>()?;
    for (node, status) in ledger::points(connection, capture).await? {
        if let Some(part) = parts.iter_mut().find(|part| part.node == node) {
            part.points.push(status);
        }
    }
    Ok(parts)
}

fn read_part(capture: &str, row: &SqliteRow) -> Result<Part, StoreError> {
    const TABLE: &str = "capture_nodes";
    let node: String = row.try_get("node")?;
    let key = format!("{capture} {node}");
    let clock = |column: &'static str| -> Result<Option<ClockFix>, StoreError> {
        let text: Option<String> = row.try_get(column)?;
        text.map(|text| from_json(TABLE, column, &key, &text)).transpose()
    };
    Ok(Part {
        state: to_state(TABLE, &key, row.try_get("state")?)?,
        reason: row.try_get("reason")?,
        armed_at_nanos: row.try_get("armed_at")?,
        incarnation: row.try_get::<Option<i64>, _>("incarnation")?.map(|i| i as u64),
        clock_start: clock("clock_start")?,
        clock_end: clock("clock_end")?,
        points: Vec::new(),
        coverage: from_json(TABLE, "coverage", &key, row.try_get("coverage")?)?,
        node,
    })
}

pub(super) async fn delete(pool: &SqlitePool, id: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM captures WHERE id = $1").bind(id).execute(pool).await?;
    Ok(())
}

pub(super) async fn add_runs(
    connection: &mut SqliteConnection,
    id: &str,
    change: i64,
) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar("UPDATE captures SET runs = runs + $2 WHERE id = $1 RETURNING runs")
        .bind(id)
        .bind(change)
        .fetch_one(connection)
        .await?)
}

pub(super) async fn save_topology(
    pool: &SqlitePool,
    capture: &str,
    node: &str,
    topology: &Bytes,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE capture_nodes SET topology = $3 WHERE capture_id = $1 AND node = $2")
        .bind(capture)
        .bind(node)
        .bind(topology.as_ref())
        .execute(pool)
        .await?;
    Ok(())
}

pub(super) async fn save_translations(
    pool: &SqlitePool,
    capture: &str,
    node: &str,
    translations: &Bytes,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE capture_nodes SET translations = $3 WHERE capture_id = $1 AND node = $2")
        .bind(capture)
        .bind(node)
        .bind(translations.as_ref())
        .execute(pool)
        .await?;
    Ok(())
}

pub(super) async fn translations(
    pool: &SqlitePool,
    capture: &str,
) -> Result<Vec<(String, Bytes)>, StoreError> {
    let rows: Vec<(String, Vec<u8>)> = sqlx::query_as(
        "SELECT node, translations FROM capture_nodes
         WHERE capture_id = $1 AND translations IS NOT NULL ORDER BY node",
    )
    .bind(capture)
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|(node, translations)| (node, translations.into())).collect())
}

pub(super) async fn topologies(pool: &SqlitePool, capture: &str) -> Result<Vec<(String, Bytes)>, StoreError> {
    let rows: Vec<(String, Vec<u8>)> = sqlx::query_as(
        "SELECT node, topology FROM capture_nodes
         WHERE capture_id = $1 AND topology IS NOT NULL ORDER BY node",
    )
    .bind(capture)
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|(node, topology)| (node, topology.into())).collect())
}
