//! Drops of the kernel's ring belong to the time at which they happen, also around an outage.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use lastseen_node_agent::capture::backend::{Frame, Source, SourceError};
use lastseen_node_agent::capture::counters::Counters;
use lastseen_node_agent::capture::lens::{Lens, OwnEndpoints};
use lastseen_node_agent::capture::slices::{Sink, Slice};
use lastseen_node_agent::capture::window::Window;
use lastseen_node_agent::capture::worker::{self, Point};
use lastseen_node_agent::clock;
use lastseen_node_agent::filter::Filter;
use lastseen_packet::{DecodeConfig, Gso, IdentityKey, LinkType};
use tokio::sync::mpsc::channel;

const MS: i64 = 1_000_000;
/// How long a packet is asked for at a point (`PASSING_NANOS` of the correlation).
const PASSING_NANOS: i64 = 100 * MS;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Backend {
    /// Says once that the interface went down.
    AfPacket,
    /// Says it as long as the interface is down.
    Pcap,
    /// Says that the interface is gone, which it stays.
    PcapGone,
}

/// An interface whose reader stands still for 300 ms, 200 ms after the begin, while the ring overflows. When it wakes
/// up, the interface just went down.
struct Stalled {
    backend: Backend,
    begin: i64,
    socket: (UnixStream, UnixStream),
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// When packets were dropped, on `CLOCK_REALTIME`.
    dropped_at: Option<i64>,
    pending: u64,
    down_since: Option<i64>,
    /// The outage was told.
    is_told: bool,
}

impl State {
    fn is_down(&self, backend: Backend) -> bool {
        let lasts = if backend == Backend::AfPacket { 10 * MS } else { 200 * MS };
        self.down_since
            .is_some_and(|since| backend == Backend::PcapGone || clock::realtime_nanos() < since + lasts)
    }
}

impl Source for Stalled {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.0.as_fd()
    }

    fn link(&self) -> LinkType {
        LinkType::Ethernet
    }

    fn gso_known(&self) -> bool {
        true
    }

    fn read(&mut self, each: &mut dyn FnMut(&Frame<'_>)) -> Result<bool, SourceError> {
        let mut state = self.state.lock().unwrap();
        if state.dropped_at.is_none() && clock::realtime_nanos() > self.begin + 200 * MS {
            thread::sleep(Duration::from_millis(100));
            (state.dropped_at, state.pending) = (Some(clock::realtime_nanos()), 7);
            thread::sleep(Duration::from_millis(200));
            state.down_since = Some(clock::realtime_nanos());
        }
        let interface = "v0".to_owned();
        match self.backend {
            Backend::AfPacket if state.down_since.is_some() && !state.is_told => {
                state.is_told = true;
                return Err(SourceError::Down { interface });
            }
            Backend::Pcap if state.is_down(self.backend) => return Err(SourceError::Down { interface }),
            Backend::PcapGone if state.is_down(self.backend) => {
                return Err(SourceError::Gone { interface, reason: "No such device".into() });
            }
            _ => {}
        }
        if !state.is_down(self.backend) {
            let time_nanos = clock::realtime_nanos();
            each(&Frame { bytes: &[0; 60], original_length: 60, time_nanos, gso: Gso::UNKNOWN });
        }
        Ok(false)
    }

    fn drops(&mut self) -> Result<u64, SourceError> {
        Ok(std::mem::take(&mut self.state.lock().unwrap().pending))
    }
}

#[derive(Clone, Default)]
struct Slices(Arc<Mutex<Vec<(i64, i64, Counters)>>>);

impl Sink for Slices {
    fn offer(&mut self, slice: &Slice<'_>) -> bool {
        self.0.lock().unwrap().push((slice.start_nanos, slice.end_nanos, slice.counters));
        true
    }
}

fn lens() -> Lens {
    let (filter, own) = (Filter::compile("").unwrap(), OwnEndpoints::new([]));
    Lens::new(DecodeConfig::default(), IdentityKey([7; 16]), filter, own)
}

/// The slices of a point of that backend vouch for no time at which packets were dropped.
fn drops_are_told(backend: Backend) {
    let (sink, state) = (Slices::default(), Arc::new(Mutex::new(State::default())));
    let begin = clock::realtime_nanos();
    let source = Stalled { backend, begin, socket: UnixStream::pair().unwrap(), state: state.clone() };
    let window = Arc::new(Window::new(None, None));
    window.open(clock::monotonic_nanos(), clock::monotonic_nanos() + 1_500 * MS);
    let points = vec![Point::new(Box::new(source), sink.clone(), [1; 16])];
    worker::run(points, lens(), &window, &channel(8).0);
    let dropped_at = state.lock().unwrap().dropped_at.unwrap();
    let slices = sink.0.lock().unwrap().clone();
    let shown: Vec<_> = slices
        .iter()
        .map(|s| ((s.0 - begin) / MS, (s.1 - begin) / MS, s.2.kernel_drops))
        .filter(|s| s.2 > 0 || s.1 > 150)
        .collect();
    // A packet that the point before saw at that moment is asked for in this time: is all of it vouched for?
    let (mut from, to) = (dropped_at, dropped_at + PASSING_NANOS);
    for (start, end, counters) in slices {
        if start <= from && from < end && counters.kernel_drops == 0 {
            from = end;
        }
    }
    let at = (dropped_at - begin) / MS;
    assert!(from <= to, "dropped at {at} ms, and the slices say nothing of it: (from, to, drops) {shown:?}");
}

#[test]
fn what_was_dropped_before_a_short_outage_is_told_of_that_time() {
    drops_are_told(Backend::AfPacket);
}

#[test]
fn what_libpcap_dropped_before_an_outage_is_told_of_that_time() {
    drops_are_told(Backend::Pcap);
}

#[test]
fn what_libpcap_dropped_before_the_interface_vanished_is_told() {
    drops_are_told(Backend::PcapGone);
}

/// Shows one packet, while the window opens.
struct Opening {
    window: Arc<Window>,
    socket: (UnixStream, UnixStream),
    /// When it came, on `CLOCK_REALTIME`.
    came: Arc<Mutex<Option<i64>>>,
}

impl Source for Opening {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.0.as_fd()
    }

    fn link(&self) -> LinkType {
        LinkType::Ethernet
    }

    fn gso_known(&self) -> bool {
        true
    }

    fn read(&mut self, each: &mut dyn FnMut(&Frame<'_>)) -> Result<bool, SourceError> {
        let mut came = self.came.lock().unwrap();
        if came.is_none() {
            // As an agent does that is told late: it opens the window at once.
            let now = clock::monotonic_nanos();
            self.window.open(now, now + 300 * MS);
            thread::sleep(Duration::from_millis(20));
            let time_nanos = clock::realtime_nanos();
            *came = Some(time_nanos);
            each(&Frame { bytes: &[0; 60], original_length: 60, time_nanos, gso: Gso::UNKNOWN });
        }
        Ok(false)
    }

    fn drops(&mut self) -> Result<u64, SourceError> {
        Ok(0)
    }
}

#[test]
fn what_comes_while_a_window_opens_late_is_counted_or_not_vouched_for() {
    let (sink, came) = (Slices::default(), Arc::new(Mutex::new(None)));
    let window = Arc::new(Window::new(None, None));
    let source = Opening { window: window.clone(), socket: UnixStream::pair().unwrap(), came: came.clone() };
    worker::run(vec![Point::new(Box::new(source), sink.clone(), [1; 16])], lens(), &window, &channel(8).0);
    let came = came.lock().unwrap().unwrap();
    let slices = sink.0.lock().unwrap().clone();
    let received: u64 = slices.iter().map(|slice| slice.2.received).sum();
    let is_vouched = slices.iter().any(|slice| (slice.0..slice.1).contains(&came));
    assert!(received == 1 || !is_vouched, "its packet was let go: {slices:?}");
    assert!(
        slices.iter().any(|slice| slice.0 >= came && slice.1 > slice.0),
        "the rest is vouched for: {slices:?}"
    );
}

/// A ring in which packets wait, one each half millisecond, while its reader stands still for 300 ms. A turn reads a
/// share of them, as that of a packet socket reads four blocks.
struct Backlog {
    begin: i64,
    socket: (UnixStream, UnixStream),
    waiting: Vec<i64>,
    is_filled: bool,
}

impl Source for Backlog {
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
        let now = clock::realtime_nanos();
        if !self.is_filled && now > self.begin + 200 * MS {
            thread::sleep(Duration::from_millis(300));
            (self.is_filled, self.waiting) = (true, (0..600).map(|at| now + at * MS / 2).collect());
        }
        let mut frame = [0_u8; 40];
        frame[..10].copy_from_slice(&[0x45, 0, 0, 40, 0, 1, 0, 0, 64, 17]);
        frame[12..28].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2, 0, 9, 0, 9, 0, 20, 0, 0]);
        for time_nanos in self.waiting.drain(..self.waiting.len().min(100)) {
            each(&Frame { bytes: &frame, original_length: 40, time_nanos, gso: Gso::UNKNOWN });
        }
        Ok(!self.waiting.is_empty())
    }

    fn drops(&mut self) -> Result<u64, SourceError> {
        Ok(0)
    }
}

/// By how much rows of one slice are stamped before it, in milliseconds, and how many there are.
#[derive(Clone, Default)]
struct Early(Arc<Mutex<Vec<(i64, usize)>>>);

impl Sink for Early {
    fn offer(&mut self, slice: &Slice<'_>) -> bool {
        let stamps = (0..slice.columns.len()).map(|index| slice.columns.row(index).time_nanos);
        let early = stamps.map(|stamp| slice.start_nanos - stamp).max();
        self.0.lock().unwrap().extend(early.map(|early| (early / MS, slice.columns.len())));
        true
    }
}

/// Where a slice is without its rows, the correlation doubts no more than 100 ms before it (`ROW_MARGIN_NANOS`); the
/// slices before it say that all was seen.
#[test]
fn rows_that_waited_in_the_ring_are_in_a_slice_of_their_time() {
    let (sink, begin) = (Early::default(), clock::realtime_nanos());
    let socket = UnixStream::pair().unwrap();
    let source = Backlog { begin, socket, waiting: Vec::new(), is_filled: false };
    let window = Arc::new(Window::new(None, None));
    window.open(clock::monotonic_nanos(), clock::monotonic_nanos() + 1_000 * MS);
    worker::run(vec![Point::new(Box::new(source), sink.clone(), [1; 16])], lens(), &window, &channel(8).0);
    let early = sink.0.lock().unwrap().clone();
    assert_eq!(early.iter().map(|slice| slice.1).sum::<usize>(), 600, "{early:?}");
    assert!(early.iter().all(|slice| slice.0 <= 100), "milliseconds before the slice, rows: {early:?}");
}
