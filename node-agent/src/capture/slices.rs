//! Cuts what one point sees into slices of time that meet without gaps while it can see, each with its own counters.
//!
//! The kernel reports drops as a count since the last question, so the question is asked every [`TICK_NANOS`] and a
//! tick with drops becomes a slice of its own: what was captured before it stays free of doubt.

use std::mem::take;

use lastseen_packet::Threshold;
use lastseen_packet::observation::{Columns, ColumnsBuilder};

use super::counters::Counters;

/// How finely drops are told apart in time.
pub const TICK_NANOS: i64 = 50_000_000;
/// A slice with rows is not held back longer.
const LONGEST_NANOS: i64 = 250_000_000;
/// Nor one without: the counters show that the point was watching.
const LONGEST_EMPTY_NANOS: i64 = 1_000_000_000;
/// Rows after which a slice ends.
pub const ROWS: usize = 4096;

/// A finished slice.
#[derive(Debug)]
pub struct Slice<'a> {
    /// Begin on `CLOCK_REALTIME`, nanoseconds since 1970.
    pub start_nanos: i64,
    /// End, exclusive.
    pub end_nanos: i64,
    /// `CLOCK_REALTIME` minus `CLOCK_MONOTONIC` at its end.
    pub realtime_minus_monotonic: i64,
    /// Of this slice alone.
    pub counters: Counters,
    /// By what its rows were selected.
    pub threshold: Threshold,
    /// Its rows. They are stamped before its end; one that waited in a block may be stamped just before its begin.
    pub columns: &'a Columns,
    /// Nothing follows.
    pub is_last: bool,
}

/// Where slices go.
pub trait Sink: Send {
    /// Takes a slice over, or returns false if there is no room for it. A last slice without rows is always taken.
    fn offer(&mut self, slice: &Slice<'_>) -> bool;
}

/// The slice being filled.
pub struct Slicer<S> {
    sink: S,
    /// Rows so far.
    pub rows: ColumnsBuilder,
    /// Counted so far.
    pub counters: Counters,
    /// By what the rows of the slice are selected; to be changed only between slices.
    pub threshold: Threshold,
    start_nanos: i64,
    ticked_nanos: i64,
    at_tick: Counters,
}

impl<S: Sink> Slicer<S> {
    /// Nothing yet. `key` protects the flow dictionary.
    pub fn new(sink: S, key: [u8; 16]) -> Self {
        let (counters, at_tick) = (Counters::default(), Counters::default());
        Self {
            sink,
            rows: ColumnsBuilder::new(256, key),
            counters,
            threshold: Threshold::ALL,
            start_nanos: 0,
            ticked_nanos: 0,
            at_tick,
        }
    }

    /// The first slice begins, or the first after a [`Self::pause`].
    pub fn begin(&mut self, now_nanos: i64) {
        (self.start_nanos, self.ticked_nanos) = (now_nanos, now_nanos);
    }

    /// Whether it is time for [`Self::tick`].
    pub fn is_due(&self, now_nanos: i64) -> bool {
        // After a step back of the clock the difference is negative; then at once.
        !(0..TICK_NANOS).contains(&(now_nanos - self.ticked_nanos)) || self.rows.len() >= ROWS
    }

    /// Notes `drops`, which happened since the last tick, and ends the slice if it is full, old or had drops. The time
    /// was `asked` before and after the kernel was asked for them. The thread may have stood still in between, so drops
    /// belong to the time from before the last question until after this one.
    pub fn tick(&mut self, asked: [i64; 2], offset: i64, drops: u64) {
        let now_nanos = asked[usize::from(drops > 0)];
        if drops > 0 && self.start_nanos < self.ticked_nanos {
            let since = self.counters - self.at_tick;
            self.counters = self.at_tick;
            let _ = self.end(self.ticked_nanos, offset, false);
            self.counters += since;
        }
        self.counters.kernel_drops += drops;
        let longest = if self.rows.is_empty() { LONGEST_EMPTY_NANOS } else { LONGEST_NANOS };
        if drops > 0 || self.rows.len() >= ROWS || !(0..longest).contains(&(now_nanos - self.start_nanos)) {
            let _ = self.end(now_nanos, offset, false);
        }
        self.ticked_nanos = asked[0];
        self.at_tick = self.counters;
    }

    /// Ends the slice at `at_nanos`: what follows until the next [`Self::begin`] belongs to none.
    pub fn pause(&mut self, at_nanos: i64, offset: i64, drops: u64) {
        self.tick([at_nanos; 2], offset, drops);
        let _ = self.end(at_nanos, offset, false);
    }

    /// The last slice ends.
    pub fn finish(&mut self, now_nanos: i64, offset: i64, drops: u64) {
        self.tick([now_nanos; 2], offset, drops);
        // Refused with its rows, it goes without them: the next attempt is always taken.
        let _ = self.end(now_nanos, offset, true) || self.end(now_nanos, offset, true);
    }

    /// Without room the slice goes on, without its rows.
    fn end(&mut self, now_nanos: i64, realtime_minus_monotonic: i64, is_last: bool) -> bool {
        let slice = Slice {
            start_nanos: self.start_nanos,
            end_nanos: now_nanos.max(self.start_nanos),
            realtime_minus_monotonic,
            counters: self.counters,
            threshold: self.threshold,
            columns: self.rows.columns(),
            is_last,
        };
        let taken = self.sink.offer(&slice);
        if taken {
            self.start_nanos = slice.end_nanos;
            let _ = take(&mut self.counters);
        } else {
            self.counters.agent_drops += self.rows.len() as u64;
        }
        self.rows.clear();
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use lastseen_packet::observation::{FlowKey, Observation};

    use super::*;

    /// Start, end, counters and rows of a slice.
    type Taken = (i64, i64, Counters, usize);

    #[derive(Clone, Default)]
    struct Collected(Arc<Mutex<(Vec<Taken>, bool)>>);

    impl Sink for Collected {
        fn offer(&mut self, slice: &Slice<'_>) -> bool {
            let mut state = self.0.lock().unwrap();
            if state.1 && !(slice.is_last && slice.columns.is_empty()) {
                return false;
            }
            state.0.push((slice.start_nanos, slice.end_nanos, slice.counters, slice.columns.len()));
            true
        }
    }

    const MS: i64 = 1_000_000;

    fn see(slicer: &mut Slicer<Collected>, packets: u64) {
        for _ in 0..packets {
            slicer.rows.push(&FlowKey::UNSPECIFIED, Observation::default());
        }
        slicer.counters.received += packets;
    }

    fn started() -> (Slicer<Collected>, Collected) {
        let sink = Collected::default();
        let mut slicer = Slicer::new(sink.clone(), [0; 16]);
        slicer.begin(1000 * MS);
        (slicer, sink)
    }

    #[test]
    fn a_tick_with_drops_is_a_slice_of_its_own() {
        let (mut slicer, sink) = started();
        see(&mut slicer, 3);
        slicer.tick([1050 * MS; 2], 0, 0);
        see(&mut slicer, 2);
        slicer.tick([1100 * MS; 2], 0, 7);
        slicer.finish(1120 * MS, 0, 0);
        let slices = sink.0.lock().unwrap().0.clone();
        let times: Vec<_> = slices.iter().map(|s| (s.0 / MS, s.1 / MS)).collect();
        assert_eq!(times, [(1000, 1050), (1050, 1100), (1100, 1120)]);
        let counts: Vec<_> = slices.iter().map(|s| (s.2.received, s.2.kernel_drops)).collect();
        assert_eq!(counts, [(3, 0), (2, 7), (0, 0)]);
        assert_eq!(slices.iter().map(|s| s.3).sum::<usize>(), 5);
    }

    #[test]
    fn drops_belong_to_the_time_between_the_two_questions_even_if_the_thread_stood_still() {
        let (mut slicer, sink) = started();
        slicer.tick([1050 * MS, 1250 * MS], 0, 0);
        slicer.tick([1300 * MS, 1500 * MS], 0, 7);
        slicer.tick([1510 * MS, 1520 * MS], 0, 3);
        slicer.finish(1600 * MS, 0, 0);
        let slices = sink.0.lock().unwrap().0.clone();
        let slices: Vec<_> = slices.iter().map(|s| (s.0 / MS, s.1 / MS, s.2.kernel_drops)).collect();
        assert_eq!(slices, [(1000, 1050, 0), (1050, 1500, 7), (1500, 1520, 3), (1520, 1600, 0)]);
    }

    #[test]
    fn idle_slices_are_long_and_meet_without_gaps() {
        let (mut slicer, sink) = started();
        for tick in 1..=50 {
            slicer.tick([(1000 + tick * 50) * MS; 2], 0, 0);
        }
        slicer.finish(3510 * MS, 0, 0);
        let times: Vec<_> = sink.0.lock().unwrap().0.iter().map(|s| (s.0 / MS, s.1 / MS)).collect();
        assert_eq!(times, [(1000, 2000), (2000, 3000), (3000, 3510)]);
    }

    #[test]
    fn rows_without_room_are_counted_and_the_slice_goes_on() {
        let (mut slicer, sink) = started();
        sink.0.lock().unwrap().1 = true;
        see(&mut slicer, 5);
        slicer.tick([1300 * MS; 2], 0, 0);
        see(&mut slicer, 2);
        slicer.finish(1400 * MS, 0, 0);
        let slices = sink.0.lock().unwrap().0.clone();
        assert_eq!(slices.len(), 1);
        let (start, end, counters, rows) = slices[0];
        assert_eq!((start / MS, end / MS, rows), (1000, 1400, 0));
        assert_eq!((counters.received, counters.agent_drops), (7, 7));
    }

    #[test]
    fn a_pause_belongs_to_no_slice() {
        let (mut slicer, sink) = started();
        see(&mut slicer, 2);
        slicer.pause(1100 * MS, 0, 0);
        slicer.begin(1500 * MS);
        see(&mut slicer, 3);
        slicer.finish(1600 * MS, 0, 0);
        let slices = sink.0.lock().unwrap().0.clone();
        let slices: Vec<_> = slices.iter().map(|s| (s.0 / MS, s.1 / MS, s.3)).collect();
        assert_eq!(slices, [(1000, 1100, 2), (1500, 1600, 3)]);
    }

    #[test]
    fn a_full_slice_is_due_at_once() {
        let (mut slicer, sink) = started();
        see(&mut slicer, ROWS as u64);
        assert!(slicer.is_due(1001 * MS));
        slicer.tick([1001 * MS; 2], 0, 0);
        assert_eq!(sink.0.lock().unwrap().0.len(), 1);
        assert!(!slicer.is_due(1002 * MS));
    }
}
