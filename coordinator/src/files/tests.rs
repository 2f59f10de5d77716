use std::collections::BTreeSet;

use super::*;
use crate::model::{BatchKey, CheckedBatch, Point, PointKey};

fn batch(capture: &str, sequence: u64, contents: &[u8]) -> CheckedBatch {
    let point = PointKey { netns: String::new(), interface: "eth0".into(), index: 2, direction: 1 };
    CheckedBatch {
        key: BatchKey {
            capture: capture.into(),
            node: "node-a".into(),
            point: point.clone(),
            incarnation: 1,
            sequence,
        },
        point: Point { key: point, kind: 5, mtu: 1500, gso_known: true },
        bytes: contents.to_vec().into(),
        checksum: crc32fast::hash(contents),
        rows: 1,
    }
}

#[test]
fn groups_of_several_captures_are_read_back() {
    let home = tempfile::tempdir().unwrap();
    let directory = prepare(home.path()).unwrap();
    let mut appender = Appender::new(directory.clone());
    let first = appender.append(&[batch("c-1", 0, b"one"), batch("c-2", 0, b"two")]).unwrap();
    let second = appender.append(&[batch("c-1", 1, b"three")]).unwrap();
    let mut reader = Reader::new(&directory, "c-1");
    assert_eq!(reader.read(&first[0]).unwrap(), b"one");
    assert_eq!(reader.read(&second[0]).unwrap(), b"three");
    assert_eq!(Reader::new(&directory, "c-2").read(&first[1]).unwrap(), b"two");
}

#[test]
fn another_process_never_appends_to_an_old_file() {
    let home = tempfile::tempdir().unwrap();
    let directory = prepare(home.path()).unwrap();
    let old = Appender::new(directory.clone()).append(&[batch("c-1", 0, b"old")]).unwrap();
    let new = Appender::new(directory).append(&[batch("c-1", 1, b"new")]).unwrap();
    assert_ne!(old[0].file, new[0].file);
}

#[test]
fn damage_names_file_and_offset() {
    let home = tempfile::tempdir().unwrap();
    let directory = prepare(home.path()).unwrap();
    let places = Appender::new(directory.clone()).append(&[batch("c-1", 0, b"a"), batch("c-1", 1, b"bcd")]);
    let places = places.unwrap();
    let path = directory.join("c-1").join(&places[1].file);
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let mut reader = Reader::new(&directory, "c-1");
    assert_eq!(reader.read(&places[0]).unwrap(), b"a");
    let error = reader.read(&places[1]).unwrap_err().to_string();
    assert!(error.contains("000000.obs, offset 17: checksum mismatch"), "{error}");
    std::fs::write(&path, &bytes[..20]).unwrap();
    let error = Reader::new(&directory, "c-1").read(&places[1]).unwrap_err().to_string();
    assert!(error.contains("ends inside"), "{error}");
    std::fs::write(&path, b"something else").unwrap();
    assert!(Reader::new(&directory, "c-1").read(&places[0]).unwrap_err().to_string().contains("offset 0"));
}

#[test]
fn files_without_a_row_are_collected() {
    let home = tempfile::tempdir().unwrap();
    let directory = prepare(home.path()).unwrap();
    let mut appender = Appender::new(directory.clone());
    let places = appender.append(&[batch("c-1", 0, b"keep"), batch("c-2", 0, b"drop")]).unwrap();
    let known = BTreeSet::from([("c-1".to_owned(), places[0].file.clone())]);
    assert_eq!(collect(&directory, &known).unwrap(), 1);
    assert!(directory.join("c-1").exists() && !directory.join("c-2").exists());
}
