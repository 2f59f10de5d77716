//! Points of captures and where the batches of each lie.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection, SqlitePool};

use super::{Location, Placed, StoreError, StoredBatch, StoredCount};
use crate::model::{BatchKey, Counters, Point, PointKey, PointStatus};

/// Writes a point with its counters.
pub(super) async fn save_point(
    connection: &mut SqliteConnection,
    capture: &str,
    node: &str,
    status: &PointStatus,
) -> Result<(), StoreError> {
    let id = point_id(connection, capture, node, &status.point).await?;
    let counters = &status.counters;
    sqlx::query(
        "UPDATE capture_points SET received = $2, kernel_drops = $3, agent_drops = $4, filtered = $5,
             own_connections = $6, undecoded = $7, bytes = $8, unreadable = $9, sampled_out = $10, batches = $11
         WHERE id = $1",
    )
    .bind(id)
    .bind(counters.received as i64)
    .bind(counters.kernel_drops as i64)
    .bind(counters.agent_drops as i64)
    .bind(counters.filtered as i64)
    .bind(counters.own_connections as i64)
    .bind(counters.undecoded as i64)
    .bind(counters.bytes as i64)
    .bind(counters.unreadable as i64)
    .bind(counters.sampled_out as i64)
    .bind(status.batches as i64)
    .execute(connection)
    .await?;
    Ok(())
}

/// The row of a point, made if it is new.
async fn point_id(
    connection: &mut SqliteConnection,
    capture: &str,
    node: &str,
    point: &Point,
) -> Result<i64, StoreError> {
    let id = sqlx::query_scalar(
        "INSERT INTO capture_points (capture_id, node, netns, interface, interface_index, direction, kind, mtu,
             gso_known)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (capture_id, node, netns, interface, interface_index, direction)
             DO UPDATE SET kind = excluded.kind, mtu = excluded.mtu, gso_known = excluded.gso_known
         RETURNING id",
    )
    .bind(capture)
    .bind(node)
    .bind(&point.key.netns)
    .bind(&point.key.interface)
    .bind(i64::from(point.key.index))
    .bind(i64::from(point.key.direction))
    .bind(i64::from(point.kind))
    .bind(i64::from(point.mtu))
    .bind(i64::from(point.gso_known))
    .fetch_one(connection)
    .await?;
    Ok(id)
}

/// Points of a capture with their nodes.
pub(super) async fn points(
    connection: &mut SqliteConnection,
    capture: &str,
) -> Result<Vec<(String, PointStatus)>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM capture_points WHERE capture_id = $1
         ORDER BY node, netns, interface, interface_index, direction",
    )
    .bind(capture)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok((row.try_get("node")?, read_status(row)?))).collect()
}

fn read_status(row: &SqliteRow) -> Result<PointStatus, StoreError> {
    let number = |column: &str| row.try_get::<i64, _>(column).map(|n| n as u64);
    Ok(PointStatus {
        point: read_point(row)?,
        counters: Counters {
            received: number("received")?,
            kernel_drops: number("kernel_drops")?,
            agent_drops: number("agent_drops")?,
            filtered: number("filtered")?,
            own_connections: number("own_connections")?,
            undecoded: number("undecoded")?,
            bytes: number("bytes")?,
            unreadable: number("unreadable")?,
            sampled_out: number("sampled_out")?,
        },
        batches: number("batches")?,
    })
}

fn read_point(row: &SqliteRow) -> Result<Point, StoreError> {
    Ok(Point {
        key: read_key(row)?,
        kind: row.try_get::<i64, _>("kind")? as i32,
        mtu: row.try_get::<i64, _>("mtu")? as u32,
        gso_known: row.try_get::<i64, _>("gso_known")? != 0,
    })
}

fn read_key(row: &SqliteRow) -> Result<PointKey, StoreError> {
    Ok(PointKey {
        netns: row.try_get("netns")?,
        interface: row.try_get("interface")?,
        index: row.try_get::<i64, _>("interface_index")? as u32,
        direction: row.try_get::<i64, _>("direction")? as i32,
    })
}

pub(super) async fn find(pool: &SqlitePool, key: &BatchKey) -> Result<Option<(u32, u32)>, StoreError> {
    let found: Option<(i64, i64)> = sqlx::query_as(
        "SELECT length, checksum FROM batches WHERE incarnation = $7 AND sequence = $8 AND point_id = (
             SELECT id FROM capture_points WHERE capture_id = $1 AND node = $2 AND netns = $3
                 AND interface = $4 AND interface_index = $5 AND direction = $6)",
    )
    .bind(&key.capture)
    .bind(&key.node)
    .bind(&key.point.netns)
    .bind(&key.point.interface)
    .bind(i64::from(key.point.index))
    .bind(i64::from(key.point.direction))
    .bind(key.incarnation as i64)
    .bind(key.sequence as i64)
    .fetch_optional(pool)
    .await?;
    Ok(found.map(|(length, checksum)| (length as u32, checksum as u32)))
}

pub(super) async fn commit(connection: &mut SqliteConnection, batches: &[Placed]) -> Result<(), StoreError> {
    for Placed { batch, location } in batches {
        let point = point_id(connection, &batch.key.capture, &batch.key.node, &batch.point).await?;
        sqlx::query(
            "INSERT INTO batches (point_id, incarnation, sequence, file, position, length, checksum, observations)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(point)
        .bind(batch.key.incarnation as i64)
        .bind(batch.key.sequence as i64)
        .bind(&location.file)
        .bind(location.position as i64)
        .bind(i64::from(location.length))
        .bind(i64::from(location.checksum))
        .bind(i64::from(batch.rows))
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

pub(super) async fn batches(pool: &SqlitePool, capture: &str) -> Result<Vec<StoredBatch>, StoreError> {
    let rows = sqlx::query(
        "SELECT p.*, b.incarnation, b.sequence, b.file, b.position, b.length, b.checksum
         FROM capture_points p JOIN batches b ON b.point_id = p.id
         WHERE p.capture_id = $1
         ORDER BY p.node, p.netns, p.interface, p.interface_index, p.direction, b.incarnation, b.sequence",
    )
    .bind(capture)
    .fetch_all(pool)
    .await?;
    rows.iter().map(read_batch).collect()
}

fn read_batch(row: &SqliteRow) -> Result<StoredBatch, StoreError> {
    Ok(StoredBatch {
        node: row.try_get("node")?,
        point: read_point(row)?,
        incarnation: row.try_get::<i64, _>("incarnation")? as u64,
        sequence: row.try_get::<i64, _>("sequence")? as u64,
        location: Location {
            file: row.try_get("file")?,
            position: row.try_get::<i64, _>("position")? as u64,
            length: row.try_get::<i64, _>("length")? as u32,
            checksum: row.try_get::<i64, _>("checksum")? as u32,
        },
    })
}

pub(super) async fn counts(pool: &SqlitePool, capture: &str) -> Result<Vec<StoredCount>, StoreError> {
    let rows = sqlx::query(
        "SELECT p.node, p.netns, p.interface, p.interface_index, p.direction, b.incarnation, COUNT(*) AS stored
         FROM capture_points p JOIN batches b ON b.point_id = p.id
         WHERE p.capture_id = $1 GROUP BY p.id, b.incarnation",
    )
    .bind(capture)
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(StoredCount {
                node: row.try_get("node")?,
                point: read_key(row)?,
                incarnation: row.try_get::<i64, _>("incarnation")? as u64,
                batches: row.try_get::<i64, _>("stored")? as u64,
            })
        })
        .collect()
}

pub(super) async fn files(pool: &SqlitePool) -> Result<Vec<(String, String)>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT DISTINCT p.capture_id, b.file FROM batches b JOIN capture_points p ON p.id = b.point_id",
    )
    .fetch_all(pool)
    .await?)
}
