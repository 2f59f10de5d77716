//! Several coordinators over one database. Each capture is led by one of them, by a lease that it renews; the others
//! follow it, so that agents and people may talk to any. A lease that is not renewed passes on, with all that happened.
//! What the former leader still writes is refused by the database, see [`crate::store::Fence`].

mod clock;
mod ear;
pub mod lease;
pub(crate) mod letters;
mod mailbox;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub use lease::{Lease, Leases};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::fleet::Command;
use crate::jobs::Jobs;
use crate::limits;
use crate::store::cluster::CommandRow;
use crate::store::{Fence, Shared, StoreError};

/// A lease whose row was being written is renewed after this time.
const SKIPPED: Duration = Duration::from_millis(50);

/// This coordinator among the others.
#[derive(Clone)]
pub struct Cluster {
    shared: Shared,
    leases: Leases,
    /// The others think that this process is gone, with its agents.
    was_forgotten: Arc<AtomicBool>,
}

impl Cluster {
    /// Over this database.
    pub fn new(shared: Shared) -> Self {
        Self { shared, leases: Leases::default(), was_forgotten: Arc::default() }
    }

    /// The database as the place where coordinators meet.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Takes its place: follows the database's clock, takes up what nobody leads and follows the rest. Goes on until
    /// `stopping`.
    pub(crate) async fn join(&self, jobs: &Jobs, stopping: &CancellationToken) -> Result<(), Error> {
        let clock = clock::Follower::start(self.shared.clone(), jobs.clock().clone()).await?;
        tokio::spawn(clock.run(stopping.clone()));
        self.shared.renew(&[]).await?;
        tracing::info!(coordinator = self.shared.id(), "one of those that share the database");
        worker::Worker::start(self.clone(), jobs.clone(), stopping.clone()).await?;
        tokio::spawn(self.clone().renew(stopping.clone()));
        Ok(())
    }

    /// A capture is led here.
    pub(crate) fn hold(&self, lease: &Lease) {
        self.leases.insert(lease);
    }

    /// Whoever led a capture here has ended: with it, because somebody else leads it, or with the process.
    pub(crate) async fn let_go(&self, lease: &Lease, capture: &str, is_over: bool) {
        self.leases.remove(lease);
        let done = match lease.fence() {
            Some(fence) if !is_over => self.shared.release(fence).await,
            _ => self.shared.forget(capture).await,
        };
        if let Err(error) = done {
            tracing::warn!(capture, %error, "the lead of the capture is given up only when its time is over");
        }
    }

    /// Commands for agents of others, if `fence` still holds.
    pub(crate) async fn send(
        &self,
        fence: Option<&Fence>,
        commands: Vec<(u64, String, Command)>,
        is_rehearsal: bool,
    ) -> Result<(), StoreError> {
        let row = |(session, node, command): (u64, String, Command)| CommandRow {
            session,
            node,
            command: letters::order(&command, is_rehearsal),
        };
        self.shared.send(fence, &commands.into_iter().map(row).collect::<Vec<_>>()).await
    }

    /// Nobody need wait for this process any more.
    pub async fn leave(&self) {
        if let Err(error) = self.shared.leave().await {
            tracing::debug!(%error, "the other coordinators find out by themselves that this one has stopped");
        }
    }

    /// Renews every lease, until `stopping`.
    async fn renew(self, stopping: CancellationToken) {
        let mut tick = interval(limits::LEASE_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stopping.run_until_cancelled(tick.tick()).await.is_some() {
            let (asked, held) = (Instant::now(), self.leases.fences());
            match timeout(limits::LEASE, self.shared.renew(&held)).await {
                Ok(Ok(renewed)) => {
                    renewed.kept.iter().for_each(|capture| self.leases.extend(capture, asked));
                    let is_lost = |fence: &&Fence| renewed.lost.contains(&fence.capture);
                    for fence in held.iter().filter(is_lost) {
                        tracing::info!(capture = fence.capture, "led by another coordinator now, or over");
                        self.leases.lose(fence);
                    }
                    if renewed.is_new {
                        self.was_forgotten.store(true, Ordering::Relaxed);
                    }
                    if renewed.is_partial {
                        tick.reset_after(SKIPPED);
                    }
                }
                Ok(Err(error)) => tracing::warn!(%error, "leases are not renewed"),
                Err(_) => tracing::warn!("leases are not renewed: the database does not answer"),
            }
        }
    }
}
