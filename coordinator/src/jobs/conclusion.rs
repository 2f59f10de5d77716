//! The end of a capture: what was observed becomes a report, and the report is stored. What it needs may be away for a
//! while, and then it waits: every batch is on stable storage, and there is no second chance for the report.

use std::time::Duration;

use lastseen_runtime::telemetry::TRACE;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info_span};

use super::Services;
use super::actor::Event;
use crate::error::Error;
use crate::model::Capture;
use crate::store::{Results, StoreError};

/// How long it waits for a database or an object store. Longer is no passing trouble.
const PATIENCE: Duration = Duration::from_hours(1);
/// Before the second attempt; each further one waits twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Makes the report of one capture.
pub(super) struct Conclusion {
    pub(super) services: Services,
    pub(super) capture: Capture,
    pub(super) stopping: CancellationToken,
    /// The actor, which waits for this and nothing else.
    pub(super) itself: mpsc::WeakSender<Event>,
}

/// What was done of it.
#[derive(Default)]
struct Progress {
    is_counted: bool,
    results: Option<Results>,
}

impl Conclusion {
    /// Until the actor is told how it ended, or that somebody else goes on.
    pub(super) async fn run(self) {
        self.services.ingest.close_capture(&self.capture.id).await;
        let result = match self.conclude().await {
            // The next process makes it again.
            Err(Error::Stopping | Error::Store(StoreError::Fenced { .. })) => return,
            Err(Error::Exhausted(reason)) => Err(reason),
            other => other.map_err(|error| format!("correlation failed: {error}")),
        };
        self.services.metrics.failed_correlations.inc_by(u64::from(result.is_err()));
        self.tell(Event::Correlated(result)).await;
    }

    async fn conclude(&self) -> Result<(), Error> {
        let (mut progress, mut pause, began) = (Progress::default(), FIRST_PAUSE, Instant::now());
        loop {
            let error = match self.attempt(&mut progress).await {
                Err(error) if error.passes() && began.elapsed() < PATIENCE => error,
                Err(Error::Stopping) => return self.call_off(&progress).await,
                done => return done,
            };
            tracing::warn!(capture = self.capture.id, %error, "the report waits, and is tried again");
            self.tell(Event::Postponed(error.to_string())).await;
            if self.stopping.run_until_cancelled(sleep(pause)).await.is_none() {
                return self.call_off(&progress).await;
            }
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
    }

    async fn attempt(&self, progress: &mut Progress) -> Result<(), Error> {
        let results = if let Some(results) = progress.results.take() {
            results
        } else {
            let concluding =
                self.services.analysis.conclude(&self.capture, &mut progress.is_counted, &self.stopping);
            concluding.await?.into_results()
        };
        let results = progress.results.insert(results);
        let storing = self.services.store.save_results(&self.capture.id, results);
        Ok(storing.instrument(info_span!(target: TRACE, "store")).await?)
    }

    async fn call_off(&self, progress: &Progress) -> Result<(), Error> {
        if progress.is_counted
            && let Err(error) = self.services.analysis.call_off(&self.capture).await
        {
            tracing::warn!(capture = self.capture.id, %error, "a run that was called off counts as broken off");
        }
        Err(Error::Stopping)
    }

    /// An actor that calls this off waits for its end, and reads no events meanwhile.
    async fn tell(&self, event: Event) {
        if let Some(itself) = self.itself.upgrade() {
            let _ = self.stopping.run_until_cancelled(itself.send(event)).await;
        }
    }
}
