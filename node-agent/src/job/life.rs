//! The life of one job: armed, running, draining, completed. It goes on by itself once its window is known; losing
//! the coordinator does not stop it.

use std::sync::Arc;
use std::time::Duration;

use lastseen_proto::limits::{DURATION_NANOS, LEAD_NANOS, TAIL_NANOS};
use lastseen_runtime::telemetry::TRACE;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::{Instrument as _, info_span};

use super::arm::{Armed, arm};
use super::spec::Spec;
use super::status::{State, Status};
use super::trace::{self, Trace};
use super::{Command, Context};
use crate::clock;
use crate::conntrack::Told;

/// An armed job whose start never comes gives its rings back.
const COMMIT_DEADLINE: Duration = Duration::from_mins(1);
/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(1);
/// The farthest start.
const FARTHEST_NANOS: i64 = 24 * DURATION_NANOS;
/// Most coverage notes of one job.
const MAX_NOTES: usize = 32;

/// Runs a job from arming to its end.
pub(super) async fn live(context: Context, spec: Spec, commands: Receiver<Command>) {
    let span = trace::job(&context.node, &spec);
    traced(context, spec, commands).instrument(span).await;
}

async fn traced(context: Context, spec: Spec, mut commands: Receiver<Command>) {
    let capture = spec.capture.clone();
    let mut trace = Trace::here();
    match arm(&context, &spec).instrument(info_span!(target: TRACE, "arm")).await {
        Ok(armed) => {
            tracing::info!(capture, points = armed.points().len(), "armed");
            Job { context, capture, armed, reason: String::new(), translations: None, trace }
                .run(&mut commands)
                .await;
        }
        Err(reason) => {
            tracing::warn!(capture, reason, "cannot capture");
            trace.follow(State::Failed);
            context.board.post(Status::failed(capture, reason));
        }
    }
}

struct Job {
    context: Context,
    capture: String,
    armed: Armed,
    reason: String,
    translations: Option<Arc<Told>>,
    trace: Trace,
}

/// How waiting for the start ended.
enum Start {
    At { start: i64, end: i64 },
    Never(State, String),
}

impl Job {
    async fn run(mut self, commands: &mut Receiver<Command>) {
        self.post(State::Armed);
        let state = match self.start(commands).await {
            Start::At { start, end } => {
                self.open(start, end);
                self.record(end, commands).await
            }
            Start::Never(state, reason) => {
                self.reason = reason;
                self.armed.window.abandon();
                state
            }
        };
        // Rings are given back when the workers end.
        while let Some(note) = self.armed.notes.recv().await {
            self.note(note);
        }
        self.armed.rings = None;
        if state == State::Completed {
            self.tell_translations();
        }
        if state == State::Cancelled {
            self.context.spool.forget_soon(&self.capture);
        }
        tracing::info!(capture = self.capture, ?state, reason = self.reason, "ended");
        self.post(state);
        self.trace.finish(self.context.spool, self.capture);
    }

    async fn start(&mut self, commands: &mut Receiver<Command>) -> Start {
        let deadline = Instant::now() + COMMIT_DEADLINE;
        loop {
            let command = tokio::select! {
                command = commands.recv() => command,
                () = sleep_until(deadline) => {
                    return Start::Never(State::Failed, "armed, but no start came within 60 s".into());
                }
            };
            match command {
                Some(Command::Commit { start, end }) => match check(start, end) {
                    Ok(()) => return Start::At { start, end },
                    Err(reason) => return Start::Never(State::Failed, reason),
                },
                Some(Command::Arm) => self.post(State::Armed),
                Some(Command::End { .. }) => {
                    return Start::Never(State::Cancelled, "stopped before it started".into());
                }
                Some(Command::Shutdown) | None => {
                    return Start::Never(State::Failed, "the agent was stopped".into());
                }
            }
        }
    }

    fn open(&mut self, start: i64, end: i64) {
        let now = clock::monotonic_nanos();
        if now > start {
            self.note(format!("joined {} after the start", seconds(now - start)));
        }
        self.armed.window.open((start - LEAD_NANOS).max(now), end + TAIL_NANOS);
        self.post(State::Running);
    }

    /// From the commit to the last batch.
    async fn record(&mut self, mut end: i64, commands: &mut Receiver<Command>) -> State {
        let mut progress = interval(PROGRESS);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let window = self.armed.window.clone();
        let mut state = State::Running;
        loop {
            tokio::select! {
                note = self.armed.notes.recv() => match note {
                    Some(note) => self.note(note),
                    None => return State::Completed,
                },
                () = sleep_until(clock::instant(end)), if state == State::Running => {
                    state = State::Draining;
                    self.post(state);
                }
                () = window.spent.notified() => {
                    end = self.shorten(end, clock::monotonic_nanos(), "reached its limit of packets or bytes");
                }
                _ = progress.tick() => self.post(state),
                command = commands.recv() => match command {
                    Some(Command::End { at: Some(at) }) => end = self.shorten(end, at, "stopped"),
                    Some(Command::End { at: None }) => {
                        window.abandon();
                        self.reason = "cancelled".into();
                        return State::Cancelled;
                    }
                    Some(Command::Shutdown) | None => {
                        end = self.shorten(end, clock::monotonic_nanos(), "the agent was stopped");
                        // No time for the guard.
                        window.shorten(end);
                        return State::Completed;
                    }
                    // Said again after a reconnection; the first word counts.
                    Some(Command::Arm | Command::Commit { .. }) => self.post(state),
                }
            }
        }
    }

    /// Moves the end of the window forward to `at`, if that is earlier.
    fn shorten(&mut self, end: i64, at: i64, why: &str) -> i64 {
        let at = at.max(clock::monotonic_nanos() - TAIL_NANOS);
        if at < end {
            self.armed.window.shorten(at + TAIL_NANOS);
            self.reason = format!("{why} {} before the planned end", seconds(end - at));
            let reason = self.reason.clone();
            self.note(reason);
        }
        end.min(at)
    }

    fn tell_translations(&mut self) {
        let Some(tracker) = self.armed.tracker.take() else { return };
        let (told, trouble) = tracker.told();
        self.translations = Some(Arc::new(told));
        if let Some(trouble) = trouble {
            self.note(trouble);
        }
    }

    fn note(&mut self, note: String) {
        let coverage = &mut self.armed.coverage;
        if coverage.len() < MAX_NOTES && !coverage.contains(&note) {
            tracing::warn!(capture = self.capture, note, "coverage");
            coverage.push(note);
        }
    }

    fn post(&mut self, state: State) {
        self.trace.follow(state);
        self.context.board.post(Status {
            capture: self.capture.clone(),
            state,
            reason: self.reason.clone(),
            points: self.armed.points(),
            coverage: self.armed.coverage.clone(),
            translations: self.translations.clone(),
        });
    }
}

/// A window that this process can keep.
fn check(start: i64, end: i64) -> Result<(), String> {
    let now = clock::monotonic_nanos();
    let length = end.checked_sub(start).filter(|length| (1..=DURATION_NANOS).contains(length));
    if length.is_none() {
        return Err(format!("window: from {start} to {end} is not above 0 and at most 1 h"));
    }
    if !(now - FARTHEST_NANOS..=now + FARTHEST_NANOS).contains(&start) {
        return Err(
            "window: it starts more than 24 h away; is the coordinator's clock measurement right?".into()
        );
    }
    if end < now {
        return Err(format!("window: it ended {} ago", seconds(now - end)));
    }
    Ok(())
}

fn seconds(nanos: i64) -> String {
    format!("{:.1} s", nanos as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_that_cannot_be_kept_are_refused() {
        let now = clock::monotonic_nanos();
        assert!(check(now, now + 1_000_000_000).is_ok());
        assert!(check(now - 1_000_000_000, now + 1_000_000_000).is_ok());
        for (start, end) in
            [(now + 5, now + 5), (5, i64::MAX), (i64::MIN, i64::MAX), (now, now + 2 * DURATION_NANOS)]
        {
            assert!(check(start, end).unwrap_err().contains("not above 0"), "{start} {end}");
        }
        assert!(check(now - 9_000_000_000, now - 8_000_000_000).unwrap_err().contains("ago"));
        assert!(check(now + 25 * DURATION_NANOS, now + 26 * DURATION_NANOS).unwrap_err().contains("24 h"));
    }
}
