//! What the spool keeps: over the end of the program, and on a disk that is full.

use crate::program;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::coordinator::Coordinator;
use crate::pki::Authority;
use crate::program::{agent, segments};
use lastseen_node_agent::capture::backend::Direction;
use lastseen_node_agent::capture::budget::Budget;
use lastseen_node_agent::capture::slices::Slicer;
use lastseen_node_agent::interfaces::watch::Network;
use lastseen_node_agent::job::Context;
use lastseen_node_agent::job::board::Board;
use lastseen_node_agent::job::spec::Backend;
use lastseen_node_agent::job::status::PointId;
use lastseen_node_agent::metrics::Metrics;
use lastseen_node_agent::publish::sink::BatchSink;
use lastseen_node_agent::spool::{Fsync, Settings, Spool};
use lastseen_packet::observation::{FlowKey, Observation};
use lastseen_proto::v1::{BatchKey, InterfaceKind, ObservationBatch, ObservationPoint};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use prometheus_client::encoding::text::encode;

/// Of the process whose batches are left behind.
const OLD: u64 = 7;
const BATCHES: u64 = 40;

fn spool(directory: &Path, incarnation: u64, metrics: Arc<Metrics>) -> Arc<Spool> {
    let settings = Settings { directory: directory.into(), max_bytes: 1 << 30, fsync: Fsync::Batch };
    Arc::new(Spool::open(settings, incarnation, metrics).unwrap())
}

fn batch(sequence: u64) -> ObservationBatch {
    let point = ObservationPoint { index: 3, ..Default::default() };
    let key = BatchKey { capture_id: "c-1".into(), point: Some(point), incarnation: OLD, sequence };
    ObservationBatch { key: Some(key), columns: vec![sequence as u8; 9_000].into(), ..Default::default() }
}

/// Leaves batches of a process that is no more.
fn leave_behind(directory: &Path) {
    let old = spool(directory, OLD, Metrics::registered().0);
    for sequence in 0..BATCHES {
        assert!(old.offer(batch(sequence), false));
    }
}

#[tokio::test]
async fn a_killed_agent_sends_what_it_and_its_predecessors_left_until_it_is_acknowledged() {
    let authority = Authority::new();
    let mut coordinator = Coordinator::start(&authority.issue("coordinator"), 0).await;
    let pki = authority.issue("agent/node-a");
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("spool");
    leave_behind(&directory);
    let flags = ["--spool-dir", directory.to_str().unwrap(), "--spool-fsync", "batch"];

    // In the middle of sending, with nothing acknowledged.
    let first = agent(&pki, coordinator.port, &flags);
    let register = coordinator.register().await;
    let killed = register.incarnation;
    let told: Vec<_> = register
        .spooled
        .iter()
        .map(|left| (left.capture_id.as_str(), left.incarnation, left.batches))
        .collect();
    assert_eq!(told, [("c-1", OLD, BATCHES)]);
    coordinator.until("some batches", |state| state.batches.lock().unwrap().len() > 5).await;
    // `SIGKILL`.
    drop(first);
    assert!(segments(&directory) > 0);

    coordinator.state.acking.store(true, Ordering::Relaxed);
    let second = agent(&pki, coordinator.port, &flags);
    assert_ne!(coordinator.register().await.incarnation, killed);
    coordinator.until("an empty spool", |_| segments(&directory) == 0).await;
    let received: Vec<_> = coordinator.state.batches.lock().unwrap().values().cloned().collect();
    assert_eq!(received, (0..BATCHES).map(batch).collect::<Vec<_>>(), "under their own keys");
    assert!(coordinator.state.repeated.load(Ordering::Relaxed) > 5);
    assert_eq!(coordinator.state.altered.load(Ordering::Relaxed), 0);
    let exit = tokio::task::spawn_blocking(|| second.terminate()).await.unwrap();
    assert_eq!(exit.code(), Some(0));
}

#[tokio::test]
async fn what_the_coordinator_no_longer_wants_is_let_go() {
    let authority = Authority::new();
    let coordinator = Coordinator::start(&authority.issue("coordinator"), 0).await;
    coordinator.state.acking.store(true, Ordering::Relaxed);
    *coordinator.state.refuse.lock().unwrap() = Some(1);
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("spool");
    leave_behind(&directory);
    let flags = ["--spool-dir", directory.to_str().unwrap()];
    let _agent = agent(&authority.issue("agent/node-a"), coordinator.port, &flags);
    coordinator.until("an empty spool", |_| segments(&directory) == 0).await;
    assert_eq!(coordinator.state.batches.lock().unwrap().len() as u64, BATCHES - 1);
}

/// A file system of one MiB at `path`, seen by this thread alone and gone with it.
fn small_disk(path: &Path) {
    unshare(CloneFlags::CLONE_NEWNS).expect("this test mounts a file system of its own: run it as root");
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some("none"), path, Some("tmpfs"), MsFlags::empty(), Some("size=1m")).unwrap();
}

/// Leaves no room for another page.
fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    while std::io::Write::write(&mut file, &[1; 4096]).is_ok_and(|written| written > 0) {}
}

async fn sink(spool: &Arc<Spool>, metrics: &Arc<Metrics>) -> BatchSink {
    let context = Context {
        node: "node-a".into(),
        backend: Backend::Auto,
        ring_bytes: 8192,
        rings: Budget::new(1 << 20),
        network: Network::open().await.unwrap(),
        spool: spool.clone(),
        board: Board::default(),
        probes: lastseen_node_agent::probe::board::Board::default(),
        metrics: metrics.clone(),
    };
    let point = PointId {
        interface: "eth0".into(),
        index: 3,
        direction: Direction::In,
        kind: InterfaceKind::Physical,
        mtu: 1500,
        gso_known: true,
    };
    BatchSink::new(&context, "c-1", &point, Arc::default()).unwrap()
}

const SECOND: i64 = 1_000_000_000;

/// Sees `count` packets, of which no two are alike, and ends the slice at `second`.
fn see(slicer: &mut Slicer<BatchSink>, second: i64, count: u64) {
    for _ in 0..count {
        let row = Observation { transport_hash: rand::random(), time_nanos: second, ..Default::default() };
        slicer.rows.push(&FlowKey::UNSPECIFIED, row);
    }
    slicer.counters.received += count;
    slicer.tick(second * SECOND, [second * SECOND; 2], 0);
}

/// Every batch that waits.
fn all(spool: &Spool) -> Vec<ObservationBatch> {
    let mut at = 0;
    let next = || {
        at = spool.after(at)?.0;
        spool.get(at).unwrap()
    };
    std::iter::from_fn(next).collect()
}

async fn sheds_and_recovers(home: &Path) {
    let (metrics, registry) = Metrics::registered();
    let packets = |outcome: &str| {
        let (mut text, line) =
            (String::new(), format!("lastseen_agent_packets_total{{outcome=\"{outcome}\"}} "));
        encode(&mut text, &registry).unwrap();
        text.lines().find_map(|text| text.strip_prefix(&line)?.parse::<u64>().ok()).unwrap()
    };
    let spool = spool(&home.join("spool"), OLD, metrics.clone());
    let ballast = home.join("ballast");
    let mut slicer = Slicer::new(sink(&spool, &metrics).await, [0; 16]);
    slicer.begin(0);
    see(&mut slicer, 1, 100);
    fill(&ballast);
    for second in 2..5 {
        see(&mut slicer, second, 2_000);
    }
    assert_eq!((spool.waiting().0, metrics.spool_write_failures.get()), (1, 3));
    assert_eq!(spool.halvings(), 4, "a full disk is a full spool");
    assert_eq!(
        (packets("agent_drops"), packets("recorded")),
        (6_000, 6_100),
        "counted when they are dropped"
    );
    std::fs::remove_file(&ballast).unwrap();
    see(&mut slicer, 5, 10);
    assert_eq!(spool.halvings(), 0);
    fill(&ballast);
    see(&mut slicer, 6, 2_000);
    // The last slice must tell of them, disk or no disk.
    slicer.finish(7 * SECOND, 0);

    let batches = all(&spool);
    let told: Vec<_> = batches
        .iter()
        .map(|batch| (batch.slice_end_nanos / SECOND, batch.rows, batch.counters.unwrap().agent_drops))
        .collect();
    assert_eq!(told, [(1, 100, 0), (5, 10, 6_000), (7, 0, 2_000)]);
    let received: u64 = batches.iter().map(|batch| batch.counters.unwrap().received).sum();
    assert_eq!(received, 8_110);
    assert_eq!((packets("agent_drops"), packets("recorded")), (8_000, 8_110), "and once");
    let sequences: Vec<_> = batches.iter().map(|batch| batch.key.as_ref().unwrap().sequence).collect();
    assert_eq!(sequences, [0, 1, 2]);
    for batch in &batches {
        assert!(spool.settle(batch.key.as_ref().unwrap()));
    }
    assert_eq!((spool.waiting(), segments(&home.join("spool"))), ((0, 0), 0));
    full_while_it_was_delivered(&ballast, &spool, &metrics).await;
}

/// What was full then is not full for ever: neither for who looks now nor for the next capture.
async fn full_while_it_was_delivered(ballast: &Path, spool: &Arc<Spool>, metrics: &Arc<Metrics>) {
    assert_eq!(spool.halvings(), 4, "the disk is still full");
    std::fs::remove_file(ballast).unwrap();
    let next = sink(spool, metrics).await;
    assert_eq!((spool.halvings(), metrics.spool_halvings.get()), (0, 0), "as the next capture begins");
    let mut slicer = Slicer::new(next, [0; 16]);
    slicer.begin(0);
    see(&mut slicer, 1, 100);
    fill(ballast);
    see(&mut slicer, 2, 2_000);
    assert_eq!(spool.halvings(), 4);
    std::fs::remove_file(ballast).unwrap();
    for batch in &all(spool) {
        assert!(spool.settle(batch.key.as_ref().unwrap()));
    }
    assert_eq!((spool.halvings(), metrics.spool_halvings.get()), (0, 0), "once nothing waits");
}

#[test]
fn a_full_disk_costs_rows_that_are_counted_and_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().to_owned();
    let on_small_disk = move || {
        small_disk(&path);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(sheds_and_recovers(&path));
    };
    std::thread::spawn(on_small_disk).join().unwrap();
    assert!(std::fs::read_dir(home.path()).unwrap().next().is_none(), "nobody else saw it");
}

#[tokio::test]
async fn a_spool_that_is_in_use_is_named() {
    let authority = Authority::new();
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("spool");
    let _held = spool(&directory, OLD, Metrics::registered().0);
    let pki = authority.issue("agent/node-a");
    let mut command = program::command(&pki, 1);
    command.arg("--spool-dir").arg(&directory);
    // One that starts after all ends with the test.
    let mut command = tokio::process::Command::from(command);
    let ended = command.kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(30), ended).await.unwrap().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    let wanted = format!("spool-dir: {} is in use by another agent, process ", directory.display());
    assert!(text.contains(&wanted) && text.contains("--spool-dir of its own"), "{text}");
}
