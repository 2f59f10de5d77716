//! Spool segments that another process left, or somebody else put there, through the agent's start: whatever they hold,
//! it starts, finds the sound records and counts the damaged ones.

#![no_main]

mod common;
#[path = "spool_segment/metrics.rs"]
mod metrics;
#[path = "../../node-agent/src/spool/mod.rs"]
#[allow(dead_code, reason = "the agent uses more of it")]
mod spool;

use std::path::Path;
use std::sync::Arc;

use common::{change, planted, scratch, seeds};
use lastseen_proto::v1::{BatchKey, ObservationBatch, ObservationPoint};
use libfuzzer_sys::fuzz_target;
use metrics::Metrics;
use prost::Message;
use spool::{Fsync, Settings, Spool};

const FILE_MAGIC: &[u8; 8] = b"LSSPOOL\x01";
const MAGIC: &[u8; 4] = b"LSBR";
const HEADER_BYTES: usize = 16;
/// A record takes at least as many bytes.
const LEAST_RECORD: usize = HEADER_BYTES;

fuzz_target!(init: seeds(segments()), |data: &[u8]| {
    let Some((&how, data)) = data.split_first() else { return };
    let segment = match how % 3 {
        0 => data.to_vec(),
        1 => {
            let mut segment = sound();
            change(&mut segment, data);
            segment
        }
        _ => resealed(data),
    };
    start(&segment);
});

/// Starts an agent's spool on one segment, and reads all of it.
fn start(segment: &[u8]) {
    let directory = scratch().join("spool");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("0000000000000001.seg"), segment).unwrap();
    let metrics = Arc::new(Metrics::default());
    read_all(&directory, segment, metrics);
    std::fs::remove_dir_all(&directory).unwrap();
}

fn read_all(directory: &Path, segment: &[u8], metrics: Arc<Metrics>) {
    let settings = Settings { directory: directory.to_owned(), max_bytes: 1 << 20, fsync: Fsync::Never };
    let spool = Spool::open(settings, 9, metrics.clone()).expect("the agent starts");
    let (mut id, mut found) = (0, Vec::new());
    while let Some((next, capture)) = spool.after(id) {
        let batch = spool.get(next).unwrap().expect("a record that was sound a moment ago");
        assert_eq!(batch.key.as_ref().unwrap().capture_id, capture);
        found.push(batch);
        id = next;
    }
    assert!(found.len() <= segment.len() / LEAST_RECORD, "{} of {} bytes", found.len(), segment.len());
    assert_eq!(found.len(), spool.waiting().0);
    let damaged = metrics.spool_damaged_records.get();
    planted(|| damaged > 1 && found.len() == 1 && found[0].rows > 0);
    for batch in &found {
        assert!(spool.settle(batch.key.as_ref().unwrap()), "{:?}", batch.key);
    }
    // What is not of this version stays, with its bytes.
    let begun = segment.len().min(FILE_MAGIC.len());
    let left = if segment[..begun] == FILE_MAGIC[..begun] { 0 } else { segment.len() as u64 };
    assert_eq!(spool.waiting(), (0, left), "what is settled goes");
}

/// Each part behind a length byte becomes the body of a record, under right checksums.
fn resealed(mut data: &[u8]) -> Vec<u8> {
    let mut segment = FILE_MAGIC.to_vec();
    while let Some((&length, rest)) = data.split_first() {
        let (body, rest) = rest.split_at(usize::from(length).min(rest.len()));
        segment.extend(record(body));
        data = rest;
    }
    segment
}

fn record(body: &[u8]) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.extend((body.len() as u32).to_le_bytes());
    header.extend(crc32fast::hash(body).to_le_bytes());
    header.extend(crc32fast::hash(&header).to_le_bytes());
    [&header, body].concat()
}

fn body(sequence: u64, rows: u32) -> Vec<u8> {
    let point = ObservationPoint { interface: "eth0".into(), index: 2, direction: 1, ..Default::default() };
    let key = BatchKey { capture_id: "c-fuzz".into(), point: Some(point), incarnation: 7, sequence };
    ObservationBatch { key: Some(key), rows, ..Default::default() }.encode_to_vec()
}

/// Three records.
fn sound() -> Vec<u8> {
    (0..3).fold(FILE_MAGIC.to_vec(), |segment, sequence| [segment, record(&body(sequence, 0))].concat())
}

fn segments() -> Vec<(&'static str, Vec<u8>)> {
    let bodies = |bodies: &[Vec<u8>]| {
        let each = bodies.iter().map(|body| [&[body.len() as u8][..], body].concat());
        [vec![2], each.collect::<Vec<_>>().concat()].concat()
    };
    vec![
        ("sound", [vec![0], sound()].concat()),
        ("torn", [vec![0], sound()[..60].to_vec()].concat()),
        ("changed", vec![1, 40, 0, 1]),
        ("bodies", bodies(&[body(0, 5), body(1, 6)])),
        ("no-batch", bodies(&[body(0, 0), vec![0xff, 0xff, 0xff]])),
    ]
}
