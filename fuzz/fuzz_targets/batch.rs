//! Hostile observation batches through the decoder: arbitrary bytes, arbitrary columns under a right checksum, and
//! batches that the encoder made, with some bytes changed.
//!
//! The first byte chooses which. A batch that is accepted must be consistent, hold the rows it claims and survive
//! another encoding.

#![no_main]

mod common;

use common::{change, planted, seeds};
use lastseen_packet::observation::{Columns, FlowKey, Observation, Overlay, OverlayKind};
use lastseen_proto::batch::{Encoder, Limits, decode};
use libfuzzer_sys::fuzz_target;

/// The documented layout: version, rows, flows and raw length, then the checksum, then the compressed columns.
const CHECKSUM_AT: usize = 13;
const HEADER_BYTES: usize = 17;
/// Small, so that the fuzzer reaches what refuses large ones.
const LIMITS: Limits = Limits { rows: 200, encoded_bytes: 1 << 16, raw_bytes: 1 << 16 };

fuzz_target!(init: seeds(inputs()), |data: &[u8]| {
    let Some((&how, data)) = data.split_first() else { return };
    match how % 4 {
        0 => accept(data),
        1 => arbitrary_columns(data),
        2 => changed_columns(data),
        _ => changed_bytes(data),
    }
});

/// Decodes what may be anything.
fn accept(encoded: &[u8]) {
    let Ok(columns) = decode(encoded, &LIMITS) else { return };
    assert!(columns.is_consistent(), "an inconsistent batch was accepted");
    assert_eq!(columns.len() as u32, u32::from_le_bytes(encoded[1..5].try_into().unwrap()), "rows");
    let again = Encoder::new().unwrap().encode(&columns).unwrap();
    let is_geneve = |flow: &FlowKey| flow.overlay.is_some_and(|overlay| overlay.kind == OverlayKind::Geneve);
    planted(|| columns.len() > 1 && columns.flows.iter().any(is_geneve));
    assert_eq!(decode(&again, &Limits::default()), Ok(columns), "another encoding");
}

/// Two bytes are the counts, the rest the columns.
fn arbitrary_columns(data: &[u8]) {
    if let Some((&[rows, flows], raw)) = data.split_first_chunk() {
        accept(&enveloped(rows.into(), flows.into(), raw));
    }
}

/// A valid batch whose columns were changed before compression.
fn changed_columns(data: &[u8]) {
    let Some((&[seed, rows], edits)) = data.split_first_chunk() else { return };
    let valid = valid(seed, rows);
    let raw_bytes = u32::from_le_bytes(valid[9..13].try_into().unwrap());
    let mut raw = zstd::bulk::decompress(&valid[HEADER_BYTES..], raw_bytes as usize).unwrap();
    change(&mut raw, edits);
    let count = |at: usize| u32::from_le_bytes(valid[at..at + 4].try_into().unwrap());
    accept(&enveloped(count(1), count(5), &raw));
}

/// A valid batch that was changed after compression, counts included.
fn changed_bytes(data: &[u8]) {
    let Some((&[seed, rows], edits)) = data.split_first_chunk() else { return };
    let mut encoded = valid(seed, rows);
    change(&mut encoded, edits);
    accept(&sealed(encoded));
}

fn enveloped(rows: u32, flows: u32, raw: &[u8]) -> Vec<u8> {
    // Whatever the encoder's is, so that a new format is fuzzed from its first day.
    let mut bytes = valid(0, 1)[..1].to_vec();
    for count in [rows, flows, raw.len() as u32, 0] {
        bytes.extend_from_slice(&count.to_le_bytes());
    }
    bytes.extend(zstd::bulk::compress(raw, 1).unwrap());
    sealed(bytes)
}

fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..CHECKSUM_AT]);
    hasher.update(&bytes[HEADER_BYTES..]);
    bytes[CHECKSUM_AT..HEADER_BYTES].copy_from_slice(&hasher.finalize().to_le_bytes());
    bytes
}

/// What the encoder makes of `rows` rows of a few flows; checked to come back as they were.
fn valid(seed: u8, rows: u8) -> Vec<u8> {
    let mut columns = Columns::default();
    for row in 0..u32::from(rows) {
        if row < 1 + u32::from(seed % 5) {
            columns.flows.push(flow(row));
        }
        columns.push(&observation(u32::from(seed), row, columns.flows.len() as u32));
    }
    let encoded = Encoder::new().unwrap().encode(&columns).unwrap();
    assert_eq!(decode(&encoded, &Limits::default()), Ok(columns), "a valid batch");
    encoded
}

fn flow(index: u32) -> FlowKey {
    let overlay = Overlay {
        kind: OverlayKind::Vxlan,
        id: index << 8,
        source: [192, 168, 0, 1].into(),
        destination: [0xfd; 16].into(),
        port: 8472,
    };
    FlowKey {
        overlay: (index % 2 == 1).then_some(overlay),
        protocol: if index % 3 == 0 { 17 } else { 6 },
        source_port: index as u16,
        ..FlowKey::UNSPECIFIED
    }
}

/// Columns of every width, some constant, some not, as the bits of `seed` say.
fn observation(seed: u32, row: u32, flows: u32) -> Observation {
    let varied = row.wrapping_mul(seed.wrapping_mul(0x9e37_79b9) | 1);
    let when = |bit: u32| if seed >> bit & 1 == 1 { varied } else { 0 };
    Observation {
        time_nanos: 1_790_000_000_000_000_000 + i64::from(varied),
        flow: row % flows,
        ip_length: when(0) + 28,
        payload_length: when(0),
        ip_id: when(1) as u16,
        outer_ip_id: row as u16,
        ttl: 63,
        tcp_flags: when(2) as u8,
        tcp_seq: when(3),
        tcp_ack: when(4),
        sack_left: when(5),
        transport_hash: u64::from(when(6)) << 20,
        ..Observation::default()
    }
}

fn inputs() -> Vec<(&'static str, Vec<u8>)> {
    let valid = valid(5, 7);
    let raw = zstd::bulk::decompress(&valid[HEADER_BYTES..], 1 << 16).unwrap();
    vec![
        ("whole", [&[0][..], &valid].concat()),
        ("columns", [&[1, 7, 1][..], &raw].concat()),
        ("changed-columns", vec![2, 9, 7, 5, 0, 1]),
        ("changed-bytes", vec![3, 9, 7, 5, 0, 1]),
    ]
}
