//! The columns of a batch: what each is predicted from.
//!
//! Packets of one flow resemble each other, so most values are told by their difference from the flow's last one; a
//! TCP sequence number by its difference from where the flow's last segment ended, and the length of a payload by what
//! the headers leave of the packet's length.

use lastseen_packet::observation::Columns;

use super::BatchError;
use super::planes::{Columnar, Planes, RowBefore, SameFlow, SegmentEnd};

/// Calls `$each!(column, name)` for every column that is coded against the flow's last value.
macro_rules! per_flow_columns {
    ($each:ident) => {
        $each!(fragment_offset, "fragment_offset");
        $each!(ip_id, "ip_id");
        $each!(outer_ip_id_high, "outer_ip_id_high");
        $each!(outer_fragment_length, "outer_fragment_length");
        $each!(gso_size, "gso_size");
        $each!(gso_type, "gso_type");
        $each!(ttl, "ttl");
        $each!(traffic_class, "traffic_class");
        $each!(marks, "marks");
        $each!(tcp_flags, "tcp_flags");
        $each!(tcp_window, "tcp_window");
        $each!(tcp_ack, "tcp_ack");
        $each!(ts_value, "ts_value");
        $each!(ts_echo, "ts_echo");
        $each!(sack_left, "sack_left");
        $each!(sack_right, "sack_right");
    };
}

pub(super) fn encode(columns: &Columns, headers: &mut Vec<u32>, out: &mut Planes) {
    let (flow, flows) = (&columns.flow, columns.flows.len());
    out.put(&columns.time_nanos, 1, &RowBefore);
    out.put_plain(flow);
    out.put(&columns.ip_length, flows, &SameFlow(flow));
    headers.clear();
    headers
        .extend(columns.ip_length.iter().zip(&columns.payload_length).map(|(ip, own)| ip.wrapping_sub(*own)));
    out.put(headers, flows, &SameFlow(flow));
    macro_rules! put {
        ($column:ident, $name:literal) => {
            out.put(&columns.$column, flows, &SameFlow(flow))
        };
    }
    per_flow_columns!(put);
    // The carrier's identification counts per host pair and not per inner flow, so the row before is the better guess.
    out.put(&columns.outer_ip_id, 1, &RowBefore);
    out.put(&columns.tcp_seq, flows, &SegmentEnd { flow, payload_length: &columns.payload_length });
    put_sparse(&columns.transport_hash, out);
}

pub(super) fn decode(input: &mut Columnar<'_, '_>, columns: &mut Columns) -> Result<(), BatchError> {
    let flows = columns.flows.len();
    columns.time_nanos = input.get(1, &RowBefore, "time_nanos")?;
    columns.flow = input.plain("flow")?;
    if columns.flow.iter().any(|&flow| flow as usize >= flows) {
        return Err(BatchError::Value("flow"));
    }
    columns.ip_length = input.get(flows, &SameFlow(&columns.flow), "ip_length")?;
    columns.payload_length = input.get(flows, &SameFlow(&columns.flow), "payload_length")?;
    for (own, ip) in columns.payload_length.iter_mut().zip(&columns.ip_length) {
        *own = ip.wrapping_sub(*own);
    }
    macro_rules! get {
        ($column:ident, $name:literal) => {
            columns.$column = input.get(flows, &SameFlow(&columns.flow), $name)?
        };
    }
    per_flow_columns!(get);
    columns.outer_ip_id = input.get(1, &RowBefore, "outer_ip_id")?;
    let segment_end = SegmentEnd { flow: &columns.flow, payload_length: &columns.payload_length };
    columns.tcp_seq = input.get(flows, &segment_end, "tcp_seq")?;
    columns.transport_hash = sparse(input)?;
    Ok(())
}

const ABSENT: u8 = 0;
const PRESENT: u8 = 1;

/// Hashes do not compress: a bit a row says whether there is one, then the ones there are.
fn put_sparse(column: &[u64], out: &mut Planes) {
    if column.iter().all(|value| *value == 0) {
        out.bytes.push(ABSENT);
        return;
    }
    out.bytes.push(PRESENT);
    let bits = |rows: &[u64]| rows.iter().rev().fold(0, |bits, value| bits << 1 | u8::from(*value != 0));
    out.bytes.extend(column.chunks(8).map(bits));
    // Even a short block of bits pays when a long one of hashes follows, which would end up stored as it is.
    out.cut_after(64);
    for value in column.iter().filter(|value| **value != 0) {
        out.bytes.extend_from_slice(&value.to_le_bytes());
    }
}

fn sparse(input: &mut Columnar<'_, '_>) -> Result<Vec<u64>, BatchError> {
    const WHAT: &str = "transport_hash";
    let mut column = vec![0; input.rows];
    match input.reader.byte(WHAT)? {
        ABSENT => return Ok(column),
        PRESENT => {}
        _ => return Err(BatchError::Value(WHAT)),
    }
    let bits = input.reader.take(input.rows.div_ceil(8), WHAT)?;
    for (row, value) in column.iter_mut().enumerate() {
        if bits[row / 8] >> (row % 8) & 1 == 1 {
            *value = u64::from_le_bytes(input.reader.bytes(WHAT)?);
        }
    }
    Ok(column)
}
