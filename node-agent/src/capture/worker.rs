//! A thread that reads several points: waits for packets on all of them, records what falls into the window.

use std::mem::take;
use std::sync::Arc;

use lastseen_packet::observation::{FlowKey, Observation};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::mpsc::Sender;

use super::backend::{Frame, Source, SourceError};
use super::counters::Counters;
use super::lens::{Lens, Seen};
use super::slices::{Sink, Slicer};
use super::stamps::{Stamps, is_step};
use super::window::Window;
use crate::clock;

/// Longest wait for packets: the slices' tick.
const WAIT_MILLIS: u16 = 50;
/// After the end of recording a block may still be open for its timeout; three of them are more than enough.
const FLUSH_NANOS: i64 = 60_000_000;

/// An observation point being read.
pub struct Point<S> {
    source: Box<dyn Source>,
    slicer: Slicer<S>,
    stamps: Stamps,
    phase: Phase,
    outage: Option<Outage>,
    /// When packets and drops were last let go, on `CLOCK_MONOTONIC`.
    let_go: i64,
    /// The handle is of no more use.
    is_gone: bool,
    /// A packet from behind the window came: everything inside was read.
    saw_end: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting,
    Recording,
    Finished,
}

/// A time in which a point sees nothing, and so says nothing about what passed.
#[derive(Clone, Copy)]
struct Outage {
    /// When it was noticed, on `CLOCK_MONOTONIC`. A packet stamped later ends the outage.
    since: i64,
    /// Packets dropped before it, since the last question.
    drops: u64,
    /// The slice before it has ended.
    is_cut: bool,
}

impl<S: Sink> Point<S> {
    /// A point that waits for its window.
    pub fn new(source: Box<dyn Source>, sink: S, dictionary_key: [u8; 16]) -> Self {
        Self {
            source,
            slicer: Slicer::new(sink, dictionary_key),
            stamps: Stamps::new(),
            phase: Phase::Waiting,
            outage: None,
            let_go: i64::MIN,
            is_gone: false,
            saw_end: false,
        }
    }
}

/// The moment of one turn.
struct Moment {
    monotonic: i64,
    /// `CLOCK_REALTIME` minus `CLOCK_MONOTONIC`.
    offset: i64,
    /// The window on `CLOCK_MONOTONIC`.
    recording: Option<(i64, i64)>,
}

/// Reads `points` until the window has passed or is abandoned. Tells `news` what went wrong on the way.
pub fn run<S: Sink>(mut points: Vec<Point<S>>, mut lens: Lens, window: &Arc<Window>, news: &Sender<String>) {
    let mut busy = false;
    while !window.is_abandoned() && points.iter().any(|p| p.phase != Phase::Finished) {
        if !busy {
            wait(&points);
        }
        let moment = Moment {
            monotonic: clock::monotonic_nanos(),
            offset: clock::realtime_minus_monotonic(),
            recording: window.recording(),
        };
        busy = false;
        lens.tick();
        for point in points.iter_mut().filter(|p| p.phase != Phase::Finished) {
            busy |= point.turn(&moment, &mut lens, window, news);
        }
    }
}

fn wait<S>(points: &[Point<S>]) {
    let open = points.iter().filter(|p| p.phase != Phase::Finished && !p.is_gone);
    let mut descriptors: Vec<_> = open.map(|p| PollFd::new(p.source.fd(), PollFlags::POLLIN)).collect();
    // An interrupted wait is a short one.
    let _ = poll(&mut descriptors, PollTimeout::from(WAIT_MILLIS));
}

impl<S: Sink> Point<S> {
    /// Reads what is there. True if more waits.
    fn turn(&mut self, moment: &Moment, lens: &mut Lens, window: &Window, news: &Sender<String>) -> bool {
        let offset = self.look_at_clock(moment);
        let Some((from, until)) = moment.recording.filter(|(from, _)| moment.monotonic >= *from) else {
            return self.idle(moment, news);
        };
        if self.phase == Phase::Waiting {
            self.phase = Phase::Recording;
            self.slicer.begin(from.max(self.let_go));
        }
        // What super-packets stand for, and so which of them to select, only the segment size tells.
        if self.source.gso_known() {
            self.slicer.select(lens.asked());
        }
        lens.select(self.slicer.threshold());
        let more = self.record((from, until), offset, lens, window, news);
        self.cut(moment, until, more, news);
        more && self.phase != Phase::Finished
    }

    /// Returns the offset of the slice. While the clocks only drift, rows bear the kernel's own stamps.
    fn look_at_clock(&mut self, moment: &Moment) -> i64 {
        let offset = self.slicer.offset(moment.offset);
        let is_step = is_step(offset, moment.offset);
        self.stamps.turn(moment.monotonic, if is_step { moment.offset } else { offset });
        offset
    }

    /// Before the window: packets are let go, and so are drops. The turn may last into the window, which the point then
    /// vouches for only from there on.
    fn idle(&mut self, moment: &Moment, news: &Sender<String>) -> bool {
        let Self { source, stamps, outage, .. } = self;
        let result = source.read(&mut |frame| {
            let time = stamps.monotonic(frame.time_nanos);
            *outage = outage.filter(|outage| time <= outage.since);
        });
        let more = self.outcome(result, news);
        let _ = self.drops(news);
        self.let_go = clock::monotonic_nanos();
        // A window that was closed before it opened never comes.
        if moment.recording.is_some_and(|(from, until)| until <= from) {
            self.phase = Phase::Finished;
        }
        more
    }

    fn record(
        &mut self,
        (from, until): (i64, i64),
        offset: i64,
        lens: &mut Lens,
        window: &Window,
        news: &Sender<String>,
    ) -> bool {
        let Self { source, slicer, stamps, saw_end, outage, .. } = self;
        let link = source.link();
        let (mut seen, mut recorded_bytes) = (Counters::default(), 0);
        let result = source.read(&mut |frame| {
            let time = stamps.monotonic(frame.time_nanos);
            *saw_end |= time >= until;
            if (from..until).contains(&time) {
                if outage.is_some_and(|outage| time > outage.since) {
                    resume(slicer, outage.take(), time);
                }
                let time_nanos = time.saturating_add(offset);
                let mut emit =
                    |flow: &FlowKey, row| slicer.rows.push(flow, Observation { time_nanos, ..row });
                let outcome = lens.look(link, frame, &mut emit);
                recorded_bytes += if outcome == Seen::Recorded { frame.bytes.len() as u64 } else { 0 };
                count(&mut seen, frame, outcome);
            }
        });
        slicer.counters += seen;
        window.spend(seen.recorded(), recorded_bytes);
        self.outcome(result, news)
    }

    fn cut(&mut self, moment: &Moment, until: i64, more: bool, news: &Sender<String>) {
        let now = moment.monotonic;
        if now >= until.saturating_add(FLUSH_NANOS) && (self.saw_end || !more) {
            let drops = self.drops(news);
            let end = self.outage.map_or(until, |outage| until.min(outage.since));
            self.slicer.finish(end, drops);
            self.phase = Phase::Finished;
        } else if self.outage.is_some() {
            self.cut_outage(now, until, news);
        } else if self.slicer.is_due(now) {
            self.tick(now, until, more, news);
        }
    }

    fn tick(&mut self, now: i64, until: i64, more: bool, news: &Sender<String>) {
        let last = self.stamps.last().saturating_add(1);
        let read_to = if more { last } else { last.max(now) };
        let until_now = || clock::monotonic_nanos().min(until);
        let before = until_now();
        let drops = self.drops(news);
        // Asking may have shown that the handle is dead: then the slice ends with the outage, not here.
        if self.outage.is_none() {
            self.slicer.tick(read_to.min(before), [before, until_now()], drops);
        }
    }

    /// Ends the slice where an outage began, once the block that was open then has been read.
    fn cut_outage(&mut self, now: i64, until: i64, news: &Sender<String>) {
        let due = |outage: &Outage| !outage.is_cut && now >= outage.since.saturating_add(FLUSH_NANOS);
        if let Some(outage) = self.outage.filter(due) {
            let drops = self.drops(news);
            self.slicer.pause(outage.since.min(until), drops);
            self.outage = Some(Outage { drops: 0, is_cut: true, ..outage });
        }
    }

    /// Packets dropped since the last question, those before an outage included.
    fn drops(&mut self, news: &Sender<String>) -> u64 {
        let before = self.outage.as_mut().map_or(0, |outage| take(&mut outage.drops));
        let result = self.source.drops();
        let since = result.unwrap_or_else(|error| {
            self.note(&error, news);
            0
        });
        before + since
    }

    fn outcome(&mut self, result: Result<bool, SourceError>, news: &Sender<String>) -> bool {
        result.unwrap_or_else(|error| {
            self.note(&error, news);
            false
        })
    }

    /// Begins an outage and says so; one that is gone is no longer waited for. What was dropped until now belongs to the
    /// slice that ends with it.
    fn note(&mut self, error: &SourceError, news: &Sender<String>) {
        if self.outage.is_none() {
            // Bounded: an interface that keeps going up and down needs no more notes than fit.
            let _ = news.try_send(error.to_string());
            let drops = self.source.drops().unwrap_or(0);
            self.outage = Some(Outage { since: clock::monotonic_nanos(), drops, is_cut: false });
        }
        self.is_gone |= matches!(error, SourceError::Gone { .. });
    }
}

/// A packet stamped `now` shows that the point sees again.
fn resume<S: Sink>(slicer: &mut Slicer<S>, outage: Option<Outage>, now: i64) {
    if let Some(outage) = outage.filter(|outage| !outage.is_cut) {
        slicer.pause(outage.since, outage.drops);
    }
    slicer.begin(now);
}

#[inline]
fn count(counters: &mut Counters, frame: &Frame<'_>, seen: Seen) {
    counters.received += 1;
    counters.bytes += frame.bytes.len() as u64;
    match seen {
        Seen::Recorded => {}
        Seen::Filtered => counters.filtered += 1,
        Seen::Own => counters.own_connections += 1,
        Seen::Undecoded => counters.undecoded += 1,
        Seen::Unreadable => counters.unreadable += 1,
        Seen::SampledOut => counters.sampled_out += 1,
    }
}

#[cfg(test)]
mod tests {
    use lastseen_packet::Gso;

    use super::*;

    #[test]
    fn every_packet_is_counted_in_one_place() {
        use Seen::{Filtered, Own, Recorded, SampledOut, Undecoded, Unreadable};
        let frame = Frame { bytes: &[0; 10], original_length: 10, time_nanos: 0, gso: Gso::UNKNOWN };
        let mut counters = Counters::default();
        for (times, outcome) in
            [Recorded, Filtered, Own, Undecoded, Unreadable, SampledOut].into_iter().enumerate()
        {
            (0..=times).for_each(|_| count(&mut counters, &frame, outcome));
        }
        let Counters { received, filtered, own_connections, undecoded, unreadable, bytes, .. } = counters;
        assert_eq!((filtered, own_connections, undecoded, unreadable), (2, 3, 4, 5));
        assert_eq!((counters.sampled_out, received, counters.recorded(), bytes), (6, 21, 1, 210));
    }
}
