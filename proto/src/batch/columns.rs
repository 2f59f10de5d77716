//! The columns of a batch, as differences.
//!
//! Packets of one flow resemble each other, so most values are told by their difference from the flow's last one; a
//! TCP sequence number by its difference from where the flow's last segment ended.

use lastseen_packet::observation::Columns;

use super::BatchError;
use super::wire::{Reader, put_varint, unzigzag, zigzag};

const ZERO: u8 = 0;
const PRESENT: u8 = 1;

/// Calls `$each!(column, name)` for every column that is coded against the flow's last value.
macro_rules! per_flow_columns {
    ($each:ident) => {
        $each!(ip_length, "ip_length");
        $each!(payload_length, "payload_length");
        $each!(fragment_offset, "fragment_offset");
        $each!(ip_id, "ip_id");
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

pub(super) fn encode(columns: &Columns, context: &mut Vec<u32>, out: &mut Vec<u8>) {
    let mut last = 0_i64;
    for &time in &columns.time_nanos {
        put_varint(zigzag(time.wrapping_sub(last)), out);
        last = time;
    }
    for &flow in &columns.flow {
        put_varint(flow.into(), out);
    }
    macro_rules! put {
        ($column:ident, $name:literal) => {
            put_per_flow(&columns.$column, &columns.flow, columns.flows.len(), context, out)
        };
    }
    per_flow_columns!(put);
    put_outer_ip_id(&columns.outer_ip_id, out);
    put_tcp_seq(columns, context, out);
    put_sparse(&columns.transport_hash, out);
}

pub(super) fn decode(reader: &mut Reader<'_>, rows: usize, columns: &mut Columns) -> Result<(), BatchError> {
    // Time and flow take a byte a row at least, so a lying count ends here before anything large is made.
    if reader.remaining() < 2 * rows {
        return Err(BatchError::Truncated("time_nanos"));
    }
    columns.time_nanos.reserve_exact(rows);
    let mut last = 0_i64;
    for _ in 0..rows {
        last = last.wrapping_add(unzigzag(reader.varint("time_nanos")?));
        columns.time_nanos.push(last);
    }
    columns.flow.reserve_exact(rows);
    for _ in 0..rows {
        let flow = reader.varint_u32("flow")?;
        if flow as usize >= columns.flows.len() {
            return Err(BatchError::Value("flow"));
        }
        columns.flow.push(flow);
    }
    let mut context = Vec::new();
    macro_rules! get {
        ($column:ident, $name:literal) => {
            columns.$column = per_flow(reader, &columns.flow, columns.flows.len(), &mut context, $name)?
        };
    }
    per_flow_columns!(get);
    columns.outer_ip_id = outer_ip_id(reader, rows)?;
    columns.tcp_seq = tcp_seq(reader, columns, &mut context)?;
    columns.transport_hash = sparse(reader, rows)?;
    Ok(())
}

/// Writes the tag; true if values must follow.
fn put_tag<T: Copy + Default + PartialEq>(column: &[T], out: &mut Vec<u8>) -> bool {
    let present = column.iter().any(|value| *value != T::default());
    out.push(if present { PRESENT } else { ZERO });
    present
}

fn tag(reader: &mut Reader<'_>, what: &'static str) -> Result<bool, BatchError> {
    match reader.byte(what)? {
        ZERO => Ok(false),
        PRESENT => Ok(true),
        _ => Err(BatchError::Value(what)),
    }
}

fn reset(context: &mut Vec<u32>, flows: usize) {
    context.clear();
    context.resize(flows, 0);
}

fn put_per_flow<T>(column: &[T], flow: &[u32], flows: usize, context: &mut Vec<u32>, out: &mut Vec<u8>)
where
    T: Copy + Default + PartialEq + Into<u32>,
{
    if !put_tag(column, out) {
        return;
    }
    reset(context, flows);
    for (&value, &flow) in column.iter().zip(flow) {
        let (value, last) = (value.into(), &mut context[flow as usize]);
        put_varint(zigzag((value.wrapping_sub(*last) as i32).into()), out);
        *last = value;
    }
}

fn per_flow<T>(
    reader: &mut Reader<'_>,
    flow: &[u32],
    flows: usize,
    context: &mut Vec<u32>,
    what: &'static str,
) -> Result<Vec<T>, BatchError>
where
    T: Copy + Default + TryFrom<u32>,
{
    if !tag(reader, what)? {
        return Ok(vec![T::default(); flow.len()]);
    }
    reset(context, flows);
    let mut column = Vec::with_capacity(flow.len());
    for &flow in flow {
        let last = &mut context[flow as usize];
        *last = last.wrapping_add(difference(reader, what)?);
        column.push(T::try_from(*last).map_err(|_| BatchError::Value(what))?);
    }
    Ok(column)
}

/// A difference modulo 2^32.
fn difference(reader: &mut Reader<'_>, what: &'static str) -> Result<u32, BatchError> {
    i32::try_from(unzigzag(reader.varint(what)?)).map(|d| d as u32).map_err(|_| BatchError::Value(what))
}

/// The carrier's identification counts per host pair and not per inner flow, so the row before is the better guess.
fn put_outer_ip_id(column: &[u16], out: &mut Vec<u8>) {
    if !put_tag(column, out) {
        return;
    }
    let mut last = 0_u16;
    for &value in column {
        put_varint(zigzag((value.wrapping_sub(last) as i16).into()), out);
        last = value;
    }
}

fn outer_ip_id(reader: &mut Reader<'_>, rows: usize) -> Result<Vec<u16>, BatchError> {
    const WHAT: &str = "outer_ip_id";
    if !tag(reader, WHAT)? {
        return Ok(vec![0; rows]);
    }
    let mut last = 0_u16;
    let mut column = Vec::with_capacity(rows);
    for _ in 0..rows {
        let step = i16::try_from(unzigzag(reader.varint(WHAT)?)).map_err(|_| BatchError::Value(WHAT))?;
        last = last.wrapping_add(step as u16);
        column.push(last);
    }
    Ok(column)
}

fn put_tcp_seq(columns: &Columns, context: &mut Vec<u32>, out: &mut Vec<u8>) {
    if !put_tag(&columns.tcp_seq, out) {
        return;
    }
    reset(context, columns.flows.len());
    for (row, &seq) in columns.tcp_seq.iter().enumerate() {
        let expected = &mut context[columns.flow[row] as usize];
        put_varint(zigzag((seq.wrapping_sub(*expected) as i32).into()), out);
        *expected = seq.wrapping_add(columns.payload_length[row]);
    }
}

fn tcp_seq(
    reader: &mut Reader<'_>,
    columns: &Columns,
    context: &mut Vec<u32>,
) -> Result<Vec<u32>, BatchError> {
    const WHAT: &str = "tcp_seq";
    let rows = columns.flow.len();
    if !tag(reader, WHAT)? {
        return Ok(vec![0; rows]);
    }
    reset(context, columns.flows.len());
    let mut column = Vec::with_capacity(rows);
    for row in 0..rows {
        let expected = &mut context[columns.flow[row] as usize];
        let seq = expected.wrapping_add(difference(reader, WHAT)?);
        *expected = seq.wrapping_add(columns.payload_length[row]);
        column.push(seq);
    }
    Ok(column)
}

/// Hashes do not compress: a bit a row says whether there is one, then the ones there are.
fn put_sparse(column: &[u64], out: &mut Vec<u8>) {
    if !put_tag(column, out) {
        return;
    }
    for chunk in column.chunks(8) {
        out.push(chunk.iter().enumerate().fold(0, |bits, (i, value)| bits | (u8::from(*value != 0) << i)));
    }
    for value in column.iter().filter(|value| **value != 0) {
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn sparse(reader: &mut Reader<'_>, rows: usize) -> Result<Vec<u64>, BatchError> {
    const WHAT: &str = "transport_hash";
    let mut column = vec![0; rows];
    if !tag(reader, WHAT)? {
        return Ok(column);
    }
    let bits = reader.take(rows.div_ceil(8), WHAT)?;
    for (row, value) in column.iter_mut().enumerate() {
        if bits[row / 8] >> (row % 8) & 1 == 1 {
            *value = u64::from_le_bytes(reader.bytes(WHAT)?);
        }
    }
    Ok(column)
}
