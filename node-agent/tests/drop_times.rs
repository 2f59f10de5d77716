//! Drops of the kernel's ring belong to the time at which they happen, also around an outage.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::recording::{Delivered, MS};
use crate::scripted::{Script, record_script, show, window};
use lastseen_node_agent::capture::backend::{Frame, SourceError};
use lastseen_node_agent::capture::slices::{Sink, Slice};
use lastseen_node_agent::capture::window::Window;
use lastseen_node_agent::clock;

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

impl Script for Stalled {
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
            show(clock::realtime_nanos(), each);
        }
        Ok(false)
    }

    fn drops(&mut self) -> u64 {
        std::mem::take(&mut self.state.lock().unwrap().pending)
    }
}

/// The slices of a point of that backend vouch for no time at which packets were dropped.
fn drops_are_told(backend: Backend) {
    let (sink, state) = (Delivered::default(), Arc::new(Mutex::new(State::default())));
    let begin = clock::realtime_nanos();
    let window = window();
    window.open(clock::monotonic_nanos(), clock::monotonic_nanos() + 4_000 * MS);
    record_script(Stalled { backend, begin, state: state.clone() }, sink.clone(), &window);
    let dropped_at = state.lock().unwrap().dropped_at.unwrap();
    let slices = sink.0.lock().unwrap().slices.clone();
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
    /// When it came, on `CLOCK_REALTIME`.
    came: Arc<Mutex<Option<i64>>>,
}

impl Script for Opening {
    fn read(&mut self, each: &mut dyn FnMut(&Frame<'_>)) -> Result<bool, SourceError> {
        let mut came = self.came.lock().unwrap();
        if came.is_none() {
            // As an agent does that is told late: it opens the window at once.
            let now = clock::monotonic_nanos();
            self.window.open(now, now + 2_000 * MS);
            thread::sleep(Duration::from_millis(20));
            let time_nanos = clock::realtime_nanos();
            *came = Some(time_nanos);
            show(time_nanos, each);
        }
        Ok(false)
    }
}

#[test]
fn what_comes_while_a_window_opens_late_is_counted_or_not_vouched_for() {
    let (sink, came) = (Delivered::default(), Arc::new(Mutex::new(None)));
    let window = window();
    record_script(Opening { window: window.clone(), came: came.clone() }, sink.clone(), &window);
    let came = came.lock().unwrap().unwrap();
    let slices = sink.0.lock().unwrap().slices.clone();
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
    waiting: Vec<i64>,
    is_filled: bool,
}

impl Script for Backlog {
    fn read(&mut self, each: &mut dyn FnMut(&Frame<'_>)) -> Result<bool, SourceError> {
        let now = clock::realtime_nanos();
        if !self.is_filled && now > self.begin + 200 * MS {
            thread::sleep(Duration::from_millis(300));
            (self.is_filled, self.waiting) = (true, (0..600).map(|at| now + at * MS / 2).collect());
        }
        for time_nanos in self.waiting.drain(..self.waiting.len().min(100)) {
            show(time_nanos, each);
        }
        Ok(!self.waiting.is_empty())
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
    let window = window();
    window.open(clock::monotonic_nanos(), clock::monotonic_nanos() + 4_000 * MS);
    record_script(Backlog { begin, waiting: Vec::new(), is_filled: false }, sink.clone(), &window);
    let early = sink.0.lock().unwrap().clone();
    assert_eq!(early.iter().map(|slice| slice.1).sum::<usize>(), 600, "{early:?}");
    assert!(early.iter().all(|slice| slice.0 <= 100), "milliseconds before the slice, rows: {early:?}");
}
