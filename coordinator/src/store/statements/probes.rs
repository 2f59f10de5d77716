//! Probes, their parts and their reports.

use sqlx::Row as _;
use tokio_stream::StreamExt as _;

use super::{Connection, Row};
use crate::limits;
use crate::probes::model::{News, Part, Probe, Source, Spec, State, What};
use crate::store::codec::{corrupt, from_json, text, to_json};
use crate::store::probes::{Head, Reports};
use crate::store::{Cursor, StoreError};

/// Writes a new probe. The id of the one that the same call made before.
pub(in crate::store) async fn create(
    connection: &mut Connection,
    probe: &Probe,
    request: Option<&str>,
    most: usize,
) -> Result<Option<String>, StoreError> {
    let known = sqlx::query_scalar("SELECT id FROM probes WHERE created_by = $1 AND request_id = $2")
        .bind(text(&probe.created_by))
        .bind(request.map(text))
        .fetch_optional(&mut *connection)
        .await?;
    if known.is_some() {
        return Ok(known);
    }
    let open: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM probes WHERE ended_at IS NULL")
        .fetch_one(&mut *connection)
        .await?;
    if open >= most as i64 {
        let reason = format!(
            "probes: {open} have not ended, the limit; stop one or wait; `ctl list-probes` names them"
        );
        return Err(StoreError::NotAdmitted(reason));
    }
    sqlx::query(
        "INSERT INTO probes (id, spec, created_at, created_by, request_id, start_at, is_single)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(text(&probe.id))
    .bind(to_json(&probe.spec))
    .bind(probe.created_at_nanos)
    .bind(text(&probe.created_by))
    .bind(request.map(text))
    .bind(probe.start_nanos)
    .bind(i64::from(probe.spec.every_nanos.is_none()))
    .execute(&mut *connection)
    .await?;
    for (number, part) in probe.parts.iter().enumerate() {
        sqlx::query(
            "INSERT INTO probe_parts (probe_id, part, node, netns, state, reason)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(text(&probe.id))
        .bind(number as i64)
        .bind(text(&part.source.node))
        .bind(text(&part.source.netns))
        .bind(part.state as i64)
        .bind(text(&part.reason))
        .execute(&mut *connection)
        .await?;
    }
    Ok(None)
}

pub(in crate::store) async fn one(
    connection: &mut Connection,
    id: &str,
) -> Result<Option<Probe>, StoreError> {
    let row = sqlx::query(
        "SELECT id, spec, created_at, created_by, start_at, ended_at, stopped FROM probes WHERE id = $1",
    )
    .bind(text(id))
    .fetch_optional(&mut *connection)
    .await?;
    Ok(whole(connection, row.as_slice()).await?.pop())
}

pub(in crate::store) async fn page(
    connection: &mut Connection,
    after: Option<&Cursor>,
    limit: u32,
) -> Result<Vec<Probe>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, spec, created_at, created_by, start_at, ended_at, stopped FROM probes
         WHERE created_at < $1 OR (created_at = $1 AND id < $2)
         ORDER BY created_at DESC, id DESC LIMIT $3",
    )
    .bind(after.map_or(i64::MAX, |after| after.created_at_nanos))
    .bind(text(after.map_or("", |after| &after.id)))
    .bind(i64::from(limit))
    .fetch_all(&mut *connection)
    .await?;
    whole(connection, &rows).await
}

pub(in crate::store) async fn open(connection: &mut Connection) -> Result<Vec<Probe>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, spec, created_at, created_by, start_at, ended_at, stopped FROM probes
         WHERE ended_at IS NULL ORDER BY created_at, id",
    )
    .fetch_all(&mut *connection)
    .await?;
    whole(connection, &rows).await
}

async fn whole(connection: &mut Connection, rows: &[Row]) -> Result<Vec<Probe>, StoreError> {
    let mut probes = Vec::new();
    for row in rows {
        let id: String = row.try_get("id")?;
        let parts = sqlx::query(
            "SELECT node, netns, state, reason, runs, last_run FROM probe_parts
             WHERE probe_id = $1 ORDER BY part",
        )
        .bind(&id)
        .fetch_all(&mut *connection)
        .await?;
        probes.push(Probe {
            spec: from_json("probes", "spec", &id, row.try_get("spec")?)?,
            created_at_nanos: row.try_get("created_at")?,
            created_by: row.try_get("created_by")?,
            start_nanos: row.try_get("start_at")?,
            ended_at_nanos: row.try_get("ended_at")?,
            stopped: row.try_get("stopped")?,
            parts: parts.iter().map(|row| read_part(&id, row)).collect::<Result<_, _>>()?,
            id,
        });
    }
    Ok(probes)
}

fn read_part(probe: &str, row: &Row) -> Result<Part, StoreError> {
    let (number, node): (i64, String) = (row.try_get("state")?, row.try_get("node")?);
    let unknown =
        || corrupt("probe_parts", "state", &format!("{probe} {node}"), &format!("unknown state {number}"));
    Ok(Part {
        state: State::from_number(number).ok_or_else(unknown)?,
        source: Source { node, netns: row.try_get("netns")? },
        reason: row.try_get("reason")?,
        runs: row.try_get::<i64, _>("runs")? as u64,
        last_run: row.try_get::<Option<i64>, _>("last_run")?.map(|run| run as u64),
    })
}

pub(in crate::store) async fn head(
    connection: &mut Connection,
    id: &str,
) -> Result<Option<Head>, StoreError> {
    let row = sqlx::query(
        "SELECT spec, start_at, ended_at,
             (SELECT COUNT(*) FROM probe_parts WHERE probe_id = probes.id) AS parts
         FROM probes WHERE id = $1",
    )
    .bind(text(id))
    .fetch_optional(connection)
    .await?;
    let head = |row: Row| {
        let spec: Spec = from_json("probes", "spec", id, row.try_get("spec")?)?;
        Ok(Head {
            every_nanos: spec.every_nanos,
            start_nanos: row.try_get("start_at")?,
            ended_at_nanos: row.try_get("ended_at")?,
            parts: row.try_get::<i64, _>("parts")? as u64,
        })
    };
    row.map(head).transpose()
}

pub(in crate::store) async fn save_news(
    connection: &mut Connection,
    news: &[(News, u64)],
) -> Result<(), StoreError> {
    for (News { probe, source, what }, keep) in news {
        match what {
            What::Armed => set_state(connection, probe, source, State::Armed, "").await?,
            What::Failed(reason) => set_state(connection, probe, source, State::Failed, reason).await?,
            // Of a schedule other runs may be kept.
            What::Dropped { reason, .. } => fail_single(connection, probe, source, reason).await?,
            What::Report { run, content } => {
                save_report(connection, (probe, source), *run, content, *keep).await?;
            }
        }
    }
    Ok(())
}

/// A part that has ended stays as it is.
async fn set_state(
    connection: &mut Connection,
    probe: &str,
    source: &Source,
    state: State,
    reason: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE probe_parts SET state = $4, reason = $5
         WHERE probe_id = $1 AND node = $2 AND netns = $3 AND state < $6",
    )
    .bind(text(probe))
    .bind(text(&source.node))
    .bind(text(&source.netns))
    .bind(state as i64)
    .bind(text(reason))
    .bind(State::Completed as i64)
    .execute(connection)
    .await?;
    Ok(())
}

async fn fail_single(
    connection: &mut Connection,
    probe: &str,
    source: &Source,
    reason: &str,
) -> Result<(), StoreError> {
    let is_single: Option<i64> = sqlx::query_scalar("SELECT is_single FROM probes WHERE id = $1")
        .bind(text(probe))
        .fetch_optional(&mut *connection)
        .await?;
    if is_single == Some(1) {
        set_state(connection, probe, source, State::Failed, reason).await?;
    }
    Ok(())
}

async fn save_report(
    connection: &mut Connection,
    (probe, source): (&str, &Source),
    run: u64,
    content: &[u8],
    keep: u64,
) -> Result<(), StoreError> {
    let part: Option<i64> =
        sqlx::query_scalar("SELECT part FROM probe_parts WHERE probe_id = $1 AND node = $2 AND netns = $3")
            .bind(text(probe))
            .bind(text(&source.node))
            .bind(text(&source.netns))
            .fetch_optional(&mut *connection)
            .await?;
    let Some(part) = part else { return Ok(()) };
    let written = sqlx::query(
        "INSERT INTO probe_reports (probe_id, run, part, report) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
    )
    .bind(text(probe))
    .bind(run as i64)
    .bind(part)
    .bind(content)
    .execute(&mut *connection)
    .await?;
    if written.rows_affected() == 0 {
        return Ok(());
    }
    sqlx::query(
        "UPDATE probe_parts SET runs = runs + 1,
             last_run = CASE WHEN last_run > $3 THEN last_run ELSE $3 END,
             state = CASE WHEN state < $4 AND (SELECT is_single FROM probes WHERE id = $1) = 1 THEN $4 ELSE state END
         WHERE probe_id = $1 AND part = $2",
    )
    .bind(text(probe))
    .bind(part)
    .bind(run as i64)
    .bind(State::Completed as i64)
    .execute(&mut *connection)
    .await?;
    sqlx::query("DELETE FROM probe_reports WHERE probe_id = $1 AND run <= $2 AND part = $3")
        .bind(text(probe))
        .bind((run as i64).saturating_sub_unsigned(keep))
        .bind(part)
        .execute(connection)
        .await?;
    Ok(())
}

pub(in crate::store) async fn reports(
    connection: &mut Connection,
    id: &str,
    runs: u32,
    bytes: usize,
) -> Result<Reports, StoreError> {
    let mut rows = sqlx::query_scalar::<_, Vec<u8>>(
        "SELECT report FROM probe_reports
         WHERE probe_id = $1 AND run > (SELECT MAX(run) FROM probe_reports WHERE probe_id = $1) - $2
         ORDER BY run DESC, part LIMIT $3",
    )
    .bind(text(id))
    .bind(i64::from(runs))
    .bind(i64::from(limits::PROBE_REPORTS_SHOWN) + 1)
    .fetch(connection);
    let (mut found, mut room) = (Reports::default(), bytes);
    while let Some(report) = rows.next().await.transpose()? {
        let has_room = found.reports.len() < limits::PROBE_REPORTS_SHOWN as usize;
        let Some(rest) = room.checked_sub(report.len()).filter(|_| has_room) else {
            found.is_cut = true;
            break;
        };
        room = rest;
        found.reports.push(report);
    }
    Ok(found)
}

pub(in crate::store) async fn end(
    connection: &mut Connection,
    id: &str,
    at_nanos: i64,
    stopped: Option<&str>,
) -> Result<(), StoreError> {
    let ended =
        sqlx::query("UPDATE probes SET ended_at = $2, stopped = $3 WHERE id = $1 AND ended_at IS NULL")
            .bind(text(id))
            .bind(at_nanos)
            .bind(text(stopped.unwrap_or_default()))
            .execute(&mut *connection)
            .await?;
    if ended.rows_affected() == 0 {
        return Ok(());
    }
    sqlx::query("UPDATE probe_parts SET state = $2 WHERE probe_id = $1 AND state < $3")
        .bind(text(id))
        .bind(State::Stopped as i64)
        .bind(State::Completed as i64)
        .execute(connection)
        .await?;
    Ok(())
}

pub(in crate::store) async fn delete(
    connection: &mut Connection,
    ended_before_nanos: i64,
) -> Result<bool, StoreError> {
    let deleted = sqlx::query(
        "DELETE FROM probes WHERE id = (SELECT id FROM probes WHERE ended_at < $1 ORDER BY ended_at, id LIMIT 1)",
    );
    Ok(deleted.bind(ended_before_nanos).execute(connection).await?.rows_affected() > 0)
}
