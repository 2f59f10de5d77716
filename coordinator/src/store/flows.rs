//! Flow records, a column per information element.

use std::fmt::Display;
use std::str::FromStr;

use lastseen_correlate::report::{FlowRecord, OverlayReport};
use lastseen_correlate::topology::Direction;
use lastseen_packet::observation::OverlayKind;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection, SqlitePool};

use super::StoreError;
use super::codec::corrupt;

const TABLE: &str = "flow_records";

/// Writes the records of a capture, numbered from 0.
pub(super) async fn save(
    connection: &mut SqliteConnection,
    capture: &str,
    flows: &[FlowRecord],
) -> Result<(), StoreError> {
    for (ordinal, flow) in flows.iter().enumerate() {
        sqlx::query(
            "INSERT INTO flow_records (capture_id, ordinal, node, interface, direction, source_address,
                destination_address, protocol_identifier, source_transport_port, destination_transport_port,
                overlay_kind, overlay_id, packet_delta_count, octet_delta_count, segments, flow_start, flow_end,
                tcp_control_bits, retransmissions, out_of_order, minimum_ip_total_length, maximum_ip_total_length,
                minimum_ttl, maximum_ttl)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
                $22, $23, $24)",
        )
        .bind(capture)
        .bind(ordinal as i64)
        .bind(&flow.node)
        .bind(&flow.interface)
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
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Up to `limit` records from ordinal `from`.
pub(super) async fn page(
    pool: &SqlitePool,
    capture: &str,
    from: u64,
    limit: u32,
) -> Result<Vec<FlowRecord>, StoreError> {
    sqlx::query(
        "SELECT * FROM flow_records WHERE capture_id = $1 AND ordinal >= $2 ORDER BY ordinal LIMIT $3",
    )
    .bind(capture)
    .bind(i64::try_from(from).unwrap_or(i64::MAX))
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await?
    .iter()
    .map(|row| record(&Columns { row, capture }))
    .collect()
}

fn record(columns: &Columns<'_>) -> Result<FlowRecord, StoreError> {
    Ok(FlowRecord {
        node: columns.row.try_get("node")?,
        interface: columns.row.try_get("interface")?,
        direction: columns.parsed("direction", direction)?,
        source_address: columns.parsed("source_address", from_str)?,
        destination_address: columns.parsed("destination_address", from_str)?,
        protocol_identifier: columns.number("protocol_identifier")?,
        source_transport_port: columns.number("source_transport_port")?,
        destination_transport_port: columns.number("destination_transport_port")?,
        overlay: overlay(columns)?,
        packet_delta_count: columns.count("packet_delta_count")?,
        octet_delta_count: columns.count("octet_delta_count")?,
        segments: columns.count("segments")?,
        flow_start_nanos: columns.row.try_get("flow_start")?,
        flow_end_nanos: columns.row.try_get("flow_end")?,
        tcp_control_bits: columns.number("tcp_control_bits")?,
        retransmissions: columns.count("retransmissions")?,
        out_of_order: columns.count("out_of_order")?,
        minimum_ip_total_length: columns.number("minimum_ip_total_length")?,
        maximum_ip_total_length: columns.number("maximum_ip_total_length")?,
        minimum_ttl: columns.number("minimum_ttl")?,
        maximum_ttl: columns.number("maximum_ttl")?,
    })
}

fn overlay(columns: &Columns<'_>) -> Result<Option<OverlayReport>, StoreError> {
    if columns.row.try_get::<Option<String>, _>("overlay_kind")?.is_none() {
        return Ok(None);
    }
    let kind = columns.parsed("overlay_kind", OverlayKind::from_name)?;
    Ok(Some(OverlayReport { kind, id: columns.number("overlay_id")? }))
}

fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::In => "in",
        Direction::Out => "out",
    }
}

fn direction(name: &str) -> Option<Direction> {
    [Direction::In, Direction::Out].into_iter().find(|direction| direction_name(*direction) == name)
}

fn from_str<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

/// A row whose columns must hold what was written.
struct Columns<'a> {
    row: &'a SqliteRow,
    capture: &'a str,
}

impl Columns<'_> {
    fn number<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T, StoreError> {
        let number: i64 = self.row.try_get(column)?;
        T::try_from(number).map_err(|_| self.corrupt(column, &number))
    }

    /// A 64-bit unsigned number from its signed twin.
    fn count(&self, column: &'static str) -> Result<u64, StoreError> {
        Ok(self.row.try_get::<i64, _>(column)? as u64)
    }

    fn parsed<T>(&self, column: &'static str, parse: impl Fn(&str) -> Option<T>) -> Result<T, StoreError> {
        let text: String = self.row.try_get(column)?;
        parse(&text).ok_or_else(|| self.corrupt(column, &text))
    }

    fn corrupt(&self, column: &'static str, value: &dyn Display) -> StoreError {
        corrupt(TABLE, column, self.capture, &format!("impossible value {value}"))
    }
}
