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
    /// `CLOCK_REALTIME` minus `CLOCK_MONOTONIC` when its first rows were read. All its times are by this, also those
    /// from before or after a step of `CLOCK_REALTIME`.
    pub realtime_minus_monotonic: i64,
    /// Of this slice alone.
    pub counters: Counters,
    /// By what its rows were selected.
    pub threshold: Threshold,
    /// Its rows. What waited in a block that the kernel still filled may be stamped before its begin, and after a slice
    /// with drops all that waited in the ring. Before a slice with drops, rows may be stamped after its end.
    pub columns: &'a Columns,
    /// Nothing follows.
    pub is_last: bool,
}

/// Where slices go.
pub trait Sink: Send {
    /// Takes a slice over, or returns false if there is no room for it. A last slice without rows is always taken.
    fn offer(&mut self, slice: &Slice<'_>) -> bool;

    /// By how many halvings less a slice that begins should select than was asked for.
    fn halvings(&self) -> u32 {
        0
    }
}

/// The slice being filled. Times given to it are nanoseconds on `CLOCK_MONOTONIC`.
pub struct Slicer<S> {
    sink: S,
    /// Rows so far.
    pub rows: ColumnsBuilder,
    /// Counted so far.
    pub counters: Counters,
    threshold: Threshold,
    offset: i64,
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
            offset: 0,
            start_nanos: 0,
            ticked_nanos: 0,
            at_tick,
        }
    }

    /// By what the rows of the slice are selected.
    pub fn threshold(&self) -> Threshold {
        self.threshold
    }

    /// The first slice begins, or the first after a [`Self::pause`].
    pub fn begin(&mut self, now_nanos: i64) {
        (self.start_nanos, self.ticked_nanos) = (now_nanos, now_nanos);
    }

    /// `CLOCK_REALTIME` minus `CLOCK_MONOTONIC`, by which its rows are to be stamped: `current` if it has none yet.
    pub fn offset(&mut self, current: i64) -> i64 {
        if self.rows.is_empty() {
            self.offset = current;
        }
        self.offset
    }

    /// Chooses what the rows to come are selected by, `asked` or what the sink bears of it; unless the slice has some
    /// already, or has counted some.
    pub fn select(&mut self, asked: Threshold) {
        if self.rows.is_empty() && self.counters == Counters::default() {
            self.threshold =
                Threshold::up_to(asked.largest_hash() >> self.sink.halvings().min(u64::BITS - 1));
        }
    }

    /// Whether it is time for [`Self::tick`].
    pub fn is_due(&self, now_nanos: i64) -> bool {
        now_nanos - self.ticked_nanos >= TICK_NANOS || self.rows.len() >= ROWS
    }

    /// Notes `drops`, which happened since the last tick, and ends the slice if it is full, old or had drops. It ends no
    /// later than `read_to`, until which packets were read. The time was `asked` before and after the kernel was asked
    /// for the drops: the thread may have stood still in between, so they belong to the time from before the last
    /// question until after this one.
    pub fn tick(&mut self, read_to: i64, asked: [i64; 2], drops: u64) {
        let read_to = read_to.max(self.start_nanos);
        let clean_to = self.ticked_nanos.min(read_to);
        if drops > 0 && self.start_nanos < clean_to {
            let since = self.counters - self.at_tick;
            self.counters = self.at_tick;
            let _ = self.end(clean_to, false);
            self.counters += since;
        }
        self.counters.kernel_drops += drops;
        let end = if drops > 0 { asked[1] } else { read_to };
        let longest = if self.rows.is_empty() { LONGEST_EMPTY_NANOS } else { LONGEST_NANOS };
        if drops > 0 || self.rows.len() >= ROWS || end - self.start_nanos >= longest {
            let _ = self.end(end, false);
        }
        self.ticked_nanos = asked[0];
        self.at_tick = self.counters;
    }

    /// Ends the slice at `at_nanos`: what follows until the next [`Self::begin`] belongs to none.
    pub fn pause(&mut self, at_nanos: i64, drops: u64) {
        self.tick(at_nanos, [at_nanos; 2], drops);
        let _ = self.end(at_nanos, false);
        // What was refused is missing before it, and not after.
        self.at_tick = self.counters;
    }

    /// The last slice ends.
    pub fn finish(&mut self, now_nanos: i64, drops: u64) {
        self.tick(now_nanos, [now_nanos; 2], drops);
        // Refused with its rows, it goes without them: the next attempt is always taken.
        let _ = self.end(now_nanos, true) || self.end(now_nanos, true);
    }

    /// Without room the slice goes on, without its rows.
    fn end(&mut self, now_nanos: i64, is_last: bool) -> bool {
        let end_nanos = now_nanos.max(self.start_nanos);
        let slice = Slice {
            start_nanos: self.start_nanos.saturating_add(self.offset),
            end_nanos: end_nanos.saturating_add(self.offset),
            realtime_minus_monotonic: self.offset,
            counters: self.counters,
            threshold: self.threshold,
            columns: self.rows.columns(),
            is_last,
        };
        let taken = self.sink.offer(&slice);
        if taken {
            self.start_nanos = end_nanos;
            let _ = take(&mut self.counters);
        } else {
            self.counters.agent_drops += self.rows.len() as u64;
            // What is missing now, slices before may vouch for.
            let earliest = self.rows.columns().time_nanos.iter().min();
            let earliest = earliest.map_or(i64::MAX, |time| time.saturating_sub(self.offset));
            self.start_nanos = self.start_nanos.min(earliest);
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
        see_at(slicer, packets, slicer.start_nanos);
    }

    fn see_at(slicer: &mut Slicer<Collected>, packets: u64, time_nanos: i64) {
        for _ in 0..packets {
            slicer.rows.push(&FlowKey::UNSPECIFIED, Observation { time_nanos, ..Observation::default() });
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
        slicer.tick(1050 * MS, [1050 * MS; 2], 0);
        see(&mut slicer, 2);
        slicer.tick(1100 * MS, [1100 * MS; 2], 7);
        slicer.finish(1120 * MS, 0);
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
        slicer.tick(1050 * MS, [1050 * MS, 1250 * MS], 0);
        slicer.tick(1300 * MS, [1300 * MS, 1500 * MS], 7);
        slicer.tick(1510 * MS, [1510 * MS, 1520 * MS], 3);
        slicer.finish(1600 * MS, 0);
        let slices = sink.0.lock().unwrap().0.clone();
        let slices: Vec<_> = slices.iter().map(|s| (s.0 / MS, s.1 / MS, s.2.kernel_drops)).collect();
        assert_eq!(slices, [(1000, 1050, 0), (1050, 1500, 7), (1500, 1520, 3), (1520, 1600, 0)]);
    }

    #[test]
    fn idle_slices_are_long_and_meet_without_gaps() {
        let (mut slicer, sink) = started();
        for tick in 1..=50 {
            slicer.tick((1000 + tick * 50) * MS, [(1000 + tick * 50) * MS; 2], 0);
        }
        slicer.finish(3510 * MS, 0);
        let times: Vec<_> = sink.0.lock().unwrap().0.iter().map(|s| (s.0 / MS, s.1 / MS)).collect();
        assert_eq!(times, [(1000, 2000), (2000, 3000), (3000, 3510)]);
    }

    #[test]
    fn rows_without_room_are_counted_and_the_slice_goes_on() {
        let (mut slicer, sink) = started();
        sink.0.lock().unwrap().1 = true;
        see(&mut slicer, 5);
        slicer.tick(1300 * MS, [1300 * MS; 2], 0);
        see(&mut slicer, 2);
        slicer.finish(1400 * MS, 0);
        let slices = sink.0.lock().unwrap().0.clone();
        assert_eq!(slices.len(), 1);
        let (start, end, counters, rows) = slices[0];
        assert_eq!((start / MS, end / MS, rows), (1000, 1400, 0));
        assert_eq!((counters.received, counters.agent_drops), (7, 7));
    }

    #[test]
    fn no_slice_vouches_for_packets_that_still_wait() {
        let (mut slicer, sink) = started();
        see(&mut slicer, ROWS as u64);
        slicer.tick(1020 * MS, [1400 * MS; 2], 0);
        see(&mut slicer, 5);
        slicer.tick(1060 * MS, [1460 * MS; 2], 7);
        slicer.finish(1500 * MS, 0);
        let slices = sink.0.lock().unwrap().0.clone();
        let slices: Vec<_> = slices.iter().map(|s| (s.0 / MS, s.1 / MS, s.2.kernel_drops)).collect();
        assert_eq!(slices, [(1000, 1020, 0), (1020, 1060, 0), (1060, 1460, 7), (1460, 1500, 0)]);
    }

    #[test]
    fn doubt_reaches_back_to_the_rows_without_room() {
        let (mut slicer, sink) = started();
        slicer.tick(1300 * MS, [1300 * MS; 2], 7);
        sink.0.lock().unwrap().1 = true;
        see_at(&mut slicer, 5, 1100 * MS);
        slicer.tick(1600 * MS, [1600 * MS; 2], 0);
        slicer.finish(1700 * MS, 0);
        let slices = sink.0.lock().unwrap().0.clone();
        let slices: Vec<_> = slices.iter().map(|s| (s.0 / MS, s.1 / MS, s.2.agent_drops)).collect();
        assert_eq!(slices, [(1000, 1300, 0), (1100, 1700, 5)]);
    }

    #[test]
    fn an_offset_lasts_as_long_as_the_rows_stamped_by_it() {
        let (mut slicer, sink) = started();
        assert_eq!(slicer.offset(100 * MS), 100 * MS);
        see(&mut slicer, 1);
        assert_eq!(slicer.offset(900 * MS), 100 * MS);
        slicer.tick(1300 * MS, [1300 * MS; 2], 0);
        assert_eq!(slicer.offset(900 * MS), 900 * MS);
        slicer.finish(1400 * MS, 0);
        let times: Vec<_> = sink.0.lock().unwrap().0.iter().map(|s| (s.0 / MS, s.1 / MS)).collect();
        assert_eq!(times, [(1100, 1400), (2200, 2300)]);
    }

    #[test]
    fn a_pause_belongs_to_no_slice() {
        let (mut slicer, sink) = started();
        see(&mut slicer, 2);
        slicer.pause(1100 * MS, 0);
        slicer.begin(1500 * MS);
        see(&mut slicer, 3);
        slicer.finish(1600 * MS, 0);
        let slices = sink.0.lock().unwrap().0.clone();
        let slices: Vec<_> = slices.iter().map(|s| (s.0 / MS, s.1 / MS, s.3)).collect();
        assert_eq!(slices, [(1000, 1100, 2), (1500, 1600, 3)]);
    }

    #[test]
    fn rows_without_room_at_a_pause_are_told_in_the_time_before_it() {
        let (mut slicer, sink) = started();
        sink.0.lock().unwrap().1 = true;
        see(&mut slicer, 5);
        slicer.pause(1100 * MS, 0);
        sink.0.lock().unwrap().1 = false;
        // The interface never came back.
        slicer.finish(1100 * MS, 3);
        let slices = sink.0.lock().unwrap().0.clone();
        let slices: Vec<_> =
            slices.iter().map(|s| (s.0 / MS, s.1 / MS, s.2.received, s.2.agent_drops)).collect();
        assert_eq!(slices[0], (1000, 1100, 5, 5), "{slices:?}");
        assert!(slices[1..].iter().all(|slice| (slice.2, slice.3) == (0, 0)), "{slices:?}");
    }

    #[test]
    fn a_full_slice_is_due_at_once() {
        let (mut slicer, sink) = started();
        see(&mut slicer, ROWS as u64);
        assert!(slicer.is_due(1001 * MS));
        slicer.tick(1001 * MS, [1001 * MS; 2], 0);
        assert_eq!(sink.0.lock().unwrap().0.len(), 1);
        assert!(!slicer.is_due(1002 * MS));
    }
}
