//! Probes: rows that say what agents are to do, and what those found. Nobody owns one: every coordinator tells the agents
//! that are its own what the rows say, and stores what they report, so that one that dies leaves nothing behind but a
//! connection.

mod addresses;
mod diff;
mod dispatch;
mod figures;
pub mod mesh;
pub mod model;
pub mod pairs;
mod recorder;
pub mod throughput;
mod validate;
mod whereabouts;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use addresses::{Addresses, is_link_local};
pub use diff::diff;
pub use figures::Figures;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
pub use validate::{Request, resolve};
pub(crate) use whereabouts::{claimants, place};

use self::dispatch::{Dispatch, Told};
use self::model::{News, Part, Probe, Source, Spec};
use self::recorder::Recorder;
use crate::error::Error;
use crate::fleet::Fleet;
use crate::guard::Guard;
use crate::limits;
use crate::store::{Store, StoreError};
use crate::time::Clock;

/// What probes work with.
pub struct Means {
    /// Time.
    pub clock: Clock,
    /// What survives.
    pub store: Arc<dyn Store>,
    /// The agents.
    pub fleet: Arc<Fleet>,
    /// Says where they may go.
    pub guard: Arc<Guard>,
    /// Told when another coordinator did something to a probe.
    pub changed: Arc<Notify>,
}

struct Inner {
    means: Means,
    recorder: Recorder,
    figures: Figures,
    told: Told,
    /// Moves with every change that is known here.
    changes: watch::Sender<u64>,
    tasks: TaskTracker,
}

/// Every probe. Cheap to clone.
#[derive(Clone)]
pub struct Probes(Arc<Inner>);

impl Probes {
    /// Takes up what is stored, until `stopping`.
    pub fn start(means: Means, stopping: &CancellationToken) -> Self {
        let tasks = TaskTracker::new();
        let changes = watch::channel(0).0;
        let told = Told::default();
        let figures = Figures::default();
        let recorder = Recorder::start(&means, figures.clone(), changes.clone(), &tasks, stopping);
        let probes = Self(Arc::new(Inner { means, recorder, figures, told, changes, tasks }));
        let dispatch = Dispatch::new(probes.clone());
        let stopping = stopping.clone();
        probes.0.tasks.spawn(async move {
            stopping.run_until_cancelled(dispatch.run()).await;
        });
        probes
    }

    /// Stores a probe and hands it out. A `request` that the same person made before comes to the probe that it began.
    pub async fn run(
        &self,
        spec: Spec,
        sources: Vec<Source>,
        start_at_nanos: Option<i64>,
        who: &str,
        request: Option<&str>,
    ) -> Result<Probe, Error> {
        let now = self.0.means.clock.now();
        let others = sources.len().saturating_sub(1) as i64;
        let earliest = now + limits::START_LEAD_NANOS + others * limits::START_LEAD_PER_NODE_NANOS;
        let part = |source: Source| match spec.mesh.as_ref().and_then(|mesh| mesh.fault(&source)) {
            Some(reason) => Part::failed(source.clone(), reason.to_owned()),
            None => Part::new(source),
        };
        let parts = sources.into_iter().map(part).collect();
        let probe = Probe {
            id: self.free_id().await?,
            spec,
            created_at_nanos: now,
            created_by: who.to_owned(),
            start_nanos: start_at_nanos.map_or(earliest, |at| at.max(earliest)),
            ended_at_nanos: None,
            stopped: String::new(),
            parts,
        };
        let created = self.0.means.store.create_probe(&probe, request, limits::PROBES_PER_FABRIC).await;
        let known = match created {
            Err(StoreError::NotAdmitted(reason)) => return Err(Error::Exhausted(reason)),
            created => created?,
        };
        if let Some(known) = known {
            return self.get(&known).await;
        }
        tracing::info!(probe = probe.id, who, "probe stored");
        self.0.means.changed.notify_one();
        self.moved();
        Ok(probe)
    }

    /// One probe.
    pub async fn get(&self, id: &str) -> Result<Probe, Error> {
        let stored = self.0.means.store.probe(id).await?;
        stored.ok_or_else(|| Error::NoProbe(id.to_owned()))
    }

    /// Ends a probe. Does nothing to one that has ended.
    pub async fn stop(&self, id: &str, who: &str) -> Result<Probe, Error> {
        self.get(id).await?;
        self.0.means.store.end_probe(id, self.0.means.clock.now(), Some(who)).await?;
        self.0.means.changed.notify_one();
        self.moved();
        self.get(id).await
    }

    /// What scheduled probes find, in figures.
    pub fn figures(&self) -> &Figures {
        &self.0.figures
    }

    /// Hears of changes that this coordinator knows of; others it does not.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// An agent came, with these probes.
    pub fn came(&self, node: &str, probes: Vec<String>) {
        self.0.told.came(node, probes);
        self.0.means.changed.notify_one();
    }

    /// An agent said something of its part; none: it makes no sense. An error: there is no room for it now, and the agent
    /// must say it again on another stream.
    pub fn heard(&self, node: &str, news: Option<News>) -> Result<(), Error> {
        let Some(news) = news else {
            tracing::warn!(node, "news of a probe dropped: no agent of this version says that");
            return Ok(());
        };
        if self.0.recorder.put(news) {
            return Ok(());
        }
        let reason =
            "news of probes wait for the coordinator's database; check that it runs and can be reached";
        Err(Error::Exhausted(reason.to_owned()))
    }

    /// Waits until what was heard is stored; `stopping` must be cancelled.
    pub async fn stopped(&self) {
        self.0.tasks.close();
        // What is not stored comes again, to whoever its agent goes to.
        let _ = tokio::time::timeout(Duration::from_secs(5), self.0.tasks.wait()).await;
    }

    fn moved(&self) {
        self.0.changes.send_modify(|changes| *changes += 1);
    }

    /// One that no other has.
    async fn free_id(&self) -> Result<String, Error> {
        loop {
            let id = crate::id::random('p');
            if self.0.means.store.probe(&id).await?.is_none() {
                return Ok(id);
            }
        }
    }
}
