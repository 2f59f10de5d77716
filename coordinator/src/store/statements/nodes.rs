//! Nodes that ever registered.

use sqlx::Row as _;

use super::{Connection, Row};
use crate::model::NodeRecord;
use crate::store::StoreError;
use crate::store::codec::{from_json, text, to_json};

pub(in crate::store) async fn save(connection: &mut Connection, node: &NodeRecord) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO nodes (name, agent_version, kernel, incarnation, last_seen, capabilities, topology)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (name) DO UPDATE SET agent_version = excluded.agent_version, kernel = excluded.kernel,
             incarnation = excluded.incarnation, last_seen = excluded.last_seen,
             capabilities = excluded.capabilities, topology = excluded.topology",
    )
    .bind(text(&node.name))
    .bind(text(&node.agent_version))
    .bind(text(&node.kernel))
    .bind(node.incarnation as i64)
    .bind(node.last_seen_nanos)
    .bind(to_json(&node.capabilities))
    .bind(node.topology.as_ref())
    .execute(connection)
    .await?;
    Ok(())
}

pub(in crate::store) async fn all(connection: &mut Connection) -> Result<Vec<NodeRecord>, StoreError> {
    let rows = sqlx::query(
        "SELECT name, agent_version, kernel, incarnation, last_seen, capabilities, topology
         FROM nodes ORDER BY name",
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(read).collect()
}

fn read(row: &Row) -> Result<NodeRecord, StoreError> {
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
