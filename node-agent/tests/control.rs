//! How an agent ends and tries again, whatever its coordinator does.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::coordinator::Coordinator;
use crate::pki::Authority;
use lastseen_node_agent::capture::budget::Budget;
use lastseen_node_agent::control::{Control, Pace};
use lastseen_node_agent::interfaces::watch::Network;
use lastseen_node_agent::job::Context;
use lastseen_node_agent::job::board::Board;
use lastseen_node_agent::job::spec::Backend;
use lastseen_node_agent::metrics::Metrics;
use lastseen_node_agent::spool::{Fsync, Settings, Spool};
use lastseen_proto::v1::agent_message::Kind as Up;
use lastseen_proto::v1::{BatchKey, ObservationBatch, ObservationPoint};
use lastseen_runtime::tls::Pki;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Far longer than a test waits.
const NEVER: Duration = Duration::from_hours(1);
const SOON: Duration = Duration::from_millis(100);
/// A test that waits for something that does not come fails by itself instead of hanging.
const PATIENCE: Duration = Duration::from_secs(30);

struct Agent {
    spool: Arc<Spool>,
    home: tempfile::TempDir,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
}

fn open(home: &tempfile::TempDir) -> Spool {
    let settings = Settings { directory: home.path().join("spool"), max_bytes: 1 << 20, fsync: Fsync::Close };
    Spool::open(settings, 9, Metrics::registered().0).unwrap()
}

/// The spool of the agent after this one, once whoever read the spool last has let go of it.
async fn next(mut spool: Arc<Spool>, home: &tempfile::TempDir) -> Spool {
    while let Err(held) = Arc::try_unwrap(spool) {
        spool = held;
        tokio::task::yield_now().await;
    }
    open(home)
}

impl Agent {
    async fn start(authority: &Authority, port: u16, pace: Pace) -> Self {
        Self::start_at(authority, &[port], pace).await
    }

    /// With coordinators on these ports.
    async fn start_at(authority: &Authority, ports: &[u16], pace: Pace) -> Self {
        let (metrics, _) = Metrics::registered();
        let home = tempfile::tempdir().unwrap();
        let spool = Arc::new(open(&home));
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
        let shutdown = CancellationToken::new();
        let control = Control {
            context,
            pki: Pki::open(&authority.issue("agent/node-a")).unwrap(),
            coordinators: ports.iter().map(|port| format!("127.0.0.1:{port}")).collect(),
            connected: Arc::default(),
            pace,
        };
        let running = tokio::spawn(control.run(shutdown.clone()));
        Self { spool, home, metrics, shutdown, running }
    }

    /// Leaves it something to deliver.
    fn fill(&self) {
        self.offer("c-1", 1);
    }

    /// Leaves it a batch of this capture to deliver, from the point of this index.
    fn offer(&self, capture: &str, index: u32) {
        let point = Some(ObservationPoint { index, ..Default::default() });
        let key = BatchKey { capture_id: capture.into(), point, incarnation: 9, sequence: 0 };
        assert!(self.spool.offer(ObservationBatch { key: Some(key), ..Default::default() }, true));
    }

    /// Asks it to stop, waits for its end and returns how many batches it kept: the next one finds as many.
    async fn stop(self) -> usize {
        self.shutdown.cancel();
        timeout(PATIENCE, self.running).await.expect("the agent does not end").unwrap();
        let kept = self.spool.waiting().0;
        let found = timeout(PATIENCE, next(self.spool, &self.home)).await.expect("somebody holds the spool");
        assert_eq!(found.waiting().0, kept);
        kept
    }
}

fn pace(grace: Duration) -> Pace {
    Pace { first: Duration::from_millis(1), longest: NEVER, steady: NEVER, refused: NEVER, grace }
}

#[tokio::test]
async fn what_can_be_delivered_is_delivered_before_the_end() {
    let authority = Authority::new();
    let mut coordinator = Coordinator::start(&authority.issue("coordinator"), 0).await;
    coordinator.state.acking.store(true, Ordering::Relaxed);
    let agent = Agent::start(&authority, coordinator.port, pace(NEVER)).await;
    coordinator.register().await;
    agent.fill();
    assert_eq!(agent.stop().await, 0);
}

#[tokio::test]
async fn what_a_frozen_coordinator_did_not_acknowledge_goes_to_the_next() {
    let authority = Authority::new();
    // On a thread of its own, which can be held.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let identity = authority.issue("coordinator");
    let first = runtime.spawn(async move { Coordinator::start(&identity, 0).await });
    let mut first = first.await.unwrap();
    let mut second = Coordinator::start(&authority.issue("coordinator"), 0).await;
    second.state.acking.store(true, Ordering::Relaxed);
    let agent = Agent::start_at(&authority, &[first.port, second.port], pace(NEVER)).await;
    first.register().await;
    agent.fill();
    first.until("the batch", |state| !state.batches.lock().unwrap().is_empty()).await;
    let (thaw, frozen) = std::sync::mpsc::sync_channel::<()>(1);
    runtime.spawn(async move { frozen.recv() });
    second.register().await;
    second.until("the batch again", |state| !state.batches.lock().unwrap().is_empty()).await;
    assert_eq!(agent.stop().await, 0);
    drop(thaw);
    runtime.shutdown_background();
}

#[tokio::test]
async fn a_coordinator_that_acknowledges_nothing_does_not_hold_the_agent() {
    let authority = Authority::new();
    let mut coordinator = Coordinator::start(&authority.issue("coordinator"), 0).await;
    let agent = Agent::start(&authority, coordinator.port, pace(SOON)).await;
    coordinator.register().await;
    agent.fill();
    coordinator.until("the batch", |state| !state.batches.lock().unwrap().is_empty()).await;
    assert_eq!(agent.stop().await, 1);
}

#[tokio::test]
async fn a_coordinator_that_answers_no_registration_does_not_hold_the_agent() {
    let authority = Authority::new();
    let mut coordinator = Coordinator::start(&authority.issue("coordinator"), 0).await;
    coordinator.state.mute.store(true, Ordering::Relaxed);
    let agent = Agent::start(&authority, coordinator.port, pace(SOON)).await;
    agent.fill();
    coordinator.register().await;
    let metrics = agent.metrics.clone();
    assert_eq!(agent.stop().await, 1);
    assert_eq!(metrics.connection_failures.get(), 0, "it did not wait until the registration failed");
    assert_eq!(coordinator.state.registrations.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_port_that_accepts_and_says_nothing_does_not_hold_the_agent() {
    let authority = Authority::new();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let agent = Agent::start(&authority, silent.local_addr().unwrap().port(), pace(NEVER)).await;
    agent.fill();
    let _connection = silent.accept().await.unwrap();
    let metrics = agent.metrics.clone();
    assert_eq!(agent.stop().await, 1);
    assert_eq!(metrics.connection_failures.get(), 0, "it did not wait until the connection failed");
}

#[tokio::test]
async fn the_end_of_a_renewed_certificate_is_told_without_a_new_connection() {
    let authority = Authority::new();
    let mut coordinator = Coordinator::start(&authority.issue("coordinator"), 0).await;
    let agent = Agent::start(&authority, coordinator.port, pace(NEVER)).await;
    coordinator.register().await;
    for year in [4096, 4097] {
        authority.issue_until("agent/node-a", year);
        let end = rcgen::date_time_ymd(year, 1, 1).unix_timestamp();
        let is_it = |up| match up {
            Up::Heartbeat(beat) => (beat.certificate_not_after?.seconds == end).then_some(()),
            _ => None,
        };
        coordinator.next(is_it).await;
    }
    assert_eq!(coordinator.state.registrations.load(Ordering::Relaxed), 1);
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_that_was_replaced_does_not_come_back_at_once() {
    let authority = Authority::new();
    let mut coordinator = Coordinator::start(&authority.issue("coordinator"), 0).await;
    let agent = Agent::start(&authority, coordinator.port, pace(SOON)).await;
    coordinator.register().await;
    // Another reason to end: it comes back after a millisecond or two.
    coordinator.end(Status::unavailable("restarting")).await;
    coordinator.register().await;
    coordinator.end(Status::aborted("node node-a connected again from 10.0.0.9:4")).await;
    let pause = || agent.metrics.retry_delay_seconds.get();
    coordinator.until("the long pause", |_| pause() >= NEVER.as_secs_f64()).await;
    assert_eq!(coordinator.state.registrations.load(Ordering::Relaxed), 2);
    agent.stop().await;
}

#[tokio::test]
async fn a_capture_that_cannot_be_stored_holds_up_no_other_and_comes_again() {
    let authority = Authority::new();
    let mut coordinator = Coordinator::start(&authority.issue("coordinator"), 0).await;
    coordinator.state.acking.store(true, Ordering::Relaxed);
    *coordinator.state.fail.lock().unwrap() = Some("c-1".into());
    let agent = Agent::start(&authority, coordinator.port, pace(NEVER)).await;
    coordinator.register().await;
    agent.offer("c-1", 1);
    agent.offer("c-2", 2);
    coordinator.until("the other capture's batch", |_| agent.spool.waiting().0 == 1).await;
    coordinator.until("new tries", |state| state.failed.load(Ordering::Relaxed) >= 3).await;
    *coordinator.state.fail.lock().unwrap() = None;
    coordinator.until("the batch that failed", |_| agent.spool.waiting().0 == 0).await;
    assert_eq!(coordinator.state.registrations.load(Ordering::Relaxed), 1, "on one connection");
    agent.stop().await;
}
