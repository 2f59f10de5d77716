//! Points of captures and where the batches of each lie.

use sqlx::Row as _;

use super::{Connection, Row};
use crate::model::{Counters, Point, PointKey, PointStatus};
use crate::store::codec::text;
use crate::store::{Location, StoreError, StoredBatch, StoredCount};

/// Points of a capture with their nodes.
pub(in crate::store) async fn points(
    connection: &mut Connection,
    capture: &str,
) -> Result<Vec<(String, PointStatus)>, StoreError> {
    let rows = sqlx::query(
        "SELECT node, netns, interface, interface_index, direction, kind, mtu, gso_known, received, kernel_drops,
             agent_drops, filtered, own_connections, undecoded, bytes, unreadable, sampled_out, batches
         FROM capture_points WHERE capture_id = $1
         ORDER BY node, netns, interface, interface_index, direction",
    )
    .bind(text(capture))
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok((row.try_get("node")?, read_status(row)?))).collect()
}

fn read_status(row: &Row) -> Result<PointStatus, StoreError> {
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

fn read_point(row: &Row) -> Result<Point, StoreError> {
    Ok(Point {
        key: read_key(row)?,
        kind: row.try_get::<i64, _>("kind")? as i32,
        mtu: row.try_get::<i64, _>("mtu")? as u32,
        gso_known: row.try_get::<i64, _>("gso_known")? != 0,
    })
}

fn read_key(row: &Row) -> Result<PointKey, StoreError> {
    Ok(PointKey {
        netns: row.try_get("netns")?,
        interface: row.try_get("interface")?,
        index: row.try_get::<i64, _>("interface_index")? as u32,
        direction: row.try_get::<i64, _>("direction")? as i32,
    })
}

pub(in crate::store) async fn batches(
    connection: &mut Connection,
    capture: &str,
) -> Result<Vec<StoredBatch>, StoreError> {
    let rows = sqlx::query(
        "SELECT p.node, p.netns, p.interface, p.interface_index, p.direction, p.kind, p.mtu, p.gso_known, b.incarnation,
             b.sequence, b.file, b.position, b.length, b.checksum
         FROM capture_points p JOIN batches b ON b.point_id = p.id
         WHERE p.capture_id = $1
         ORDER BY p.node, p.netns, p.interface, p.interface_index, p.direction, b.incarnation, b.sequence",
    )
    .bind(text(capture))
    .fetch_all(connection)
    .await?;
    rows.iter().map(read_batch).collect()
}

fn read_batch(row: &Row) -> Result<StoredBatch, StoreError> {
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

pub(in crate::store) async fn counts(
    connection: &mut Connection,
    capture: &str,
) -> Result<Vec<StoredCount>, StoreError> {
    let rows = sqlx::query(
        "SELECT p.node, p.netns, p.interface, p.interface_index, p.direction, b.incarnation, COUNT(*) AS stored
         FROM capture_points p JOIN batches b ON b.point_id = p.id
         WHERE p.capture_id = $1 GROUP BY p.id, b.incarnation",
    )
    .bind(text(capture))
    .fetch_all(connection)
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

pub(in crate::store) async fn files(
    connection: &mut Connection,
    capture: &str,
) -> Result<Vec<String>, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT DISTINCT b.file FROM capture_points p JOIN batches b ON b.point_id = p.id WHERE p.capture_id = $1",
    )
    .bind(text(capture))
    .fetch_all(connection)
    .await?)
}

pub(in crate::store) async fn bytes(connection: &mut Connection, capture: &str) -> Result<u64, StoreError> {
    let bytes: i64 = sqlx::query_scalar(
        "SELECT CAST(COALESCE(SUM(b.length), 0) AS BIGINT)
         FROM capture_points p JOIN batches b ON b.point_id = p.id WHERE p.capture_id = $1",
    )
    .bind(text(capture))
    .fetch_one(connection)
    .await?;
    Ok(bytes as u64)
}
