//! What a capture does while nobody takes its batches: it selects less, then drops, and takes everything again when there
//! is room. The packets are the test's, all behind them is the agent's own.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lastseen_node_agent::capture::backend::{Direction, Frame, Source, SourceError};
use lastseen_node_agent::capture::budget::Budget;
use lastseen_node_agent::capture::lens::{Lens, OwnEndpoints};
use lastseen_node_agent::capture::slices::ROWS;
use lastseen_node_agent::capture::window::Window;
use lastseen_node_agent::capture::worker::{self, Point};
use lastseen_node_agent::clock::{monotonic_nanos, realtime_nanos};
use lastseen_node_agent::filter::Filter;
use lastseen_node_agent::interfaces::watch::Network;
use lastseen_node_agent::job::Context;
use lastseen_node_agent::job::board::Board;
use lastseen_node_agent::job::spec::Backend;
use lastseen_node_agent::job::status::{PointId, Totals};
use lastseen_node_agent::metrics::Metrics;
use lastseen_node_agent::publish::sink::BatchSink;
use lastseen_node_agent::spool::{Fsync, Settings, Spool};
use lastseen_packet::{DecodeConfig, Gso, IdentityKey, LinkType, Sampler, Threshold};
use lastseen_proto::batch::{Limits, decode};
use lastseen_proto::v1::{InterfaceKind, ObservationBatch};

const KEY: IdentityKey = IdentityKey([7; 16]);
const PATIENCE: Duration = Duration::from_mins(1);
/// A sixteenth of it is more than a batch of [`ROWS`] takes: no batch fills it by two steps.
const SPOOL_BYTES: u64 = 2 << 20;

/// Datagrams without end, no two alike, while it flows.
struct Datagrams {
    flows: Arc<AtomicBool>,
    ready: File,
    gso_known: bool,
    sent: Arc<AtomicU64>,
}

impl Source for Datagrams {
    fn fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }

    fn link(&self) -> LinkType {
        LinkType::Ethernet
    }

    fn gso_known(&self) -> bool {
        self.gso_known
    }

    fn read(&mut self, each: &mut dyn FnMut(&Frame<'_>)) -> Result<bool, SourceError> {
        if !self.flows.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(1));
            return Ok(false);
        }
        for _ in 0..64 {
            let bytes = datagram(self.sent.fetch_add(1, Ordering::Relaxed));
            let original_length = bytes.len() as u32;
            each(&Frame {
                bytes: &bytes,
                original_length,
                time_nanos: realtime_nanos(),
                gso: Gso { kind: 0, size: 0 },
            });
        }
        Ok(true)
    }

    fn drops(&mut self) -> Result<u64, SourceError> {
        Ok(0)
    }
}

/// Ethernet, IPv4 and UDP around a payload of 8 bytes that looks like chance.
fn datagram(number: u64) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend([0x08, 0x00, 0x45, 0, 0, 36]);
    frame.extend((number as u16 | 1).to_be_bytes());
    frame.extend([0, 0, 64, 17, 0, 0, 10, 244, 1, 10, 10, 244, 2, 10]);
    frame.extend([0x9c, 0x40, 0x23, 0x28, 0, 16, 0, 0]);
    frame.extend(number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    frame
}

async fn context(home: &Path) -> Context {
    let metrics = Metrics::registered().0;
    let settings = Settings { directory: home.join("spool"), max_bytes: SPOOL_BYTES, fsync: Fsync::Close };
    Context {
        node: "node-a".into(),
        backend: Backend::Auto,
        ring_bytes: 8192,
        rings: Budget::new(1 << 20),
        network: Network::open().await.unwrap(),
        spool: Arc::new(Spool::open(settings, 9, metrics.clone()).unwrap()),
        board: Board::default(),
        probes: lastseen_node_agent::probe::board::Board::default(),
        metrics,
    }
}

struct Capture {
    window: Arc<Window>,
    flows: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    worker: thread::JoinHandle<()>,
}

impl Capture {
    /// Records datagrams, of which one in `interval` was asked for.
    fn start(context: &Context, gso_known: bool, interval: u32) -> Self {
        let (flows, sent) = (Arc::new(AtomicBool::new(true)), Arc::<AtomicU64>::default());
        let window = Arc::new(Window::new(None, None));
        let ready = File::open("/dev/null").unwrap();
        let source = Datagrams { flows: flows.clone(), ready, gso_known, sent: sent.clone() };
        let point = PointId {
            interface: "eth0".into(),
            index: 3,
            direction: Direction::In,
            kind: InterfaceKind::Physical,
            mtu: 1500,
            gso_known,
        };
        let sink = BatchSink::new(context, "c-1", &point, Arc::<Totals>::default()).unwrap();
        let point = Point::new(Box::new(source), sink, [1; 16]);
        window.open(monotonic_nanos(), i64::MAX);
        let theirs = window.clone();
        let worker = thread::spawn(move || {
            let filter = Filter::compile("").unwrap();
            let lens = Lens::new(DecodeConfig::default(), KEY, filter, OwnEndpoints::default());
            let (news, mut heard) = tokio::sync::mpsc::channel(8);
            worker::run(vec![point], lens.selecting(Threshold::one_in(interval)), &theirs, &news);
            assert_eq!(heard.try_recv().ok(), None, "nothing went wrong");
        });
        Self { window, flows, sent, worker }
    }

    fn end(self) {
        self.window.shorten(monotonic_nanos());
        self.worker.join().unwrap();
    }
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Takes everything that waits.
fn take(spool: &Spool) -> Vec<ObservationBatch> {
    take_to(spool, u64::MAX)
}

/// Takes what waits up to this batch.
fn take_to(spool: &Spool, last: u64) -> Vec<ObservationBatch> {
    let mut taken = Vec::new();
    while let Some((id, _)) = spool.after(0).filter(|(id, _)| *id <= last) {
        let batch = spool.get(id).unwrap().unwrap();
        assert!(spool.settle(batch.key.as_ref().unwrap()));
        taken.push(batch);
    }
    taken
}

fn dropped(batches: &[ObservationBatch]) -> u64 {
    batches.iter().map(|batch| batch.counters.unwrap().agent_drops).sum()
}

/// Every row is one that the batch's threshold selects, and every packet is in one of the counters. Returns the
/// thresholds.
fn check(batches: &[ObservationBatch]) -> Vec<Option<u64>> {
    // Each is stamped by the clocks' offset of its own begin, which drifts.
    let monotonic = |batch: &ObservationBatch, nanos| nanos - batch.realtime_minus_monotonic_nanos;
    for pair in batches.windows(2) {
        let end = monotonic(&pair[0], pair[0].slice_end_nanos);
        assert!(monotonic(&pair[1], pair[1].slice_start_nanos) <= end, "slices meet without gaps");
    }
    for batch in batches {
        let columns = decode(&batch.columns, &Limits::default()).unwrap();
        let sampler = Sampler::new(KEY, batch.sampling_threshold.map_or(Threshold::ALL, Threshold::up_to));
        let rows = (0..columns.len()).map(|index| columns.row(index));
        let strays = rows.filter(|row| !sampler.keeps(&columns.flows[row.flow as usize], row)).count();
        let counters = batch.counters.unwrap();
        assert_eq!(strays, 0, "rows that the threshold does not select");
        assert_eq!(counters.received, u64::from(batch.rows) + counters.sampled_out + counters.agent_drops);
    }
    batches.iter().map(|batch| batch.sampling_threshold).collect()
}

#[tokio::test]
async fn a_spool_that_fills_is_filled_ever_more_slowly_and_what_is_left_out_is_counted() {
    let home = tempfile::tempdir().unwrap();
    let context = context(home.path()).await;
    let spool = context.spool.clone();
    let capture = Capture::start(&context, true, 1);
    // The last batch has its place before it is written and counted.
    until("a full spool", || !spool.has_room(64 << 10) && context.metrics.spool_halvings.get() == 4);
    assert_eq!(spool.halvings(), 4);
    capture.flows.store(false, Ordering::Relaxed);
    // What is made while room comes back is none of it.
    let filled = take_to(&spool, *spool.subscribe().borrow());
    until("everything is recorded again", || spool.halvings() == 0);
    capture.flows.store(true, Ordering::Relaxed);
    until("batches again", || spool.waiting().0 > 3);
    capture.end();
    let after = take(&spool);
    let thresholds = check(&[filled.clone(), after.clone()].concat());
    let coarser = |halvings| Some(u64::MAX >> halvings);
    let mut steps: Vec<_> = thresholds[..filled.len()].to_vec();
    steps.dedup();
    assert_eq!(steps, [None, coarser(1), coarser(2), coarser(3), coarser(4)]);
    let is_all = |batch: &ObservationBatch| batch.rows > 0 && batch.sampling_threshold.is_none();
    assert!(after.iter().any(is_all), "everything again");
}

#[tokio::test]
async fn what_was_asked_to_sample_samples_less_of_it() {
    let home = tempfile::tempdir().unwrap();
    let context = context(home.path()).await;
    let capture = Capture::start(&context, true, 3);
    until("a spool that is filling", || context.spool.halvings() >= 2);
    capture.end();
    let thresholds = check(&take(&context.spool));
    assert_eq!(thresholds.first(), Some(&Some(u64::MAX / 3)));
    assert!(thresholds.contains(&Some((u64::MAX / 3) >> 1)), "{thresholds:?}");
}

#[tokio::test]
async fn what_cannot_sample_is_dropped_and_counted() {
    let home = tempfile::tempdir().unwrap();
    let context = context(home.path()).await;
    let spool = context.spool.clone();
    let capture = Capture::start(&context, false, 1);
    until("a full spool", || !spool.has_room(64 << 10));
    let sent = capture.sent.load(Ordering::Relaxed);
    until("slices that are refused", || capture.sent.load(Ordering::Relaxed) > sent + 3 * ROWS as u64);
    let filled = take_to(&spool, *spool.subscribe().borrow());
    until("batches again", || spool.waiting().0 > 3);
    capture.end();
    let all = [filled, take(&spool)].concat();
    assert_eq!(check(&all).into_iter().max(), Some(None), "no batch is selected from");
    assert!(dropped(&all) > 0);
}
