//! A thread that reads several points: waits for packets on all of them, records what falls into the window.

use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::mpsc::Sender;

use super::backend::{Frame, Source, SourceError};
use super::counters::Counters;
use super::lens::{Lens, Seen};
use super::slices::{Sink, Slicer};
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
    phase: Phase,
    is_down: bool,
    /// A packet from behind the window came: everything inside was read.
    saw_end: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting,
    Recording,
    Finished,
}

impl<S: Sink> Point<S> {
    /// A point that waits for its window.
    pub fn new(source: Box<dyn Source>, sink: S, dictionary_key: [u8; 16]) -> Self {
        Self {
            source,
            slicer: Slicer::new(sink, dictionary_key),
            phase: Phase::Waiting,
            is_down: false,
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
        for point in points.iter_mut().filter(|p| p.phase != Phase::Finished) {
            busy |= point.turn(&moment, &mut lens, window, news);
        }
    }
}

fn wait<S>(points: &[Point<S>]) {
    let open = points.iter().filter(|p| p.phase != Phase::Finished && !p.is_down);
    let mut descriptors: Vec<_> = open.map(|p| PollFd::new(p.source.fd(), PollFlags::POLLIN)).collect();
    // An interrupted wait is a short one.
    let _ = poll(&mut descriptors, PollTimeout::from(WAIT_MILLIS));
}

impl<S: Sink> Point<S> {
    /// Reads what is there. True if more waits.
    fn turn(&mut self, moment: &Moment, lens: &mut Lens, window: &Window, news: &Sender<String>) -> bool {
        let Some((from, until)) = moment.recording.filter(|(from, _)| moment.monotonic >= *from) else {
            return self.idle(moment, news);
        };
        let on_wall = |monotonic: i64| monotonic.saturating_add(moment.offset);
        if self.phase == Phase::Waiting {
            self.phase = Phase::Recording;
            self.slicer.begin(on_wall(from));
        }
        let more = self.record(on_wall(from), on_wall(until), lens, window, news);
        self.cut(moment, until, more, news);
        more && self.phase != Phase::Finished
    }

    /// Before the window: packets are let go. So are drops, but for those since the last look, which may have happened
    /// inside.
    fn idle(&mut self, moment: &Moment, news: &Sender<String>) -> bool {
        let more = self.read(&mut |_| {}, news);
        let _ = self.drops(news);
        // A window that was closed before it opened never comes.
        if moment.recording.is_some_and(|(from, until)| until <= from) {
            self.phase = Phase::Finished;
        }
        more
    }

    fn record(
        &mut self,
        from: i64,
        until: i64,
        lens: &mut Lens,
        window: &Window,
        news: &Sender<String>,
    ) -> bool {
        let Self { source, slicer, saw_end, .. } = self;
        let link = source.link();
        let (mut seen, mut recorded_bytes) = (Counters::default(), 0);
        let rows = &mut slicer.rows;
        let result = source.read(&mut |frame| {
            *saw_end |= frame.time_nanos >= until;
            if (from..until).contains(&frame.time_nanos) {
                let outcome = lens.look(link, frame, &mut |flow, row| rows.push(flow, row));
                recorded_bytes += if outcome == Seen::Recorded { frame.bytes.len() as u64 } else { 0 };
                count(&mut seen, frame, outcome);
            }
        });
        slicer.counters += seen;
        window.spend(seen.received - seen.filtered - seen.own_connections - seen.undecoded, recorded_bytes);
        self.outcome(result, news)
    }

    fn cut(&mut self, moment: &Moment, until: i64, more: bool, news: &Sender<String>) {
        let (now, offset) = (moment.monotonic + moment.offset, moment.offset);
        if moment.monotonic >= until.saturating_add(FLUSH_NANOS) && (self.saw_end || !more) {
            let drops = self.drops(news);
            self.slicer.finish(until.saturating_add(offset), offset, drops);
            self.phase = Phase::Finished;
        } else if self.slicer.is_due(now) {
            let drops = self.drops(news);
            self.slicer.tick(now.min(until.saturating_add(offset)), offset, drops);
        }
    }

    fn read(&mut self, each: &mut dyn FnMut(&Frame<'_>), news: &Sender<String>) -> bool {
        let result = self.source.read(each);
        self.outcome(result, news)
    }

    fn drops(&mut self, news: &Sender<String>) -> u64 {
        let result = self.source.drops();
        result.unwrap_or_else(|error| {
            self.note(&error, news);
            0
        })
    }

    fn outcome(&mut self, result: Result<bool, SourceError>, news: &Sender<String>) -> bool {
        result.unwrap_or_else(|error| {
            self.note(&error, news);
            false
        })
    }

    /// Says once that a point is down; one that is gone is no longer waited for.
    fn note(&mut self, error: &SourceError, news: &Sender<String>) {
        if !self.is_down {
            // Bounded: an interface that keeps going up and down needs no more notes than fit.
            let _ = news.try_send(error.to_string());
        }
        self.is_down |= matches!(error, SourceError::Gone { .. });
    }
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
        Seen::Unreadable => {
            counters.undecoded += 1;
            counters.unreadable += 1;
        }
    }
}
