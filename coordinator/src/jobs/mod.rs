//! Capture jobs: one actor per capture that has not ended, and the board on which they are found.

mod actor;
mod board;
mod conclusion;
pub mod drain;
mod follower;
pub mod machine;
mod start;
mod trace;
mod validate;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

pub use actor::Event;
pub(crate) use board::Asked;
pub use board::{Admission, Board, Handle};
pub(crate) use follower::Followed;
use machine::Machine;
pub use machine::{Left, Status};
use tokio::sync::{Notify, broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trace::Trace;
use tracing::Instrument as _;
pub use validate::{Request, resolve};
pub(crate) use validate::{check_labels, known, names};

use crate::analysis::Analysis;
use crate::cluster::{Cluster, Lease};
use crate::error::Error;
use crate::fleet::Fleet;
use crate::ingest::Ingest;
use crate::limits;
use crate::metrics::Metrics;
use crate::model::Capture;
use crate::store::{Fence, Store};
use crate::time::Clock;

/// Times that a capture may change hands while an agent speaks.
const HANDS: usize = 4;

/// What jobs work with.
#[derive(Clone)]
pub struct Services {
    /// Time.
    pub clock: Clock,
    /// What survives.
    pub store: Arc<dyn Store>,
    /// The agents.
    pub fleet: Arc<Fleet>,
    /// Where batches come in.
    pub ingest: Ingest,
    /// Correlation runs.
    pub analysis: Analysis,
    /// Told when another coordinator did something to a probe.
    pub probes_changed: Arc<Notify>,
    /// Figures.
    pub metrics: Metrics,
}

impl Services {
    /// For who leads one capture: what it writes rests on `fence`.
    fn fenced(&self, fence: &Fence) -> Self {
        let store = self.store.fenced(fence.clone());
        Self { analysis: self.analysis.on(store.clone()), store, ..self.clone() }
    }
}

/// Every job.
#[derive(Clone)]
pub struct Jobs {
    services: Services,
    board: Board,
    /// One start at a time, so that the limits hold.
    admission: Arc<tokio::sync::Mutex<()>>,
    actors: TaskTracker,
    stopping: CancellationToken,
    /// The others, where there can be others.
    cluster: Option<Cluster>,
}

impl Jobs {
    /// Takes up what an earlier process left unfinished. Actors end when `stopping` is cancelled.
    pub async fn recover(
        services: Services,
        board: Board,
        stopping: CancellationToken,
    ) -> Result<Self, Error> {
        let cluster = services.store.shared().map(Cluster::new);
        let (admission, actors) = (Arc::default(), TaskTracker::new());
        let jobs = Self { services, board, admission, actors, stopping, cluster };
        match &jobs.cluster {
            Some(cluster) => cluster.join(&jobs, &jobs.stopping).await?,
            None => {
                for capture in jobs.services.store.unfinished().await? {
                    jobs.lead(capture, Lease::unshared(&jobs.stopping));
                }
            }
        }
        jobs.actors.spawn(watch_fleet(
            jobs.services.fleet.links(),
            jobs.board.clone(),
            jobs.stopping.clone(),
        ));
        Ok(jobs)
    }

    /// Ends a window now. Does nothing to a capture that has ended.
    pub async fn stop(&self, id: &str, who: &str) -> Result<Arc<Capture>, Error> {
        let has_looked = self.board.learn([id]).await;
        if let Some(handle) = self.board.get(id) {
            let (done, is_done) = oneshot::channel();
            // An actor that ended in the meantime leaves its last word behind.
            if handle.events.send(Event::Stop(who.to_owned(), done)).await.is_ok()
                && let Ok(stored) = is_done.await
            {
                stored?;
            }
            return Ok(handle.view.borrow().clone());
        }
        // One that another coordinator leads would go on.
        if has_looked && self.board.is_over(id) { self.get(id).await } else { Err(self.unseen()) }
    }

    /// Removes a capture that has ended, with its observations and its report. Files that cannot be removed now are
    /// garbage, and are collected.
    pub async fn delete(&self, id: &str) -> Result<(), Error> {
        let capture = self.get(id).await?;
        if !capture.state.is_final() {
            return Err(Error::Precondition(format!(
                "capture_id: {id} has not ended; `ctl stop-capture {id}` ends it"
            )));
        }
        self.services.ingest.close_capture(id).await;
        self.services.store.delete_capture(id).await?;
        if let Err(error) = self.services.ingest.remove_files(id).await {
            tracing::warn!(capture = id, %error, "its observation files could not be removed; they will be collected");
        }
        Ok(())
    }

    /// One capture as it is now.
    pub async fn get(&self, id: &str) -> Result<Arc<Capture>, Error> {
        if let Some(handle) = self.board.get(id) {
            return Ok(handle.view.borrow().clone());
        }
        let stored = self.services.store.capture(id).await?;
        stored.map(Arc::new).ok_or_else(|| Error::NoCapture(id.to_owned()))
    }

    /// One capture as it is now and from now on. The channel closes when the capture has ended, or is led elsewhere.
    pub async fn watch(&self, id: &str) -> Result<watch::Receiver<Arc<Capture>>, Error> {
        let has_looked = self.board.learn([id]).await;
        match self.board.get(id) {
            Some(handle) => Ok(handle.view),
            None if !has_looked || !self.board.is_over(id) => Err(self.unseen()),
            None => Ok(watch::channel(self.get(id).await?).1),
        }
    }

    /// Tells a job what an agent says of it. False when the job is over, and the agent should forget it.
    pub async fn status(&self, node: &str, id: &str, status: Status) -> Result<bool, Error> {
        // It may change hands just now.
        for _ in 0..HANDS {
            let looked = self.board.get(id).is_some() || self.board.learn([id]).await;
            let Some(handle) = self.board.get(id) else {
                return if looked && self.board.is_over(id) { Ok(false) } else { Err(self.unseen()) };
            };
            if handle.view.borrow().part(node).is_none() {
                return Ok(false);
            }
            if handle.events.send(Event::Status(node.to_owned(), status.clone())).await.is_ok() {
                return Ok(true);
            }
        }
        if self.board.is_over(id) { Ok(false) } else { Err(self.unseen()) }
    }

    /// Why it is not known what became of a capture.
    fn unseen(&self) -> Error {
        if self.stopping.is_cancelled() { Error::Stopping } else { Error::Unseen }
    }

    /// Tells a job what an earlier process of a node's agent left to be sent.
    pub async fn left(&self, node: &str, id: &str, left: Vec<Left>) {
        if let Some(handle) = self.board.get(id) {
            // One that has ended in the meantime needs nothing.
            let _ = handle.events.send(Event::Left(node.to_owned(), left)).await;
        }
    }

    /// Time.
    pub(crate) fn clock(&self) -> &Clock {
        &self.services.clock
    }

    /// See [`Services::probes_changed`].
    pub(crate) fn probes_changed(&self) -> &Notify {
        &self.services.probes_changed
    }

    /// The agents.
    pub(crate) fn fleet(&self) -> &Fleet {
        &self.services.fleet
    }

    /// What survives.
    pub(crate) fn store(&self) -> &dyn Store {
        self.services.store.as_ref()
    }

    /// The board.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Waits until every actor has ended; `stopping` must be cancelled.
    pub async fn stopped(&self) {
        self.actors.close();
        self.actors.wait().await;
        if let Some(cluster) = &self.cluster {
            cluster.leave().await;
        }
    }

    /// Goes on with a capture that another process left unfinished.
    pub(crate) fn lead(&self, capture: Capture, lease: Lease) {
        tracing::info!(capture = capture.id, state = ?capture.state, "capture taken up again");
        self.services.metrics.resumed_captures.inc();
        let trace = Trace::resume(&capture);
        self.spawn((Machine::recover(capture, self.services.clock.now()), trace), None, lease);
    }

    fn spawn(
        &self,
        (machine, trace): (Machine, Trace),
        started: Option<actor::Started>,
        lease: Lease,
    ) -> watch::Receiver<Arc<Capture>> {
        let (sender, events) = mpsc::channel(limits::CAPTURE_QUEUE);
        let (view_sender, view) = watch::channel(Arc::new(machine.capture().clone()));
        let id = machine.capture().id.clone();
        let committed = Arc::new(Notify::new());
        let handle =
            Handle { events: sender.clone(), committed: committed.clone(), view: view.clone(), is_led: true };
        self.board.insert(&id, handle);
        let life = trace.life();
        let mut actor = actor::Actor {
            machine,
            trace,
            events,
            committed: committed.clone(),
            itself: sender.downgrade(),
            view: view_sender,
            started,
            stepped_nanos: None,
            run: None,
            services: lease
                .fence()
                .map_or_else(|| self.services.clone(), |fence| self.services.fenced(fence)),
            lease: lease.clone(),
            cluster: self.cluster.clone(),
            told: (view.borrow().clone(), Instant::now()),
            heard: BTreeMap::new(),
        };
        let (board, metrics, last) = (self.board.clone(), self.services.metrics.clone(), view.clone());
        let cluster = self.cluster.clone();
        if let Some(cluster) = &cluster {
            cluster.hold(&lease);
        }
        let living = async move {
            actor.run().await;
            let state = last.borrow().state;
            metrics.capture_ended(state);
            if state.is_final() {
                board.remove(&id, &committed);
            } else {
                board.leave(&id, &committed);
                actor.hand_over().await;
            }
            if let Some(cluster) = cluster {
                cluster.let_go(&lease, &id, state.is_final()).await;
            }
        };
        self.actors.spawn(living.instrument(life));
        view
    }
}

/// Wakes the jobs of a node that comes or goes.
async fn watch_fleet(mut links: broadcast::Receiver<String>, board: Board, stopping: CancellationToken) {
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            link = links.recv() => match link {
                Err(broadcast::error::RecvError::Closed) => return,
                Err(broadcast::error::RecvError::Lagged(_)) => board.wake_all(),
                Ok(node) => board.wake_node(&node),
            }
        }
    }
}
