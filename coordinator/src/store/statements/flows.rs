//! Flow records, a column per information element.

use std::fmt::Display;
use std::str::FromStr;

use lastseen_correlate::report::{Aggregate, FlowRecord, OverlayReport};
use lastseen_correlate::topology::Direction;
use lastseen_packet::observation::OverlayKind;
use sqlx::Row as _;

use super::{Connection, Row};
use crate::store::StoreError;
use crate::store::codec::{corrupt, text};

const TABLE: &str = "flow_records";

/// Up to `limit` records from ordinal `from`.
pub(in crate::store) async fn page(
    connection: &mut Connection,
    capture: &str,
    from: u64,
    limit: u32,
) -> Result<Vec<FlowRecord>, StoreError> {
    sqlx::query(
        "SELECT node, interface, direction, source_address, destination_address, protocol_identifier,
             source_transport_port, destination_transport_port, overlay_kind, overlay_id, packet_delta_count,
             octet_delta_count, segments, flow_start, flow_end, tcp_control_bits, retransmissions, out_of_order,
             minimum_ip_total_length, maximum_ip_total_length, minimum_ttl, maximum_ttl, flow_count,
             source_prefix_length, destination_prefix_length
         FROM flow_records WHERE capture_id = $1 AND ordinal >= $2 ORDER BY ordinal LIMIT $3",
    )
    .bind(text(capture))
    .bind(i64::try_from(from).unwrap_or(i64::MAX))
    .bind(i64::from(limit))
    .fetch_all(connection)
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
        aggregate: aggregate(columns)?,
    })
}

fn aggregate(columns: &Columns<'_>) -> Result<Option<Aggregate>, StoreError> {
    if columns.row.try_get::<Option<i64>, _>("flow_count")?.is_none() {
        return Ok(None);
    }
    Ok(Some(Aggregate {
        flows: columns.count("flow_count")?,
        source_prefix_length: columns.number("source_prefix_length")?,
        destination_prefix_length: columns.number("destination_prefix_length")?,
    }))
}

fn overlay(columns: &Columns<'_>) -> Result<Option<OverlayReport>, StoreError> {
    if columns.row.try_get::<Option<String>, _>("overlay_kind")?.is_none() {
        return Ok(None);
    }
    let kind = columns.parsed("overlay_kind", OverlayKind::from_name)?;
    Ok(Some(OverlayReport { kind, id: columns.number("overlay_id")? }))
}

pub(in crate::store) fn direction_name(direction: Direction) -> &'static str {
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
    row: &'a Row,
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
