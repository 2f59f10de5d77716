//! Nodes that ever registered.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqlitePool};

use super::StoreError;
use super::codec::{from_json, to_json};
use crate::model::NodeRecord;

pub(super) async fn save(pool: &SqlitePool, node: &NodeRecord) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO nodes (name, agent_version, kernel, incarnation, last_seen, capabilities, topology)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (name) DO UPDATE SET agent_version = excluded.agent_version, kernel = excluded.kernel,
             incarnation = excluded.incarnation, last_seen = excluded.last_seen,
             capabilities = excluded.capabilities, topology = excluded.topology",
    )
    .bind(&node.name)
    .bind(&node.agent_version)
    .bind(&node.kernel)
    .bind(node.incarnation as i64)
    .bind(node.last_seen_nanos)
    .bind(to_json(&node.capabilities))
    .bind(node.topology.as_ref())
    .execute(pool)
    .await?;
    Ok(())
}

pub(super) async fn all(pool: &SqlitePool) -> Result<Vec<NodeRecord>, StoreError> {
    let rows = sqlx::query("SELECT * FROM nodes ORDER BY name").fetch_all(pool).await?;
    rows.iter().map(read).collect()
}

fn read(row: &SqliteRow) -> Result<NodeRecord, StoreError> {
    let name: String = row.try_get("name")?;
    Ok(NodeRecord {
        capabilities: from_json("nodes", "capabilities", &name, row.try_get("capabilities")?)?,
        agent_version: row.try_get("agent_version")?,
        kernel: row.try_get("kernel")?,
        incarnation: row.try_get::<i64, _>("incarnation")? as u64,
        last_seen_nanos: row.try_get("last_seen")?,
        topology: row.try_get::<Vec<u8>, _>("topology")?.into(),
        name,
    })
}
