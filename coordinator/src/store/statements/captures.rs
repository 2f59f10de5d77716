//! Jobs: a capture, its parts and their points, written whole at every transition.

use bytes::Bytes;
use sqlx::Row as _;

use super::{Connection, Row, bulk, ledger};
use crate::model::{Capture, ClockFix, IdentityKey, Part, State, Window};
use crate::store::codec::{corrupt, from_json, text, to_json, to_state};
use crate::store::{Admission, Age, Cursor, StoreError};

pub(in crate::store) async fn save(connection: &mut Connection, capture: &Capture) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO captures (id, state, reason, spec, identity_key, created_at, created_by, window_start,
             window_end)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (id) DO UPDATE SET state = excluded.state, reason = excluded.reason,
             window_start = excluded.window_start, window_end = excluded.window_end,
             revision = captures.revision + 1",
    )
    .bind(text(&capture.id))
    .bind(capture.state as i64)
    .bind(text(&capture.reason))
    .bind(to_json(&capture.spec))
    .bind(capture.identity_key.0.as_slice())
    .bind(capture.created_at_nanos)
    .bind(text(&capture.created_by))
    .bind(capture.window.map(|w| w.start_nanos))
    .bind(capture.window.map(|w| w.end_nanos))
    .execute(&mut *connection)
    .await?;
    bulk::save_parts(connection, capture).await
}

/// Touches the schema, and no row.
pub(in crate::store) async fn ping(connection: &mut Connection) -> Result<(), StoreError> {
    sqlx::query("SELECT 1 FROM captures WHERE id = ''").fetch_optional(connection).await?;
    Ok(())
}

pub(in crate::store) async fn one(
    connection: &mut Connection,
    id: &str,
) -> Result<Option<Capture>, StoreError> {
    let row = sqlx::query(
        "SELECT id, state, reason, spec, identity_key, created_at, created_by, window_start, window_end
         FROM captures WHERE id = $1",
    )
    .bind(text(id))
    .fetch_optional(&mut *connection)
    .await?;
    Ok(read(connection, row.into_iter().collect()).await?.pop())
}

pub(in crate::store) async fn page(
    connection: &mut Connection,
    after: Option<&Cursor>,
    limit: u32,
) -> Result<Vec<Capture>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, state, reason, spec, identity_key, created_at, created_by, window_start, window_end
         FROM captures WHERE $1 IS NULL OR (created_at, id) < ($1, $2)
         ORDER BY created_at DESC, id DESC LIMIT $3",
    )
    .bind(after.map(|a| a.created_at_nanos))
    .bind(after.map(|a| text(&a.id)))
    .bind(i64::from(limit))
    .fetch_all(&mut *connection)
    .await?;
    read(connection, rows).await
}

pub(in crate::store) async fn unfinished(connection: &mut Connection) -> Result<Vec<Capture>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, state, reason, spec, identity_key, created_at, created_by, window_start, window_end
         FROM captures WHERE state < $1 ORDER BY created_at, id",
    )
    .bind(State::Completed as i64)
    .fetch_all(&mut *connection)
    .await?;
    read(connection, rows).await
}

pub(in crate::store) async fn ages(connection: &mut Connection) -> Result<Vec<Age>, StoreError> {
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(
        "SELECT id, state, COALESCE(window_end, created_at) AS until FROM captures ORDER BY until, id",
    )
    .fetch_all(connection)
    .await?;
    let age = |(id, state, until_nanos): (String, i64, i64)| {
        let is_ended = to_state("captures", &id, state)?.is_final();
        Ok(Age { id, is_ended, until_nanos })
    };
    rows.into_iter().map(age).collect()
}

async fn read(connection: &mut Connection, rows: Vec<Row>) -> Result<Vec<Capture>, StoreError> {
    let mut captures = Vec::with_capacity(rows.len());
    for row in rows {
        let mut capture = read_capture(&row)?;
        capture.parts = read_parts(connection, &capture.id).await?;
        captures.push(capture);
    }
    Ok(captures)
}

fn read_capture(row: &Row) -> Result<Capture, StoreError> {
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

async fn read_parts(connection: &mut Connection, capture: &str) -> Result<Vec<Part>, StoreError> {
    let rows = sqlx::query(
        "SELECT node, state, reason, armed_at, incarnation, clock_start, clock_end, coverage
         FROM capture_nodes WHERE capture_id = $1 ORDER BY node",
    )
    .bind(text(capture))
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

fn read_part(capture: &str, row: &Row) -> Result<Part, StoreError> {
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

/// The capture that this call of `who` made before.
pub(in crate::store) async fn requested(
    connection: &mut Connection,
    who: &str,
    request: &str,
) -> Result<Option<String>, StoreError> {
    Ok(sqlx::query_scalar("SELECT id FROM captures WHERE created_by = $1 AND request_id = $2")
        .bind(text(who))
        .bind(text(request))
        .fetch_optional(connection)
        .await?)
}

/// Writes a new capture that `admission` agrees to. The id of the one that the same call made before, if there is one.
pub(in crate::store) async fn create(
    connection: &mut Connection,
    capture: &Capture,
    request: Option<&str>,
    admission: &Admission<'_>,
) -> Result<Option<String>, StoreError> {
    if let Some(request) = request
        && let Some(known) = requested(connection, &capture.created_by, request).await?
    {
        return Ok(Some(known));
    }
    admission(&unfinished(connection).await?).map_err(StoreError::NotAdmitted)?;
    save(connection, capture).await?;
    sqlx::query("UPDATE captures SET request_id = $2 WHERE id = $1")
        .bind(text(&capture.id))
        .bind(request.map(text))
        .execute(connection)
        .await?;
    Ok(None)
}

pub(in crate::store) async fn delete(connection: &mut Connection, id: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM captures WHERE id = $1").bind(text(id)).execute(connection).await?;
    Ok(())
}

pub(in crate::store) async fn add_runs(
    connection: &mut Connection,
    id: &str,
    change: i64,
) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar("UPDATE captures SET runs = runs + $2 WHERE id = $1 RETURNING runs")
        .bind(text(id))
        .bind(change)
        .fetch_one(connection)
        .await?)
}

pub(in crate::store) async fn translations(
    connection: &mut Connection,
    capture: &str,
) -> Result<Vec<(String, Bytes)>, StoreError> {
    let statement = "SELECT node, translations FROM capture_nodes
                     WHERE capture_id = $1 AND translations IS NOT NULL ORDER BY node";
    of_nodes(connection, capture, statement).await
}

pub(in crate::store) async fn topologies(
    connection: &mut Connection,
    capture: &str,
) -> Result<Vec<(String, Bytes)>, StoreError> {
    let statement = "SELECT node, topology FROM capture_nodes
                     WHERE capture_id = $1 AND topology IS NOT NULL ORDER BY node";
    of_nodes(connection, capture, statement).await
}

/// What nodes told, by name.
async fn of_nodes(
    connection: &mut Connection,
    capture: &str,
    statement: &'static str,
) -> Result<Vec<(String, Bytes)>, StoreError> {
    let rows: Vec<(String, Vec<u8>)> =
        sqlx::query_as(statement).bind(text(capture)).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|(node, told)| (node, told.into())).collect())
}
