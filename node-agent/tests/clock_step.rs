//! Rows keep their time where `CLOCK_REALTIME` is set while they are recorded.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use lastseen_node_agent::capture::backend::{Frame, Source, SourceError};
use lastseen_node_agent::capture::lens::{Lens, OwnEndpoints};
use lastseen_node_agent::capture::slices::{Sink, Slice};
use lastseen_node_agent::capture::window::Window;
use lastseen_node_agent::capture::worker::{self, Point};
use lastseen_node_agent::clock::{self, Clock, Kernel};
use lastseen_node_agent::filter::Filter;
use lastseen_packet::{DecodeConfig, Gso, IdentityKey, LinkType};
use tokio::sync::mpsc::channel;

const MS: i64 = 1_000_000;
/// By how much the clock is set forward.
const STEP_NANOS: i64 = 10_000 * MS;

/// When that happens, on `CLOCK_MONOTONIC`.
static STEP_AT: AtomicI64 = AtomicI64::new(i64::MAX);

struct Stepping;

impl Clock for Stepping {
    fn monotonic_nanos(&self) -> i64 {
        Kernel.monotonic_nanos()
    }

    fn realtime_nanos(&self) -> i64 {
        let is_set = self.monotonic_nanos() >= STEP_AT.load(Ordering::Relaxed);
        Kernel.realtime_nanos() + if is_set { STEP_NANOS } else { 0 }
    }

    fn stamp(&self, source: Box<dyn Source>) -> Box<dyn Source> {
        source
    }
}

/// A packet each millisecond or so, and when each came on `CLOCK_MONOTONIC`.
struct Steady {
    socket: (UnixStream, UnixStream),
    came: Arc<Mutex<Vec<i64>>>,
}

impl Source for Steady {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.0.as_fd()
    }

    fn link(&self) -> LinkType {
        LinkType::Raw
    }

    fn gso_known(&self) -> bool {
        true
    }

    fn read(&mut self, each: &mut dyn FnMut(&Frame<'_>)) -> Result<bool, SourceError> {
        thread::sleep(Duration::from_millis(1));
        let mut frame = [0_u8; 40];
        frame[..10].copy_from_slice(&[0x45, 0, 0, 40, 0, 1, 0, 0, 64, 17]);
        frame[12..28].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2, 0, 9, 0, 9, 0, 20, 0, 0]);
        self.came.lock().unwrap().push(clock::monotonic_nanos());
        let time_nanos = clock::realtime_nanos();
        each(&Frame { bytes: &frame, original_length: 40, time_nanos, gso: Gso::UNKNOWN });
        Ok(true)
    }

    fn drops(&mut self) -> Result<u64, SourceError> {
        Ok(0)
    }
}

/// Slices on `CLOCK_MONOTONIC`, as a coordinator converts them, with the times of their rows.
#[derive(Clone, Default)]
struct Converted(Arc<Mutex<Vec<(i64, i64, Vec<i64>)>>>);

impl Sink for Converted {
    fn offer(&mut self, slice: &Slice<'_>) -> bool {
        let on_monotonic = |time: i64| time - slice.realtime_minus_monotonic;
        let rows = (0..slice.columns.len()).map(|at| on_monotonic(slice.columns.row(at).time_nanos));
        let (start, end) = (on_monotonic(slice.start_nanos), on_monotonic(slice.end_nanos));
        self.0.lock().unwrap().push((start, end, rows.collect()));
        true
    }
}

#[test]
fn rows_before_a_step_of_the_clock_keep_their_time() {
    assert!(clock::install(Box::new(Stepping)), "the only test of this program");
    let (sink, came) = (Converted::default(), Arc::new(Mutex::new(Vec::new())));
    let source = Steady { socket: UnixStream::pair().unwrap(), came: came.clone() };
    let begin = clock::monotonic_nanos();
    STEP_AT.store(begin + 500 * MS, Ordering::Relaxed);
    let window = Arc::new(Window::new(None, None));
    window.open(begin, begin + 1_000 * MS);
    let lens = Lens::new(
        DecodeConfig::default(),
        IdentityKey([7; 16]),
        Filter::compile("").unwrap(),
        OwnEndpoints::new([]),
    );
    worker::run(vec![Point::new(Box::new(source), sink.clone(), [1; 16])], lens, &window, &channel(8).0);
    let (came, slices) = (came.lock().unwrap().clone(), sink.0.lock().unwrap().clone());
    let rows = slices.iter().flat_map(|slice| slice.2.iter().copied());
    let off = rows.zip(came).map(|(row, came)| row - came).filter(|off| off.abs() > 20 * MS);
    let off: Vec<i64> = off.map(|off| off / MS).collect();
    let shown: Vec<_> = slices.iter().map(|s| ((s.0 - begin) / MS, (s.1 - begin) / MS, s.2.len())).collect();
    assert!(
        off.len() <= 1,
        "{} rows are off, the first by {} ms: (from, to, rows) {shown:?}",
        off.len(),
        off[0]
    );
}
