//! Rows keep their time where `CLOCK_REALTIME` is set while they are recorded.

mod common;
#[path = "common/recording.rs"]
mod recording;
#[path = "common/scripted.rs"]
mod scripted;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use lastseen_node_agent::capture::backend::{Frame, Source, SourceError};
use lastseen_node_agent::capture::slices::{Sink, Slice};
use lastseen_node_agent::clock::{self, Clock, Kernel};
use recording::MS;
use scripted::{Script, record_script, show, window};

/// By how much the clock is set forward, and later back.
const STEP_NANOS: i64 = 10_000 * MS;
/// `CLOCK_REALTIME` minus `CLOCK_MONOTONIC` before.
const OFFSET_NANOS: i64 = 1_700_000_000_000 * MS;
/// How long packets wait in the ring.
const WAIT_NANOS: i64 = 60 * MS;

/// When the clock is set, on `CLOCK_MONOTONIC`.
static FORWARD_AT: AtomicI64 = AtomicI64::new(i64::MAX);
static BACK_AT: AtomicI64 = AtomicI64::new(i64::MAX);

fn on_realtime(monotonic: i64) -> i64 {
    let is_ahead = (FORWARD_AT.load(Ordering::Relaxed)..BACK_AT.load(Ordering::Relaxed)).contains(&monotonic);
    monotonic + OFFSET_NANOS + if is_ahead { STEP_NANOS } else { 0 }
}

struct Stepping;

impl Clock for Stepping {
    fn monotonic_nanos(&self) -> i64 {
        Kernel.monotonic_nanos()
    }

    fn realtime_nanos(&self) -> i64 {
        on_realtime(self.monotonic_nanos())
    }

    fn stamp(&self, source: Box<dyn Source>) -> Box<dyn Source> {
        source
    }
}

/// A packet each millisecond or so, which waits, and when each that was read came on `CLOCK_MONOTONIC`.
struct Steady {
    waiting: VecDeque<i64>,
    came: Arc<Mutex<Vec<i64>>>,
}

impl Script for Steady {
    fn read(&mut self, each: &mut dyn FnMut(&Frame<'_>)) -> Result<bool, SourceError> {
        thread::sleep(Duration::from_millis(1));
        let now = clock::monotonic_nanos();
        self.waiting.push_back(now);
        while let Some(came) = self.waiting.pop_front_if(|came| *came <= now - WAIT_NANOS) {
            self.came.lock().unwrap().push(came);
            show(on_realtime(came), each);
        }
        Ok(true)
    }
}

/// Start and end of a slice, and when its rows came.
type Times = (i64, i64, Vec<i64>);

/// Slices on `CLOCK_MONOTONIC`, as a coordinator converts them.
#[derive(Clone, Default)]
struct Converted(Arc<Mutex<Vec<Times>>>);

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
fn rows_and_slices_keep_their_time_where_the_clock_is_set() {
    assert!(clock::install(Box::new(Stepping)), "the only test of this program");
    let (sink, came) = (Converted::default(), Arc::new(Mutex::new(Vec::new())));
    let script = Steady { waiting: VecDeque::new(), came: came.clone() };
    let begin = clock::monotonic_nanos();
    let end = begin + 1_500 * MS;
    FORWARD_AT.store(begin + 500 * MS, Ordering::Relaxed);
    BACK_AT.store(begin + 1_000 * MS, Ordering::Relaxed);
    let window = window();
    window.open(begin, end);
    record_script(script, sink.clone(), &window);
    let (came, slices) = (came.lock().unwrap().clone(), sink.0.lock().unwrap().clone());
    let shown: Vec<_> = slices.iter().map(|s| ((s.0 - begin) / MS, (s.1 - begin) / MS, s.2.len())).collect();
    let came: Vec<_> = came.into_iter().filter(|came| *came < end).collect();
    let rows: Vec<_> = slices.iter().flat_map(|slice| slice.2.iter().copied()).collect();
    assert_eq!(rows.len(), came.len(), "(from, to, rows) {shown:?}");
    let off: Vec<_> =
        rows.iter().zip(&came).map(|(row, came)| (row - came) / MS).filter(|off| *off != 0).collect();
    assert_eq!(off, [0; 0], "milliseconds by which rows are off: (from, to, rows) {shown:?}");
    let far = |from: i64, to: i64| from.abs_diff(to) >= MS.unsigned_abs();
    let apart = slices.windows(2).find(|pair| far(pair[0].1, pair[1].0));
    assert_eq!(apart.map(|pair| (pair[0].1 - begin, pair[1].0 - begin)), None, "slices meet: {shown:?}");
    assert!(!far(slices[0].0, begin) && !far(slices[slices.len() - 1].1, end), "{shown:?}");
}
