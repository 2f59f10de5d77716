//! Observation files whose bytes were changed, and records of arbitrary contents under a right checksum, through the
//! coordinator's reader and what a correlation run does with what it reads.

#![no_main]

mod common;
#[path = "observation_file/files.rs"]
mod files;
#[path = "../../coordinator/src/limits.rs"]
#[allow(dead_code, unused_imports, reason = "the coordinator uses more of it")]
mod limits;
#[path = "../../coordinator/src/model.rs"]
#[allow(dead_code, reason = "the coordinator uses more of it")]
mod model;

/// What of the store the files need.
mod store {
    /// As the store has it.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Location {
        pub file: String,
        pub position: u64,
        pub length: u32,
        pub checksum: u32,
    }
}

use std::path::Path;

use common::{change, planted, scratch, seeds};
use files::FileError;
use lastseen_packet::observation::{Columns, FlowKey, Observation};
use lastseen_proto::batch::{BatchError, Encoder, Limits, decode};
use lastseen_proto::v1;
use libfuzzer_sys::fuzz_target;
use model::{BatchKey, CheckedBatch, Point, PointKey};
use prost::Message;
use store::Location;

const CAPTURE: &str = "c-fuzz";

fuzz_target!(init: seeds(inputs()), |data: &[u8]| {
    let Some((&how, data)) = data.split_first() else { return };
    let directory = scratch().join("observations");
    std::fs::create_dir_all(&directory).unwrap();
    match how % 3 {
        0 => changed_file(&directory, data),
        1 => changed_location(&directory, data),
        _ => arbitrary_record(&directory, data),
    }
    std::fs::remove_dir_all(&directory).unwrap();
});

/// Three records, read back after bytes of their file were changed and its end was cut off.
fn changed_file(directory: &Path, data: &[u8]) {
    let Some((&cut, edits)) = data.split_first() else { return };
    let written = [message(1), message(2), message(3)];
    let places = append(directory, &written);
    let path = directory.join(CAPTURE).join(&places[0].file);
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes, edits);
    bytes.truncate(bytes.len() - usize::from(cut).min(bytes.len()));
    std::fs::write(&path, bytes).unwrap();
    for (read, written) in files::read(directory, CAPTURE, &places).iter().zip(&written) {
        if let Ok(bytes) = read {
            assert_eq!(bytes, written, "damage was read as if it had been written");
        }
    }
}

/// Places that no record was committed at.
fn changed_location(directory: &Path, data: &[u8]) {
    let Some((numbers, _)) = data.split_first_chunk::<16>() else { return };
    let written = [message(1), message(2)];
    let sound = append(directory, &written);
    let place = Location {
        file: sound[0].file.clone(),
        position: u64::from_le_bytes(numbers[..8].try_into().unwrap()),
        length: u32::from_le_bytes(numbers[8..12].try_into().unwrap()),
        checksum: u32::from_le_bytes(numbers[12..].try_into().unwrap()),
    };
    match files::read(directory, CAPTURE, std::slice::from_ref(&place)).remove(0) {
        Ok(_) => assert!(sound.contains(&place), "{place:?} was never committed"),
        Err(FileError::Corrupt { position, .. }) => assert_eq!(position, place.position),
        Err(_) => {}
    }
}

/// What an agent could have had stored, as a run reads it.
fn arbitrary_record(directory: &Path, contents: &[u8]) {
    let places = append(directory, &[contents.to_vec()]);
    let read = files::read(directory, CAPTURE, &places).remove(0).unwrap();
    assert_eq!(read, contents);
    let Ok(message) = v1::ObservationBatch::decode(read) else { return };
    let columns = decode(&message.columns, &Limits::default());
    let shift = lastseen_proto::convert::to_coordinator_nanos(&message, i64::MAX);
    let _ = lastseen_proto::convert::slice(&message, shift);
    let _ = lastseen_proto::convert::threshold(&message).interval();
    if let Some(point) = message.key.as_ref().and_then(|key| key.point.as_ref()) {
        let _ = lastseen_proto::convert::point(0, point);
    }
    planted(|| columns == Err(BatchError::Checksum) && message.key.is_some());
}

fn append(directory: &Path, contents: &[Vec<u8>]) -> Vec<Location> {
    let batches: Vec<_> = contents.iter().zip(0..).map(|(bytes, sequence)| batch(sequence, bytes)).collect();
    files::append(directory, CAPTURE, &batches)
}

fn batch(sequence: u64, contents: &[u8]) -> CheckedBatch {
    let point = PointKey { netns: String::new(), interface: "eth0".into(), index: 2, direction: 1 };
    CheckedBatch {
        key: BatchKey {
            capture: CAPTURE.into(),
            node: "node-a".into(),
            point: point.clone(),
            incarnation: 1,
            sequence,
        },
        point: Point { key: point, kind: 5, mtu: 1500, gso_known: true },
        bytes: contents.to_vec().into(),
        checksum: crc32fast::hash(contents),
        rows: 1,
        slice_nanos: [0; 2],
    }
}

/// A batch of one row.
fn whole(seed: u8) -> v1::ObservationBatch {
    let mut columns = Columns { flows: vec![FlowKey::UNSPECIFIED], ..Columns::default() };
    columns.push(&Observation { time_nanos: seed.into(), ..Observation::default() });
    let point =
        v1::ObservationPoint { interface: "eth0".into(), index: 2, direction: 1, ..Default::default() };
    let key = v1::BatchKey { capture_id: CAPTURE.into(), point: Some(point), ..Default::default() };
    v1::ObservationBatch {
        key: Some(key),
        rows: 1,
        columns: Encoder::new().unwrap().encode(&columns).unwrap().into(),
        ..Default::default()
    }
}

fn message(seed: u8) -> Vec<u8> {
    whole(seed).encode_to_vec()
}

fn inputs() -> Vec<(&'static str, Vec<u8>)> {
    let record = |change: &dyn Fn(&mut v1::ObservationBatch)| {
        let mut batch = whole(1);
        change(&mut batch);
        [&[2][..], &batch.encode_to_vec()].concat()
    };
    let drops = v1::PointCounters { agent_drops: 9, ..Default::default() };
    vec![
        ("changed", vec![0, 0, 30, 0, 1]),
        ("cut", vec![0, 20]),
        ("elsewhere", [&[1][..], &8_u64.to_le_bytes(), &[7; 8]].concat()),
        ("whole", record(&|_| {})),
        ("sampled", record(&|batch| batch.sampling_threshold = Some(u64::MAX / 2))),
        ("dropped", record(&|batch| batch.counters = Some(drops))),
    ]
}
