//! Capture jobs: one actor per capture that has not ended, and the board on which they are found.

mod actor;
mod board;
pub mod drain;
pub mod machine;
mod validate;

use std::sync::Arc;

pub use actor::Event;
pub use board::{Board, Handle};
use machine::Machine;
pub use machine::Status;
use rand::Rng;
use tokio::sync::{Notify, broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use validate::parts;
pub use validate::{Request, resolve};
pub(crate) use validate::{known, names};

use crate::analysis::Analysis;
use crate::error::Error;
use crate::fleet::Fleet;
use crate::ingest::Ingest;
use crate::limits;
use crate::metrics::Metrics;
use crate::model::{Capture, IdentityKey, Spec, State};
use crate::store::Store;
use crate::time::Clock;

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
    /// Figures.
    pub metrics: Metrics,
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
}

impl Jobs {
    /// Takes up what an earlier process left unfinished. Actors end when `stopping` is cancelled.
    pub async fn recover(
        services: Services,
        board: Board,
        stopping: CancellationToken,
    ) -> Result<Self, Error> {
        let jobs = Self { services, board, admission: Arc::default(), actors: TaskTracker::new(), stopping };
        for capture in jobs.services.store.unfinished().await? {
            tracing::info!(capture = capture.id, state = ?capture.state, "capture taken up again");
            jobs.spawn(Machine::recover(capture, jobs.services.clock.now()), None);
        }
        jobs.actors.spawn(watch_fleet(
            jobs.services.fleet.links(),
            jobs.board.clone(),
            jobs.stopping.clone(),
        ));
        Ok(jobs)
    }

    /// Stores a job, arms it and fixes its window; returns the capture then. `spec` was resolved.
    pub async fn start(&self, spec: Spec, who: &str) -> Result<Arc<Capture>, Error> {
        self.launch(spec, who, false).await
    }

    /// Arms a job as [`Jobs::start`] does and calls it off once every node has answered. Nothing of it is stored; the
    /// capture has no id, and its parts are armed or say why not.
    pub async fn rehearse(&self, spec: Spec, who: &str) -> Result<Capture, Error> {
        let capture = self.launch(spec, who, true).await?;
        Ok(Capture { id: String::new(), ..Arc::unwrap_or_clone(capture) })
    }

    async fn launch(&self, spec: Spec, who: &str, is_rehearsal: bool) -> Result<Arc<Capture>, Error> {
        let (answer, view) = {
            let _one_at_a_time = self.admission.lock().await;
            self.admit(&spec)?;
            let capture = self.draft(spec, who).await?;
            let machine =
                if is_rehearsal { Machine::rehearsal(capture) } else { self.create(capture).await? };
            let (started, answer) = oneshot::channel();
            (answer, self.spawn(machine, Some(started)))
        };
        answer.await.map_err(|_| Error::Stopping)??;
        Ok(view.borrow().clone())
    }

    /// Ends a window now. Does nothing to a capture that has ended.
    pub async fn stop(&self, id: &str, who: &str) -> Result<Arc<Capture>, Error> {
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
        self.get(id).await
    }

    /// Removes a capture that has ended, with its observations and its report.
    pub async fn delete(&self, id: &str) -> Result<(), Error> {
        let capture = self.get(id).await?;
        if !capture.state.is_final() {
            return Err(Error::Precondition(format!(
                "capture_id: {id} has not ended; `ctl stop-capture {id}` ends it"
            )));
        }
        self.services.ingest.close_capture(id).await;
        self.services.store.delete_capture(id).await?;
        self.services.ingest.remove_files(id).await
    }

    /// One capture as it is now.
    pub async fn get(&self, id: &str) -> Result<Arc<Capture>, Error> {
        if let Some(handle) = self.board.get(id) {
            return Ok(handle.view.borrow().clone());
        }
        let stored = self.services.store.capture(id).await?;
        stored.map(Arc::new).ok_or_else(|| Error::NoCapture(id.to_owned()))
    }

    /// One capture as it is now and from now on. The channel closes when the capture has ended.
    pub async fn watch(&self, id: &str) -> Result<watch::Receiver<Arc<Capture>>, Error> {
        match self.board.get(id) {
            Some(handle) => Ok(handle.view),
            None => Ok(watch::channel(self.get(id).await?).1),
        }
    }

    /// Tells a job what an agent says of it. False when the job is over, and the agent should forget it.
    pub async fn status(&self, node: &str, id: &str, status: Status) -> bool {
        match self.board.get(id) {
            Some(handle) if handle.view.borrow().part(node).is_some() => {
                handle.events.send(Event::Status(node.to_owned(), status)).await.is_ok()
            }
            _ => false,
        }
    }

    /// The board.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Waits until every actor has ended; `stopping` must be cancelled.
    pub async fn stopped(&self) {
        self.actors.close();
        self.actors.wait().await;
    }

    fn admit(&self, spec: &Spec) -> Result<(), Error> {
        let running = self.board.unfinished();
        let names = |ids: Vec<&str>| ids.join(", ");
        if running.len() >= limits::CAPTURES_PER_FABRIC {
            return Err(Error::Exhausted(format!(
                "captures: {} have not ended, the limit; stop one or wait: {}",
                running.len(),
                names(running.iter().map(|capture| capture.id.as_str()).collect())
            )));
        }
        for node in &spec.nodes {
            let is_busy =
                |capture: &&Arc<Capture>| capture.part(node).is_some_and(|part| !part.state.is_final());
            let busy: Vec<&str> = running.iter().filter(is_busy).map(|c| c.id.as_str()).collect();
            if busy.len() >= limits::CAPTURES_PER_NODE {
                return Err(Error::Exhausted(format!(
                    "nodes: {node} works on {} captures, the limit; stop one or wait: {}",
                    busy.len(),
                    names(busy)
                )));
            }
        }
        Ok(())
    }

    async fn draft(&self, spec: Spec, who: &str) -> Result<Capture, Error> {
        Ok(Capture {
            id: self.free_id().await?,
            parts: parts(&spec, &self.services.fleet.nodes(self.services.clock.now())),
            spec,
            state: State::Pending,
            reason: String::new(),
            created_at_nanos: self.services.clock.now(),
            created_by: who.to_owned(),
            window: None,
            identity_key: IdentityKey(rand::rng().random()),
        })
    }

    async fn create(&self, capture: Capture) -> Result<Machine, Error> {
        self.services.store.save_capture(&capture).await?;
        let who = &capture.created_by;
        tracing::info!(capture = capture.id, who, nodes = ?capture.spec.nodes, filter = capture.spec.filter, "audit: start-capture");
        Ok(Machine::new(capture))
    }

    /// `c-` and six of 32 letters and digits that are not mistaken for each other.
    async fn free_id(&self) -> Result<String, Error> {
        const LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstvwxyz0123456789";
        loop {
            let letters: String = (0..6).map(|_| LETTERS[rand::rng().random_range(0..32)] as char).collect();
            let id = format!("c-{letters}");
            if self.services.store.capture(&id).await?.is_none() {
                return Ok(id);
            }
        }
    }

    fn spawn(&self, machine: Machine, started: Option<actor::Started>) -> watch::Receiver<Arc<Capture>> {
        let (sender, events) = mpsc::channel(limits::CAPTURE_QUEUE);
        let (view_sender, view) = watch::channel(Arc::new(machine.capture().clone()));
        let id = machine.capture().id.clone();
        let committed = Arc::new(Notify::new());
        let handle = Handle { events: sender.clone(), committed: committed.clone(), view: view.clone() };
        self.board.insert(&id, handle);
        let actor = actor::Actor {
            machine,
            events,
            committed,
            itself: sender.downgrade(),
            view: view_sender,
            started,
            run: None,
            services: self.services.clone(),
            stopping: self.stopping.clone(),
        };
        let (board, captures) = (self.board.clone(), self.services.metrics.captures.clone());
        captures.inc();
        self.actors.spawn(async move {
            actor.run().await;
            board.remove(&id);
            captures.dec();
        });
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
