//! What each policy of the spool has the kernel bring to the disk, as a trace of its calls shows.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use lastseen_node_agent::metrics::Metrics;
use lastseen_node_agent::spool::{Fsync, Settings, Spool};
use lastseen_proto::v1::{BatchKey, ObservationBatch, ObservationPoint};

/// Tells a child what to do: `policy batches directory`.
const VARIABLE: &str = "SPOOL_SYNC";

fn main() {
    match std::env::var(VARIABLE) {
        Ok(task) => fill(&task),
        Err(_) => every_policy_syncs_what_it_says(),
    }
}

/// A child: writes batches of half a MiB and ends in order.
fn fill(task: &str) {
    let [policy, count, directory] = task.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{task}") };
    let fsync = match policy {
        "never" => Fsync::Never,
        "close" => Fsync::Close,
        "batch" => Fsync::Batch,
        _ => panic!("{task}"),
    };
    let settings = Settings { directory: directory.into(), max_bytes: 1 << 28, fsync };
    let spool = Spool::open(settings, 1, Metrics::registered().0).unwrap();
    for sequence in 0..count.parse().unwrap() {
        let point = Some(ObservationPoint::default());
        let key = BatchKey { capture_id: "c-1".into(), point, incarnation: 1, sequence };
        let columns = vec![7; 1 << 19].into();
        assert!(spool.offer(ObservationBatch { key: Some(key), columns, ..Default::default() }, false));
    }
}

/// Names below the spool of what was synced, with how many segments there are in the end.
#[allow(clippy::disallowed_methods)] // This test itself.
fn synced(policy: &str, batches: u64) -> (BTreeSet<String>, usize) {
    let home = tempfile::tempdir().unwrap();
    let (trace, spool) = (home.path().join("trace"), home.path().join("spool"));
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-e", "trace=fsync,fdatasync", "-o"]).arg(&trace);
    command.arg(std::env::current_exe().unwrap());
    let status = command.env(VARIABLE, format!("{policy} {batches} {}", spool.display())).status().unwrap();
    assert!(status.success(), "{status}");
    let trace = std::fs::read_to_string(trace).unwrap();
    let file =
        |line: &str| Some(line.split_once("sync(")?.1.split_once('<')?.1.split_once('>')?.0.to_owned());
    let name =
        |path: String| Path::new(&path).strip_prefix(&spool).ok().map(|name| name.display().to_string());
    let segments = std::fs::read_dir(&spool).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name != "lock"
    });
    (trace.lines().filter_map(file).filter_map(name).collect(), segments.count())
}

fn every_policy_syncs_what_it_says() {
    // An open segment, and one that is full beside an open one.
    for (batches, segments) in [(1, 1), (17, 2)] {
        for (policy, expected) in [("never", 0), ("close", segments - 1), ("batch", segments)] {
            let (names, found) = synced(policy, batches);
            let is_directory_synced = names.contains("");
            let files = names.len() - usize::from(is_directory_synced);
            assert_eq!((files, found), (expected, segments), "{policy}, {batches} batches: {names:?}");
            assert_eq!(is_directory_synced, expected > 0, "{policy}, {batches} batches: {names:?}");
        }
    }
    println!("never, close and batch sync what they say");
}
