//! The spool as a whole, within one process.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use futures_util::FutureExt as _;
use lastseen_proto::v1::ObservationPoint;

use super::*;

mod model;

const NOW: u64 = 9;

fn settings(directory: &Path, max_bytes: u64) -> Settings {
    Settings { directory: directory.join("spool"), max_bytes, fsync: Fsync::Close }
}

fn open_as(directory: &Path, incarnation: u64) -> (Spool, Arc<Metrics>) {
    let metrics = Metrics::registered().0;
    (Spool::open(settings(directory, 1 << 20), incarnation, metrics.clone()).unwrap(), metrics)
}

fn open(directory: &Path) -> Spool {
    open_as(directory, NOW).0
}

fn batch(capture: &str, index: u32, sequence: u64, bytes: usize) -> ObservationBatch {
    let point = ObservationPoint { index, ..Default::default() };
    let key = BatchKey { capture_id: capture.into(), point: Some(point), incarnation: NOW, sequence };
    ObservationBatch { key: Some(key), columns: vec![sequence as u8; bytes].into(), ..Default::default() }
}

fn key(capture: &str, index: u32, sequence: u64) -> BatchKey {
    batch(capture, index, sequence, 0).key.unwrap()
}

/// Everything that waits, in order.
fn all(spool: &Spool) -> Vec<ObservationBatch> {
    let (mut id, mut batches) = (0, Vec::new());
    while let Some((next, capture)) = spool.after(id) {
        let batch = spool.get(next).unwrap().unwrap();
        assert_eq!(batch.key.as_ref().unwrap().capture_id, capture);
        batches.push(batch);
        id = next;
    }
    batches
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let directory = directory.join("spool");
    let numbers = segment::list(&directory).unwrap();
    numbers.into_iter().map(|number| segment::path(&directory, number)).collect()
}

#[test]
fn batches_stay_in_order_until_they_are_settled_and_their_file_with_them() {
    let home = tempfile::tempdir().unwrap();
    let spool = open(home.path());
    let batches: Vec<_> = (0..3).map(|sequence| batch("c", 3, sequence, 10)).collect();
    for batch in &batches {
        assert!(spool.offer(batch.clone(), false));
    }
    assert_eq!(all(&spool), batches);
    assert!(spool.settle(&key("c", 3, 1)));
    assert!(!spool.settle(&key("c", 3, 1)), "settled once");
    assert!(!spool.settle(&BatchKey { incarnation: 8, ..key("c", 3, 0) }), "of another process");
    assert_eq!(all(&spool), [batches[0].clone(), batches[2].clone()]);
    assert_eq!(segments(home.path()).len(), 1);
    assert!(spool.settle(&key("c", 3, 0)) && spool.settle(&key("c", 3, 2)));
    assert_eq!((spool.waiting(), segments(home.path())), ((0, 0), vec![]));
    assert!(spool.offer(batches[0].clone(), false));
    assert_eq!(all(&spool), batches[..1]);
}

#[test]
fn a_restart_finds_what_waits_under_its_own_key_before_anything_new() {
    let home = tempfile::tempdir().unwrap();
    let spool = open(home.path());
    let old: Vec<_> = (0..4).map(|sequence| batch("c", 3, sequence, 300)).collect();
    for batch in &old {
        assert!(spool.offer(batch.clone(), false));
    }
    let other = batch("settled", 3, 0, 300);
    assert!(spool.offer(other.clone(), false) && spool.settle(&other.key.unwrap()));
    drop(spool);
    let (spool, metrics) = open_as(home.path(), NOW + 1);
    let mut new = batch("c", 3, 0, 10);
    new.key.as_mut().unwrap().incarnation = NOW + 1;
    assert!(spool.offer(new.clone(), false));
    assert_eq!(all(&spool), [old.clone(), vec![new]].concat());
    assert_eq!(metrics.spool_recovered_batches.get(), 4);
    let left =
        SpooledPoint { capture_id: "c".into(), incarnation: NOW, point: key("c", 3, 0).point, batches: 4 };
    assert_eq!(spool.left(), [left]);
    assert_eq!(metrics.spool_damaged_records.get(), 0);
    for batch in &old {
        assert!(spool.settle(batch.key.as_ref().unwrap()));
    }
    assert_eq!((spool.waiting().0, segments(home.path()).len()), (1, 1));
    assert_eq!(spool.left(), []);
}

#[test]
fn room_is_bounded_on_the_disk_and_comes_back() {
    let home = tempfile::tempdir().unwrap();
    let spool = open(home.path());
    let mut taken = 0;
    while spool.offer(batch("c", 3, taken, 60_000), false) {
        taken += 1;
    }
    let on_disk = || segments(home.path()).iter().map(|path| path.metadata().unwrap().len()).sum::<u64>();
    assert!((1 << 20) - 61_000 < on_disk() && on_disk() <= 1 << 20, "{taken} batches, {} bytes", on_disk());
    assert_eq!(on_disk(), spool.waiting().1);
    assert!(!spool.has_room(64 << 10));
    let last = batch("c", 3, taken, 100_000);
    assert!(spool.offer(last.clone(), true), "the last slice of a point is kept, in memory");
    assert_eq!(all(&spool).last(), Some(&last));
    for sequence in 0..taken / 2 {
        assert!(spool.settle(&key("c", 3, sequence)));
    }
    assert!(spool.has_room(300_000) && on_disk() == spool.waiting().1);
    assert!(spool.offer(batch("c", 3, taken + 1, 60_000), false));
    spool.forget("other");
    assert_eq!(spool.waiting().0 as u64, taken - taken / 2 + 2);
    spool.forget("c");
    assert_eq!((spool.waiting(), segments(home.path())), ((0, 0), vec![]));
}

#[test]
fn many_small_batches_do_not_fill_memory() {
    let home = tempfile::tempdir().unwrap();
    let spool = open(home.path());
    let all = 0..1 << 20;
    let taken = all.take_while(|sequence| spool.offer(batch("c", 3, *sequence, 0), false)).count();
    assert_eq!(taken, 1 << 10);
}

#[test]
fn a_directory_serves_one_agent_at_a_time_and_nobody_else_reads_it() {
    let home = tempfile::tempdir().unwrap();
    let spool = open(home.path());
    assert!(spool.offer(batch("c", 3, 0, 10), false));
    let again = Spool::open(settings(home.path(), 1 << 20), 1, Metrics::registered().0);
    let directory = home.path().join("spool");
    assert_eq!(
        again.err().unwrap().to_string(),
        format!(
            "spool-dir: {} is in use by another agent, process {}; stop that one, or give this one a --spool-dir of \
             its own",
            directory.display(),
            std::process::id()
        )
    );
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&directory), mode(&segments(home.path())[0])), (0o700, 0o600));
    drop(spool);
    assert_eq!(open(home.path()).waiting().0, 1);
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("spool"), b"").unwrap();
    let opened = Spool::open(settings(home.path(), 1 << 20), 1, Metrics::registered().0);
    let error = opened.err().unwrap().to_string();
    let directory = home.path().join("spool").display().to_string();
    assert!(error.contains(&directory) && error.ends_with("with --spool-dir"), "{error}");
}

#[test]
fn a_damaged_record_is_counted_and_the_others_go_on() {
    let home = tempfile::tempdir().unwrap();
    let spool = open(home.path());
    for sequence in 0..5 {
        assert!(spool.offer(batch("c", 3, sequence, 100), false));
    }
    drop(spool);
    let path = &segments(home.path())[0];
    let mut bytes = std::fs::read(path).unwrap();
    let record = (bytes.len() - record::FILE_MAGIC.len()) / 5;
    bytes[record::FILE_MAGIC.len() + record + 40] ^= 1;
    bytes.truncate(bytes.len() - 1);
    std::fs::write(path, bytes).unwrap();
    let (spool, metrics) = open_as(home.path(), NOW + 1);
    let sequences: Vec<_> = all(&spool).into_iter().map(|batch| batch.key.unwrap().sequence).collect();
    assert_eq!(sequences, [0, 2, 3]);
    assert_eq!(metrics.spool_damaged_records.get(), 2);
    spool.forget("c");
    assert_eq!(segments(home.path()), Vec::<PathBuf>::new());
}

#[test]
fn a_record_that_is_damaged_while_it_waits_is_given_up() {
    let home = tempfile::tempdir().unwrap();
    let (spool, metrics) = open_as(home.path(), NOW);
    for sequence in 0..2 {
        assert!(spool.offer(batch("c", 3, sequence, 100), false));
    }
    let path = &segments(home.path())[0];
    let mut bytes = std::fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(path, bytes).unwrap();
    let (first, _) = spool.after(0).unwrap();
    let (second, _) = spool.after(first).unwrap();
    assert_eq!(spool.get(first).unwrap(), Some(batch("c", 3, 0, 100)));
    assert_eq!(spool.get(second).unwrap(), None);
    assert_eq!((spool.waiting().0, metrics.spool_damaged_records.get()), (1, 1));
    assert!(spool.settle(&key("c", 3, 0)));
    assert_eq!(spool.get(first).unwrap(), None);
    assert_eq!(metrics.spool_damaged_records.get(), 1, "settled is not damaged");
}

#[test]
fn a_record_that_cannot_be_read_at_the_moment_is_kept() {
    let home = tempfile::tempdir().unwrap();
    let (spool, metrics) = open_as(home.path(), NOW);
    assert!(spool.offer(batch("c", 3, 0, 100), false));
    let (file, aside) = (segments(home.path()).remove(0), home.path().join("aside"));
    std::fs::rename(&file, &aside).unwrap();
    std::fs::create_dir(&file).unwrap();
    let (id, _) = spool.after(0).unwrap();
    assert_eq!(spool.get(id).unwrap_err().kind(), io::ErrorKind::IsADirectory);
    assert_eq!((spool.waiting().0, metrics.spool_damaged_records.get()), (1, 0));
    assert_eq!((spool.capture_of(id).as_deref(), spool.capture_of(id + 1)), (Some("c"), None));
    std::fs::remove_dir(&file).unwrap();
    assert_eq!(spool.get(id).unwrap(), None, "gone for good");
    assert_eq!((spool.waiting().0, metrics.spool_damaged_records.get()), (0, 1));
}

#[test]
fn what_was_kept_in_memory_outlives_the_process_if_there_is_room_in_the_end() {
    let home = tempfile::tempdir().unwrap();
    let spool = open(home.path());
    let taken = (0..1 << 10)
        .take_while(|sequence| spool.offer(batch("c", 3, *sequence, 60_000), false))
        .count() as u64;
    let last = [batch("c", 4, 0, 60_000), batch("c", 5, 0, 60_000)];
    for batch in &last {
        assert!(spool.offer(batch.clone(), true));
    }
    assert_eq!(spool.keep(), 2, "no room");
    // A segment of them.
    for sequence in 0..3 {
        assert!(spool.settle(&key("c", 3, sequence)));
    }
    assert_eq!(spool.keep(), 0);
    assert_eq!(spool.waiting().0 as u64, taken - 3 + 2);
    drop(spool);
    let spool = open(home.path());
    let found = all(&spool);
    assert!(last.iter().all(|batch| found.contains(batch)));
    for batch in &found {
        assert!(spool.settle(batch.key.as_ref().unwrap()));
    }
    assert_eq!((spool.waiting(), segments(home.path())), ((0, 0), vec![]));
}

#[test]
fn a_segment_without_a_record_is_not_left() {
    let home = tempfile::tempdir().unwrap();
    let batch = batch("c", 3, 0, 100_000);
    // Room for the record, and none for the head of a file besides.
    let max_bytes = record::encode(&batch).unwrap().len() as u64;
    let spool = Spool::open(settings(home.path(), max_bytes), NOW, Metrics::registered().0).unwrap();
    assert!(!spool.offer(batch, false));
    assert_eq!((spool.waiting(), segments(home.path())), ((0, 0), vec![]));
}

#[test]
fn files_without_use_are_removed_and_foreign_ones_left_alone() {
    let home = tempfile::tempdir().unwrap();
    drop(open(home.path()));
    let directory = home.path().join("spool");
    let make = |name: &str, bytes: &[u8]| std::fs::write(directory.join(name), bytes).unwrap();
    make("0000000000000001.seg", b"");
    make("0000000000000002.seg", b"LSS");
    make("0000000000000003.seg", &[record::FILE_MAGIC.as_slice(), &[7; 900]].concat());
    make("0000000000000004.seg", b"LSSPOOL\x02 of a later version");
    make("5.seg", b"");
    make("notes.txt", b"");
    std::os::unix::fs::symlink("/dev/zero", directory.join("0000000000000006.seg")).unwrap();
    let (spool, metrics) = open_as(home.path(), NOW);
    let mut names: Vec<_> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["0000000000000004.seg", "0000000000000006.seg", "5.seg", "lock", "notes.txt"]);
    let left_alone = ["0000000000000004.seg", "0000000000000006.seg"];
    let bytes = left_alone.map(|name| directory.join(name).symlink_metadata().unwrap().len()).iter().sum();
    assert_eq!((metrics.spool_damaged_records.get(), spool.waiting()), (3, (0, bytes)));
    assert!(spool.offer(batch("c", 3, 0, 10), false));
    assert!(directory.join("0000000000000007.seg").exists(), "numbers go on");
}

#[test]
fn a_smaller_limit_keeps_what_is_there() {
    let home = tempfile::tempdir().unwrap();
    let spool = open(home.path());
    for sequence in 0..10 {
        assert!(spool.offer(batch("c", 3, sequence, 10_000), false));
    }
    drop(spool);
    let spool = Spool::open(settings(home.path(), 50_000), 1, Metrics::registered().0).unwrap();
    assert_eq!(all(&spool).len(), 10);
    assert!(!spool.has_room(1));
}

#[test]
fn a_spool_says_why_it_takes_nothing_and_stops_saying_so_when_it_is_emptied() {
    let home = tempfile::tempdir().unwrap();
    let spool = Spool::open(settings(home.path(), 1 << 20), NOW, Metrics::registered().0).unwrap();
    assert_eq!(spool.trouble(), None);
    let mut sequence = 0;
    while spool.offer(batch("c", 3, sequence, 60_000), false) {
        sequence += 1;
    }
    assert!(spool.trouble().unwrap().contains("--spool-max-bytes"));
    spool.forget("c");
    assert_eq!(spool.trouble(), None);
    std::fs::remove_dir_all(home.path().join("spool")).unwrap();
    assert!(spool.trouble().unwrap().contains("cannot write to"));
}

#[test]
fn a_capture_is_delivered_when_nothing_of_it_waits() {
    let home = tempfile::tempdir().unwrap();
    let spool = open(home.path());
    let is_delivered = |capture: &str| spool.delivered(capture).now_or_never().is_some();
    for (capture, sequence) in [("c", 0), ("c", 1), ("other", 0)] {
        assert!(spool.offer(batch(capture, 3, sequence, 10), false));
    }
    let mut waiting = std::pin::pin!(spool.delivered("c"));
    assert!(waiting.as_mut().now_or_never().is_none());
    assert!(spool.settle(&key("c", 3, 0)));
    assert!(waiting.as_mut().now_or_never().is_none(), "one of two");
    assert!(spool.settle(&key("c", 3, 1)));
    assert!(waiting.now_or_never().is_some());
    assert!(is_delivered("c") && !is_delivered("other"));
    spool.forget("other");
    assert!(is_delivered("other"));
}

#[test]
fn the_oldest_batch_is_as_old_as_its_file_after_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let spool = open(home.path());
    assert_eq!(spool.oldest(), Duration::ZERO);
    assert!(spool.offer(batch("c", 3, 0, 10), false));
    assert!(spool.oldest() < Duration::from_hours(1));
    drop(spool);
    let written = SystemTime::now() - Duration::from_hours(2);
    let file = std::fs::File::options().write(true).open(&segments(home.path())[0]).unwrap();
    file.set_modified(written).unwrap();
    let spool = open(home.path());
    assert!(spool.oldest() >= Duration::from_hours(2));
    assert!(spool.settle(&key("c", 3, 0)));
    assert_eq!(spool.oldest(), Duration::ZERO);
}

#[test]
fn threads_that_write_at_once_disturb_each_other_nowhere() {
    const BATCHES: u64 = 40;
    let home = tempfile::tempdir().unwrap();
    let spool = open(home.path());
    std::thread::scope(|scope| {
        for index in 0..8 {
            let spool = &spool;
            scope.spawn(move || {
                for sequence in 0..BATCHES {
                    let capture = format!("c-{}", index % 3);
                    assert!(spool.offer(batch(&capture, index, sequence, 500), false));
                    if sequence % 2 == 1 {
                        assert!(spool.settle(&key(&capture, index, sequence)));
                    }
                }
            });
        }
    });
    drop(spool);
    let mut sequences: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for found in all(&open(home.path())) {
        let key = found.key.clone().unwrap();
        let index = key.point.unwrap().index;
        assert_eq!(found, batch(&key.capture_id, index, key.sequence, 500));
        sequences.entry(index).or_default().push(key.sequence);
    }
    for index in 0..8 {
        let kept: Vec<_> = sequences[&index].iter().copied().filter(|sequence| sequence % 2 == 0).collect();
        assert_eq!(kept, (0..BATCHES).step_by(2).collect::<Vec<_>>());
        assert!(sequences[&index].is_sorted());
    }
}
