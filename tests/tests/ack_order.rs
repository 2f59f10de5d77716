//! What is on stable storage before a batch is acknowledged, as the kernel saw it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use lastseen_tests::faults::fleet::{Fleet, Setup};
use lastseen_tests::faults::postgres::Server;
use lastseen_tests::faults::strike::next_second;
use lastseen_tests::faults::tap::Name;
use lastseen_tests::product::process::Process;
use nix::unistd::Pid;

/// Traces, by who is traced.
const COORDINATOR: &str = "coordinator";
const DATABASE: [&str; 2] = ["database", "its-processes"];
/// What does not happen within this time does not happen.
const PATIENCE: Duration = Duration::from_mins(1);
/// Until every node is armed, with every sync slowed down.
const AHEAD: Duration = Duration::from_secs(3);
/// Every sync takes so much longer: whoever does not wait for it is early by that.
const DELAY_NANOS: i64 = 20_000_000;

/// When the syncs of files of this name were asked for, nanoseconds since 1970.
fn syncs(trace: &Path, name: &str) -> BTreeSet<i64> {
    let trace = std::fs::read_to_string(trace).unwrap();
    let begun = trace.lines().filter(|line| line.contains("sync(") && line.contains(name));
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

/// To trace syncs into a file, and to have them take longer.
fn strace(trace: &Path) -> Vec<String> {
    let delay = format!("inject=fsync,fdatasync:delay_exit={}", DELAY_NANOS / 1_000);
    let flags = ["strace", "-f", "-ttt", "-y", "-e", "trace=fsync,fdatasync", "-e", &delay, "-o"];
    flags.map(str::to_owned).into_iter().chain([trace.display().to_string()]).collect()
}

/// Whether somebody traces a process; absent if it is gone.
fn is_traced(pid: Pid) -> Option<bool> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|by| by.trim() != "0")))
}

/// Traces these processes, and those that they start, from now on.
#[allow(clippy::disallowed_methods, reason = "the tracer is a program")]
fn watch(processes: &[Pid], trace: &Path) -> Process {
    let words = strace(trace);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).args(processes.iter().flat_map(|pid| ["-p".to_owned(), pid.to_string()]));
    let tracer = Process::start_here(command, &trace.with_extension("log")).unwrap();
    let started = Instant::now();
    while processes.iter().any(|&pid| is_traced(pid) == Some(false)) {
        assert!(started.elapsed() < PATIENCE, "{}", tracer.tail());
        std::thread::sleep(Duration::from_millis(10));
    }
    tracer
}

/// Traces a database: first who starts the others, then those that were there before.
fn watch_all(server: &Server, home: &Path) -> [Process; 2] {
    let first = watch(&[server.process()], &home.join(DATABASE[0]));
    let others: Vec<_> =
        server.processes().into_iter().filter(|&pid| is_traced(pid) == Some(false)).collect();
    [first, watch(&others, &home.join(DATABASE[1]))]
}

/// One capture, and when each of its batches was sent and acknowledged.
async fn traced(home: &Path, postgres: bool) -> Vec<(Name, (i64, i64))> {
    let mut setup = Setup { postgres, wrapper: strace(&home.join(COORDINATOR)), ..Setup::new(1) };
    // The coordinator stays the child.
    setup.wrapper.insert(1, "-D".into());
    let fleet = Fleet::start(setup).await.unwrap();
    let database = fleet.database.as_ref();
    let _tracers = database.map(|database| watch_all(&database.server, home));
    fleet.coordinators[0].tap.one_at_a_time();
    let (start, window) = (next_second(SystemTime::now() + AHEAD), Duration::from_secs(1));
    let capture = fleet.client().start(2, start, window).await.unwrap();
    fleet.client().ended(&capture).await.unwrap_or_else(|error| panic!("{error:#}\n{}", fleet.logs()));
    let seen = fleet.seen.witnessed(&capture);
    seen.acked.into_iter().map(|(name, acked)| (name.clone(), (seen.sent[&name], acked))).collect()
}

fn every_batch_is_synced_in_its_file_and_then_in(postgres: bool, traces: &[&str], name: &str) {
    let home = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let batches = runtime.block_on(traced(home.path(), postgres));
    let files = syncs(&home.path().join(COORDINATOR), ".obs>");
    let database = traces.iter().flat_map(|trace| syncs(&home.path().join(trace), name)).collect();
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

#[test]
fn every_batch_is_synced_in_its_file_and_then_in_sqlite_before_it_is_acknowledged() {
    every_batch_is_synced_in_its_file_and_then_in(false, &[COORDINATOR], "lastseen.db-wal>");
}

#[test]
fn every_batch_is_synced_in_its_file_and_then_in_postgres_before_it_is_acknowledged() {
    every_batch_is_synced_in_its_file_and_then_in(true, &DATABASE, "/pg_wal/");
}
