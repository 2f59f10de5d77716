//! Writes of many rows, each in one round trip: COPY where rows are new, arrays where they may be known.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use lastseen_correlate::report::FlowRecord;

use super::Connection;
use super::copy::{Rows, copy};
use super::statements::flows::direction_name;
use crate::model::{BatchKey, Capture, Part, Point, PointKey, PointStatus};
use crate::store::codec::{text, to_json};
use crate::store::{Placed, StoreError};

/// What names a point's row, as it is stored. Whoever writes several points does so in this order and locks their rows
/// in it, so that no two writers wait for each other.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct PointRow<'a> {
    capture: Cow<'a, str>,
    node: Cow<'a, str>,
    netns: Cow<'a, str>,
    interface: Cow<'a, str>,
    index: i64,
    direction: i64,
}

impl<'a> PointRow<'a> {
    fn new(capture: &'a str, node: &'a str, key: &'a PointKey) -> Self {
        Self {
            capture: text(capture),
            node: text(node),
            netns: text(&key.netns),
            interface: text(&key.interface),
            index: key.index.into(),
            direction: key.direction.into(),
        }
    }

    fn of(placed: &'a Placed) -> Self {
        let key = &placed.batch.key;
        Self::new(&key.capture, &key.node, &placed.batch.point.key)
    }
}

/// One array of a statement that takes rows as arrays.
fn column<'a, T: 'a, V>(rows: impl IntoIterator<Item = &'a T>, value: impl Fn(&T) -> V) -> Vec<V> {
    rows.into_iter().map(value).collect()
}

/// Writes the parts of a capture with their points.
pub(super) async fn save_parts(connection: &mut Connection, capture: &Capture) -> Result<(), StoreError> {
    // A statement may not meet the same row twice: of an agent's twins the last one counts.
    let parts: BTreeMap<Cow<'_, str>, &Part> =
        capture.parts.iter().map(|part| (text(&part.node), part)).collect();
    let mut points = BTreeMap::new();
    for part in &capture.parts {
        for status in &part.points {
            points.insert(PointRow::new(&capture.id, &part.node, &status.point.key), status);
        }
    }
    save_nodes(connection, &capture.id, &parts).await?;
    save_points(connection, &points).await
}

/// Keeps the networks of nodes with the capture.
pub(super) async fn save_topologies(
    connection: &mut Connection,
    capture: &str,
    topologies: &[(String, Bytes)],
) -> Result<(), StoreError> {
    let statement = "UPDATE capture_nodes n SET topology = h.bytes FROM UNNEST($2::TEXT[], $3::BYTEA[]) AS h (node, bytes)
                     WHERE n.capture_id = $1 AND n.node = h.node";
    save_of_nodes(connection, statement, capture, topologies).await
}

/// Keeps what nodes translated with the capture.
pub(super) async fn save_translations(
    connection: &mut Connection,
    capture: &str,
    translations: &[(String, Bytes)],
) -> Result<(), StoreError> {
    let statement = "UPDATE capture_nodes n SET translations = h.bytes
                     FROM UNNEST($2::TEXT[], $3::BYTEA[]) AS h (node, bytes)
                     WHERE n.capture_id = $1 AND n.node = h.node";
    save_of_nodes(connection, statement, capture, translations).await
}

async fn save_of_nodes(
    connection: &mut Connection,
    statement: &'static str,
    capture: &str,
    of_nodes: &[(String, Bytes)],
) -> Result<(), StoreError> {
    sqlx::query(statement)
        .bind(text(capture))
        .bind(column(of_nodes, |(node, _)| text(node).into_owned()))
        .bind(column(of_nodes, |(_, bytes)| bytes.to_vec()))
        .execute(connection)
        .await?;
    Ok(())
}

async fn save_nodes(
    connection: &mut Connection,
    capture: &str,
    parts: &BTreeMap<Cow<'_, str>, &Part>,
) -> Result<(), StoreError> {
    let rows = || parts.values();
    sqlx::query(
        "INSERT INTO capture_nodes (capture_id, node, state, reason, armed_at, incarnation, clock_start,
             clock_end, coverage)
         SELECT $1, * FROM UNNEST($2::TEXT[], $3::BIGINT[], $4::TEXT[], $5::BIGINT[], $6::BIGINT[], $7::TEXT[],
             $8::TEXT[], $9::TEXT[])
         ON CONFLICT (capture_id, node) DO UPDATE SET state = excluded.state, reason = excluded.reason,
             armed_at = excluded.armed_at, incarnation = excluded.incarnation,
             clock_start = excluded.clock_start, clock_end = excluded.clock_end, coverage = excluded.coverage",
    )
    .bind(text(capture))
    .bind(column(rows(), |part| text(&part.node).into_owned()))
    .bind(column(rows(), |part| part.state as i64))
    .bind(column(rows(), |part| text(&part.reason).into_owned()))
    .bind(column(rows(), |part| part.armed_at_nanos))
    .bind(column(rows(), |part| part.incarnation.map(|i| i as i64)))
    .bind(column(rows(), |part| part.clock_start.as_ref().map(to_json)))
    .bind(column(rows(), |part| part.clock_end.as_ref().map(to_json)))
    .bind(column(rows(), |part| to_json(&part.coverage)))
    .execute(connection)
    .await?;
    Ok(())
}

async fn save_points(
    connection: &mut Connection,
    points: &BTreeMap<PointRow<'_>, &PointStatus>,
) -> Result<(), StoreError> {
    let (keys, rows) = (|| points.keys(), || points.values());
    let count = |field: fn(&PointStatus) -> u64| column(rows(), |status| field(status) as i64);
    sqlx::query(
        "INSERT INTO capture_points (capture_id, node, netns, interface, interface_index, direction, kind, mtu,
             gso_known, received, kernel_drops, agent_drops, filtered, own_connections, undecoded, bytes, unreadable,
             sampled_out, batches)
         SELECT * FROM UNNEST($1::TEXT[], $2::TEXT[], $3::TEXT[], $4::TEXT[], $5::BIGINT[], $6::BIGINT[],
             $7::BIGINT[], $8::BIGINT[], $9::BIGINT[], $10::BIGINT[], $11::BIGINT[], $12::BIGINT[], $13::BIGINT[],
             $14::BIGINT[], $15::BIGINT[], $16::BIGINT[], $17::BIGINT[], $18::BIGINT[], $19::BIGINT[])
         ON CONFLICT (capture_id, node, netns, interface, interface_index, direction) DO UPDATE SET
             kind = excluded.kind, mtu = excluded.mtu, gso_known = excluded.gso_known, received = excluded.received,
             kernel_drops = excluded.kernel_drops, agent_drops = excluded.agent_drops, filtered = excluded.filtered,
             own_connections = excluded.own_connections, undecoded = excluded.undecoded, bytes = excluded.bytes,
             unreadable = excluded.unreadable, sampled_out = excluded.sampled_out, batches = excluded.batches",
    )
    .bind(column(keys(), |key| key.capture.clone()))
    .bind(column(keys(), |key| key.node.clone()))
    .bind(column(keys(), |key| key.netns.clone()))
    .bind(column(keys(), |key| key.interface.clone()))
    .bind(column(keys(), |key| key.index))
    .bind(column(keys(), |key| key.direction))
    .bind(column(rows(), |status| i64::from(status.point.kind)))
    .bind(column(rows(), |status| i64::from(status.point.mtu)))
    .bind(column(rows(), |status| i64::from(status.point.gso_known)))
    .bind(count(|status| status.counters.received))
    .bind(count(|status| status.counters.kernel_drops))
    .bind(count(|status| status.counters.agent_drops))
    .bind(count(|status| status.counters.filtered))
    .bind(count(|status| status.counters.own_connections))
    .bind(count(|status| status.counters.undecoded))
    .bind(count(|status| status.counters.bytes))
    .bind(count(|status| status.counters.unreadable))
    .bind(count(|status| status.counters.sampled_out))
    .bind(count(|status| status.batches))
    .execute(connection)
    .await?;
    Ok(())
}

/// The rows of points, made where they are new. What has not changed is not written again: every group commit comes
/// this way, and each write would leave a dead row.
async fn point_ids<'a>(
    connection: &mut Connection,
    points: BTreeMap<PointRow<'a>, &Point>,
) -> Result<BTreeMap<PointRow<'a>, i64>, StoreError> {
    let (keys, rows) = (|| points.keys(), || points.values());
    sqlx::query(
        "INSERT INTO capture_points AS p (capture_id, node, netns, interface, interface_index, direction, kind, mtu,
             gso_known)
         SELECT * FROM UNNEST($1::TEXT[], $2::TEXT[], $3::TEXT[], $4::TEXT[], $5::BIGINT[], $6::BIGINT[],
             $7::BIGINT[], $8::BIGINT[], $9::BIGINT[])
         ON CONFLICT (capture_id, node, netns, interface, interface_index, direction)
             DO UPDATE SET kind = excluded.kind, mtu = excluded.mtu, gso_known = excluded.gso_known
             WHERE (p.kind, p.mtu, p.gso_known) <> (excluded.kind, excluded.mtu, excluded.gso_known)",
    )
    .bind(column(keys(), |key| key.capture.clone()))
    .bind(column(keys(), |key| key.node.clone()))
    .bind(column(keys(), |key| key.netns.clone()))
    .bind(column(keys(), |key| key.interface.clone()))
    .bind(column(keys(), |key| key.index))
    .bind(column(keys(), |key| key.direction))
    .bind(column(rows(), |point| i64::from(point.kind)))
    .bind(column(rows(), |point| i64::from(point.mtu)))
    .bind(column(rows(), |point| i64::from(point.gso_known)))
    .execute(&mut *connection)
    .await?;
    let ids: Vec<i64> = sqlx::query_scalar(
        "SELECT p.id FROM UNNEST($1::TEXT[], $2::TEXT[], $3::TEXT[], $4::TEXT[], $5::BIGINT[], $6::BIGINT[])
             WITH ORDINALITY AS k (capture_id, node, netns, interface, interface_index, direction, ordinal)
         JOIN capture_points p USING (capture_id, node, netns, interface, interface_index, direction)
         ORDER BY k.ordinal",
    )
    .bind(column(keys(), |key| key.capture.clone()))
    .bind(column(keys(), |key| key.node.clone()))
    .bind(column(keys(), |key| key.netns.clone()))
    .bind(column(keys(), |key| key.interface.clone()))
    .bind(column(keys(), |key| key.index))
    .bind(column(keys(), |key| key.direction))
    .fetch_all(connection)
    .await?;
    if ids.len() != points.len() {
        // The capture was deleted between the two statements.
        return Err(sqlx::Error::RowNotFound.into());
    }
    Ok(points.into_keys().zip(ids).collect())
}

/// Lengths and checksums of those that are stored, in the order of the keys.
pub(super) async fn find_batches(
    connection: &mut Connection,
    keys: &[&BatchKey],
) -> Result<Vec<Option<(u32, u32)>>, StoreError> {
    let rows: Vec<(i64, i64, i64)> = sqlx::query_as(
        "SELECT k.ordinal, b.length, b.checksum
         FROM UNNEST($1::TEXT[], $2::TEXT[], $3::TEXT[], $4::TEXT[], $5::BIGINT[], $6::BIGINT[], $7::BIGINT[],
             $8::BIGINT[]) WITH ORDINALITY
             AS k (capture_id, node, netns, interface, interface_index, direction, incarnation, sequence, ordinal)
         JOIN capture_points p USING (capture_id, node, netns, interface, interface_index, direction)
         JOIN batches b ON b.point_id = p.id AND b.incarnation = k.incarnation AND b.sequence = k.sequence",
    )
    .bind(column(keys, |key| text(&key.capture).into_owned()))
    .bind(column(keys, |key| text(&key.node).into_owned()))
    .bind(column(keys, |key| text(&key.point.netns).into_owned()))
    .bind(column(keys, |key| text(&key.point.interface).into_owned()))
    .bind(column(keys, |key| i64::from(key.point.index)))
    .bind(column(keys, |key| i64::from(key.point.direction)))
    .bind(column(keys, |key| key.incarnation as i64))
    .bind(column(keys, |key| key.sequence as i64))
    .fetch_all(connection)
    .await?;
    let mut found = vec![None; keys.len()];
    for (ordinal, length, checksum) in rows {
        // Ordinals count from 1.
        found[ordinal as usize - 1] = Some((length as u32, checksum as u32));
    }
    Ok(found)
}

/// Writes batches with their points.
pub(super) async fn save_batches(connection: &mut Connection, batches: &[Placed]) -> Result<(), StoreError> {
    let points = batches.iter().map(|placed| (PointRow::of(placed), &placed.batch.point)).collect();
    let ids = point_ids(connection, points).await?;
    let encode = |rows: &mut Rows, placed: &Placed| {
        let Placed { batch, location } = placed;
        rows.row(8)
            .number(ids[&PointRow::of(placed)])
            .number(batch.key.incarnation as i64)
            .number(batch.key.sequence as i64)
            .text(&location.file)
            .number(location.position as i64)
            .number(location.length.into())
            .number(location.checksum.into())
            .number(batch.rows.into());
    };
    copy(
        connection,
        "COPY batches (point_id, incarnation, sequence, file, position, length, checksum, observations)
         FROM STDIN (FORMAT binary)",
        batches.iter(),
        encode,
    )
    .await
}

/// Writes flow records, numbered from 0.
pub(super) async fn save_flows(
    connection: &mut Connection,
    capture: &str,
    flows: &[FlowRecord],
) -> Result<(), StoreError> {
    copy(
        connection,
        "COPY flow_records (capture_id, ordinal, node, interface, direction, source_address, destination_address,
             protocol_identifier, source_transport_port, destination_transport_port, overlay_kind, overlay_id,
             packet_delta_count, octet_delta_count, segments, flow_start, flow_end, tcp_control_bits,
             retransmissions, out_of_order, minimum_ip_total_length, maximum_ip_total_length, minimum_ttl, maximum_ttl,
             flow_count, source_prefix_length, destination_prefix_length)
         FROM STDIN (FORMAT binary)",
        flows.iter().enumerate(),
        |rows, (ordinal, flow)| encode_flow(rows.row(27).text(capture).number(ordinal as i64), flow),
    )
    .await
}

fn encode_flow(rows: &mut Rows, flow: &FlowRecord) {
    rows.text(&flow.node)
        .text(&flow.interface)
        .text(direction_name(flow.direction))
        .text(&flow.source_address.to_string())
        .text(&flow.destination_address.to_string())
        .number(flow.protocol_identifier.into())
        .number(flow.source_transport_port.into())
        .number(flow.destination_transport_port.into());
    match flow.overlay {
        Some(overlay) => rows.text(overlay.kind.name()).number(overlay.id.into()),
        None => rows.null().null(),
    };
    rows.number(flow.packet_delta_count as i64)
        .number(flow.octet_delta_count as i64)
        .number(flow.segments as i64)
        .number(flow.flow_start_nanos)
        .number(flow.flow_end_nanos)
        .number(flow.tcp_control_bits.into())
        .number(flow.retransmissions as i64)
        .number(flow.out_of_order as i64)
        .number(flow.minimum_ip_total_length.into())
        .number(flow.maximum_ip_total_length.into())
        .number(flow.minimum_ttl.into())
        .number(flow.maximum_ttl.into());
    match flow.aggregate {
        Some(aggregate) => rows
            .number(aggregate.flows as i64)
            .number(aggregate.source_prefix_length.into())
            .number(aggregate.destination_prefix_length.into()),
        None => rows.null().null().null(),
    };
}

/// Writes encoded lost packets, numbered from 0.
pub(super) async fn save_lost(
    connection: &mut Connection,
    capture: &str,
    lost: &[Vec<u8>],
) -> Result<(), StoreError> {
    copy(
        connection,
        "COPY lost_packets (capture_id, ordinal, record) FROM STDIN (FORMAT binary)",
        lost.iter().enumerate(),
        |rows, (ordinal, record)| {
            rows.row(3).text(capture).number(ordinal as i64).bytes(record);
        },
    )
    .await
}
