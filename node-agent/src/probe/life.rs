//! The life of one source's part of a probe: run after run, each at its time.

use std::sync::Arc;
use std::time::Duration;

use lastseen_proto::place::Place;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::board::{Board, Status};
use super::report::Report;
use super::run::run;
use super::spec::{Schedule, Spec};
use crate::clock;

/// Names are resolved so long before a run begins.
const AHEAD: Duration = Duration::from_secs(1);

pub(super) struct Life {
    pub(super) spec: Arc<Spec>,
    pub(super) place: Place,
    /// When to run; a coordinator that knows this node's clock better says it anew.
    pub(super) times: watch::Receiver<Schedule>,
    pub(super) over: CancellationToken,
    pub(super) board: Board,
}

impl Life {
    /// Until the last run, or the end of the probe.
    pub(super) async fn live(mut self, entered: Result<(), String>) {
        let failure = entered.err();
        if let Some(reason) = &failure {
            tracing::warn!(probe = self.spec.probe, netns = %self.place, reason, "probe refused");
        }
        let is_armed = failure.is_none();
        self.board.post(Status { probe: self.spec.probe.clone(), place: self.place.clone(), failure });
        if is_armed {
            let over = self.over.clone();
            over.run_until_cancelled(self.runs()).await;
        }
    }

    async fn runs(&mut self) {
        let mut from = 0;
        loop {
            let schedule = *self.times.borrow_and_update();
            from = from.max(schedule.first_run);
            let Some(number) = schedule.next(from, clock::monotonic_nanos()) else { return };
            let begin = clock::instant(schedule.begin(number));
            tokio::select! {
                () = sleep_until(begin.checked_sub(AHEAD).unwrap_or(begin)) => {}
                changed = self.times.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
            }
            let spec = Spec { schedule, ..Spec::clone(&self.spec) };
            let ahead = begin.saturating_duration_since(Instant::now());
            let start = clock::realtime_nanos() + ahead.as_nanos() as i64;
            let results = run(&spec, &self.place, number, begin).await;
            let (probe, place) = (spec.probe.clone(), self.place.clone());
            self.board.report(Report { probe, run: number, place, start, results });
            from = number + 1;
        }
    }
}
