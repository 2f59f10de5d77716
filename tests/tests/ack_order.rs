//! What is on stable storage before a batch is acknowledged, as the kernel saw it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lastseen_tests::faults::fleet::{Fleet, Setup};
use lastseen_tests::faults::tap::Name;

/// Every sync takes so much longer: whoever does not wait for it is early by that.
const DELAY_NANOS: i64 = 20_000_000;

/// When the syncs of files with this suffix were asked for, nanoseconds since 1970.
fn syncs(trace: &str, suffix: &str) -> BTreeSet<i64> {
    let of_file = format!("{suffix}>");
    let begun = trace.lines().filter(|line| line.contains("sync(") && line.contains(&of_file));
    let time = |line: &str| {
        let (seconds, micros) = line.split_whitespace().nth(1)?.split_once('.')?;
        Some(seconds.parse::<i64>().ok()? * 1_000_000_000 + micros.parse::<i64>().ok()? * 1_000)
    };
    begun.map(|line| time(line).unwrap_or_else(|| panic!("{line}"))).collect()
}

/// Whether a file and then the database were synced between the arrival of a batch and its acknowledgement. No other
/// batch is under way then: the file is its own.
fn is_in_order(files: &BTreeSet<i64>, database: &BTreeSet<i64>, (sent, acked): (i64, i64)) -> bool {
    let file = files.range(sent..).next();
    let then = file.and_then(|file| database.range(file + DELAY_NANOS..).next());
    then.is_some_and(|then| then + DELAY_NANOS <= acked)
}

fn whole_second_ahead() -> SystemTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UNIX_EPOCH + Duration::from_secs(since.as_secs() + 4)
}

/// The trace of a coordinator through one capture, and when each batch was sent and acknowledged.
async fn traced(trace: &Path) -> Vec<(Name, (i64, i64))> {
    let delay = format!("inject=fsync,fdatasync:delay_exit={}", DELAY_NANOS / 1_000);
    let mut setup = Setup::new(1);
    let flags = ["strace", "-D", "-f", "-ttt", "-y", "-e", "trace=fsync,fdatasync", "-e", &delay, "-o"];
    setup.wrapper = flags.map(str::to_owned).to_vec();
    setup.wrapper.push(trace.display().to_string());
    let fleet = Fleet::start(setup).await.unwrap();
    fleet.coordinators[0].tap.one_at_a_time();
    let window = Duration::from_secs(1);
    let capture = fleet.client().start(2, whole_second_ahead(), window).await.unwrap();
    fleet.client().ended(&capture).await.unwrap_or_else(|error| panic!("{error:#}\n{}", fleet.logs()));
    let seen = fleet.seen.witnessed(&capture);
    seen.acked.into_iter().map(|(name, acked)| (name.clone(), (seen.sent[&name], acked))).collect()
}

#[test]
fn every_batch_is_synced_in_its_file_and_then_in_the_database_before_it_is_acknowledged() {
    let home = tempfile::tempdir().unwrap();
    let trace = home.path().join("trace");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let batches = runtime.block_on(traced(&trace));
    let trace = std::fs::read_to_string(trace).unwrap();
    let (files, database) = (syncs(&trace, ".obs"), syncs(&trace, "lastseen.db-wal"));
    assert!(batches.len() > 50 && files.len() > 3, "{} batches, {} syncs", batches.len(), files.len());
    let early: Vec<_> = batches.iter().filter(|(_, times)| !is_in_order(&files, &database, *times)).collect();
    assert!(
        early.is_empty(),
        "{} of {} acknowledged too early, one is {:?}",
        early.len(),
        batches.len(),
        early[0]
    );
}
