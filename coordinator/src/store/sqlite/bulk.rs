//! Writes of many rows, one after the other: in process a statement costs microseconds.

use bytes::Bytes;
use lastseen_correlate::report::FlowRecord;

use super::Connection;
use super::statements::flows::direction_name;
use crate::model::{BatchKey, Capture, Part, Point, PointStatus};
use crate::store::codec::{text, to_json};
use crate::store::{Placed, StoreError};

/// Keeps the networks of nodes with the capture.
pub(super) async fn save_topologies(
    connection: &mut Connection,
    capture: &str,
    topologies: &[(String, Bytes)],
) -> Result<(), StoreError> {
    let statement = "UPDATE capture_nodes SET topology = $3 WHERE capture_id = $1 AND node = $2";
    for_each_node(connection, statement, capture, topologies).await
}

/// Keeps what nodes translated with the capture.
pub(super) async fn save_translations(
    connection: &mut Connection,
    capture: &str,
    translations: &[(String, Bytes)],
) -> Result<(), StoreError> {
    let statement = "UPDATE capture_nodes SET translations = $3 WHERE capture_id = $1 AND node = $2";
    for_each_node(connection, statement, capture, translations).await
}

async fn for_each_node(
    connection: &mut Connection,
    statement: &'static str,
    capture: &str,
    of_nodes: &[(String, Bytes)],
) -> Result<(), StoreError> {
    for (node, bytes) in of_nodes {
        sqlx::query(statement)
            .bind(text(capture))
            .bind(text(node))
            .bind(bytes.as_ref())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Writes the parts of a capture with their points.
pub(super) async fn save_parts(connection: &mut Connection, capture: &Capture) -> Result<(), StoreError> {
    for part in &capture.parts {
        save_part(connection, &capture.id, part).await?;
        for status in &part.points {
            save_point(connection, &capture.id, &part.node, status).await?;
        }
    }
    Ok(())
}

async fn save_part(connection: &mut Connection, capture: &str, part: &Part) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO capture_nodes (capture_id, node, state, reason, armed_at, incarnation, clock_start,
             clock_end, coverage)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (capture_id, node) DO UPDATE SET state = excluded.state, reason = excluded.reason,
             armed_at = excluded.armed_at, incarnation = excluded.incarnation,
             clock_start = excluded.clock_start, clock_end = excluded.clock_end, coverage = excluded.coverage",
    )
    .bind(text(capture))
    .bind(text(&part.node))
    .bind(part.state as i64)
    .bind(text(&part.reason))
    .bind(part.armed_at_nanos)
    .bind(part.incarnation.map(|i| i as i64))
    .bind(part.clock_start.as_ref().map(to_json))
    .bind(part.clock_end.as_ref().map(to_json))
    .bind(to_json(&part.coverage))
    .execute(connection)
    .await?;
    Ok(())
}

async fn save_point(
    connection: &mut Connection,
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
    connection: &mut Connection,
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
    .bind(text(capture))
    .bind(text(node))
    .bind(text(&point.key.netns))
    .bind(text(&point.key.interface))
    .bind(i64::from(point.key.index))
    .bind(i64::from(point.key.direction))
    .bind(i64::from(point.kind))
    .bind(i64::from(point.mtu))
    .bind(i64::from(point.gso_known))
    .fetch_one(connection)
    .await?;
    Ok(id)
}

/// Lengths and checksums of those that are stored, in the order of the keys.
pub(super) async fn find_batches(
    connection: &mut Connection,
    keys: &[&BatchKey],
) -> Result<Vec<Option<(u32, u32)>>, StoreError> {
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        let stored: Option<(i64, i64)> = sqlx::query_as(
            "SELECT length, checksum FROM batches WHERE incarnation = $7 AND sequence = $8 AND point_id = (
                 SELECT id FROM capture_points WHERE capture_id = $1 AND node = $2 AND netns = $3
                     AND interface = $4 AND interface_index = $5 AND direction = $6)",
        )
        .bind(text(&key.capture))
        .bind(text(&key.node))
        .bind(text(&key.point.netns))
        .bind(text(&key.point.interface))
        .bind(i64::from(key.point.index))
        .bind(i64::from(key.point.direction))
        .bind(key.incarnation as i64)
        .bind(key.sequence as i64)
        .fetch_optional(&mut *connection)
        .await?;
        found.push(stored.map(|(length, checksum)| (length as u32, checksum as u32)));
    }
    Ok(found)
}

/// Writes batches with their points.
pub(super) async fn save_batches(connection: &mut Connection, batches: &[Placed]) -> Result<(), StoreError> {
    for Placed { batch, location } in batches {
        let point = point_id(connection, &batch.key.capture, &batch.key.node, &batch.point).await?;
        sqlx::query(
            "INSERT INTO batches (point_id, incarnation, sequence, file, position, length, checksum, observations)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(point)
        .bind(batch.key.incarnation as i64)
        .bind(batch.key.sequence as i64)
        .bind(text(&location.file))
        .bind(location.position as i64)
        .bind(i64::from(location.length))
        .bind(i64::from(location.checksum))
        .bind(i64::from(batch.rows))
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Writes flow records, numbered from 0.
pub(super) async fn save_flows(
    connection: &mut Connection,
    capture: &str,
    flows: &[FlowRecord],
) -> Result<(), StoreError> {
    for (ordinal, flow) in flows.iter().enumerate() {
        sqlx::query(
            "INSERT INTO flow_records (capture_id, ordinal, node, interface, direction, source_address,
                destination_address, protocol_identifier, source_transport_port, destination_transport_port,
                overlay_kind, overlay_id, packet_delta_count, octet_delta_count, segments, flow_start, flow_end,
                tcp_control_bits, retransmissions, out_of_order, minimum_ip_total_length, maximum_ip_total_length,
                minimum_ttl, maximum_ttl, flow_count, source_prefix_length, destination_prefix_length)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
                $22, $23, $24, $25, $26, $27)",
        )
        .bind(text(capture))
        .bind(ordinal as i64)
        .bind(text(&flow.node))
        .bind(text(&flow.interface))
        .bind(direction_name(flow.direction))
        .bind(flow.source_address.to_string())
        .bind(flow.destination_address.to_string())
        .bind(i64::from(flow.protocol_identifier))
        .bind(i64::from(flow.source_transport_port))
        .bind(i64::from(flow.destination_transport_port))
        .bind(flow.overlay.map(|overlay| overlay.kind.name()))
        .bind(flow.overlay.map(|overlay| i64::from(overlay.id)))
        .bind(flow.packet_delta_count as i64)
        .bind(flow.octet_delta_count as i64)
        .bind(flow.segments as i64)
        .bind(flow.flow_start_nanos)
        .bind(flow.flow_end_nanos)
        .bind(i64::from(flow.tcp_control_bits))
        .bind(flow.retransmissions as i64)
        .bind(flow.out_of_order as i64)
        .bind(i64::from(flow.minimum_ip_total_length))
        .bind(i64::from(flow.maximum_ip_total_length))
        .bind(i64::from(flow.minimum_ttl))
        .bind(i64::from(flow.maximum_ttl))
        .bind(flow.aggregate.map(|aggregate| aggregate.flows as i64))
        .bind(flow.aggregate.map(|aggregate| i64::from(aggregate.source_prefix_length)))
        .bind(flow.aggregate.map(|aggregate| i64::from(aggregate.destination_prefix_length)))
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Writes encoded lost packets, numbered from 0.
pub(super) async fn save_lost(
    connection: &mut Connection,
    capture: &str,
    lost: &[Vec<u8>],
) -> Result<(), StoreError> {
    for (ordinal, record) in lost.iter().enumerate() {
        sqlx::query("INSERT INTO lost_packets (capture_id, ordinal, record) VALUES ($1, $2, $3)")
            .bind(text(capture))
            .bind(ordinal as i64)
            .bind(record.as_slice())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
