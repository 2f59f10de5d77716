//! What leaves the store: captures that are too old or too many, and observation files that no row knows.
//!
//! Every coordinator looks, and one at a time deletes. Rows go first, in one transaction, and then files: nothing that is
//! shown ever lacks its observations, and what a crash leaves in between is garbage, which is collected.

pub mod inventory;
mod plan;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use plan::Held;
pub use plan::{Policy, Reason};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::files::Files;
use crate::jobs::{Jobs, Services};
use crate::limits;

/// Deletes what the policy says, again and again.
pub struct Retention {
    services: Services,
    jobs: Jobs,
    files: Files,
    policy: Policy,
    /// Bytes of captures that have ended, which do not change any more.
    ended: HashMap<String, u64>,
}

impl Retention {
    /// With nothing looked at yet.
    pub fn new(services: Services, jobs: Jobs, files: Files, policy: Policy) -> Self {
        Self { services, jobs, files, policy, ended: HashMap::new() }
    }

    /// Now and every minute, until `stopping` is cancelled; garbage, which takes a list of every file, every hour.
    pub async fn run(mut self, stopping: CancellationToken) {
        let rounds = limits::GARBAGE_INTERVAL.as_secs() / limits::RETENTION_INTERVAL.as_secs();
        let mut ticks = interval(limits::RETENTION_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for round in 0_u64.. {
            let sweep = async {
                ticks.tick().await;
                self.sweep(round.is_multiple_of(rounds)).await
            };
            match stopping.run_until_cancelled(sweep).await {
                None => return,
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    tracing::error!(%error, "old captures and files without a row could not be deleted now");
                }
            }
        }
    }

    /// Once. A capture that cannot be deleted holds up no other.
    async fn sweep(&mut self, with_garbage: bool) -> Result<(), Error> {
        let held = self.held().await?;
        let bytes: u64 = held.iter().map(|held| held.bytes).sum();
        self.services.metrics.stored_bytes.set(bytes as i64);
        let due = plan::due(&held, &self.policy, self.services.clock.now());
        if due.is_empty() && !with_garbage {
            return self.sweep_probes().await;
        }
        let Some(_alone) = self.services.store.alone().await? else { return Ok(()) };
        for (capture, reason) in due {
            match self.jobs.delete(capture).await {
                Ok(()) => {
                    tracing::info!(capture, reason = reason.name(), "capture deleted");
                    self.services.metrics.expired(reason.name());
                }
                Err(Error::NoCapture(_)) => {}
                Err(error) => tracing::error!(capture, %error, "capture could not be deleted"),
            }
        }
        if with_garbage {
            let removed =
                inventory::collect(self.services.store.as_ref(), &self.files, limits::GARBAGE_AGE).await?;
            if removed.count > 0 {
                self.services.metrics.collected_files.inc_by(removed.count);
                let (files, bytes) = (removed.count, removed.bytes);
                tracing::info!(files, bytes, "observation files without a row are gone");
            }
        }
        self.sweep_probes().await
    }

    /// Probes that ended too long ago.
    async fn sweep_probes(&self) -> Result<(), Error> {
        let oldest = self.policy.oldest(self.services.clock.now());
        while self.services.store.delete_probe(oldest).await? {}
        Ok(())
    }

    /// Every capture, the one that ended first at the front.
    async fn held(&mut self) -> Result<Vec<Held>, Error> {
        let store = Arc::clone(&self.services.store);
        let mut held = Vec::new();
        let mut ended = HashMap::new();
        for capture in store.ages().await? {
            let bytes = match self.ended.get(&capture.id) {
                Some(bytes) => *bytes,
                None => store.stored_bytes(&capture.id).await?,
            };
            if capture.is_ended {
                ended.insert(capture.id.clone(), bytes);
            }
            let ended_at_nanos = capture.is_ended.then_some(capture.until_nanos);
            held.push(Held { id: capture.id, ended_at_nanos, bytes });
        }
        self.ended = ended;
        Ok(held)
    }
}

/// Deletes and keeps by these rules as a task of its own.
pub fn start(retention: Retention, stopping: CancellationToken) {
    tokio::spawn(retention.run(stopping));
}

impl Policy {
    /// What ended before then is too old.
    fn oldest(&self, now_nanos: i64) -> i64 {
        now_nanos.saturating_sub(self.age_nanos)
    }

    /// Keeps captures for `age`, and no more than `bytes` of observations.
    pub fn new(age: Duration, bytes: Option<u64>) -> Self {
        Self { age_nanos: i64::try_from(age.as_nanos()).unwrap_or(i64::MAX), bytes }
    }
}
