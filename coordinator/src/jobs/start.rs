//! How a capture begins: admitted beside those that have not ended, stored, led here, and armed on its nodes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng;
use tokio::sync::{oneshot, watch};
use tracing::Instrument as _;

use super::Jobs;
use super::actor;
use super::machine::Machine;
use super::trace::Trace;
use super::validate::parts;
use crate::cluster::Lease;
use crate::error::Error;
use crate::limits;
use crate::model::{Capture, IdentityKey, Spec, State};
use crate::store::{Created, StoreError};

/// What a capture that is led here comes to: the answer to its start, and its view.
type Begun = (oneshot::Receiver<Result<(), Error>>, watch::Receiver<Arc<Capture>>);

impl Jobs {
    /// Stores a job, arms it and fixes its window; returns the capture then. `spec` was resolved. A `request` that the
    /// same person made before, here or at another coordinator, comes to the capture that it began.
    pub async fn start(&self, spec: Spec, who: &str, request: Option<&str>) -> Result<Arc<Capture>, Error> {
        // Who asks may be gone at any moment, and what was stored by then needs somebody who leads it.
        let (jobs, who, request) = (self.clone(), who.to_owned(), request.map(str::to_owned));
        let beginning = async move { jobs.begin(spec, &who, request.as_deref()).await };
        let begun = self.actors.spawn(beginning.in_current_span()).await;
        let (id, answer) =
            begun.map_err(|error| Error::Internal(format!("the start broke off: {error}")))??;
        match answer {
            Some((answer, view)) => match answer.await {
                Ok(answer) => answer.map(|()| view.borrow().clone()),
                // Led by another one by now.
                Err(_) => self.started(&id).await,
            },
            None => self.started(&id).await,
        }
    }

    /// The id of the capture, and where to hear of its start if that is here.
    async fn begin(
        &self,
        spec: Spec,
        who: &str,
        request: Option<&str>,
    ) -> Result<(String, Option<Begun>), Error> {
        let _one_at_a_time = self.admission.lock().await;
        let mut capture = self.draft(spec, who).await?;
        let trace = Trace::begin(&capture.id, &mut capture.spec);
        let (id, asked) = (capture.id.clone(), Instant::now());
        let lease = match self.create(&capture, request).await? {
            Created::Known(id) => return Ok((id, None)),
            Created::New(None) => Lease::unshared(&self.stopping),
            Created::New(Some(fence)) => Lease::shared(fence, asked, &self.stopping),
        };
        let (started, answer) = oneshot::channel();
        let view = self.spawn((Machine::new(capture), trace), Some(started), lease);
        Ok((id, Some((answer, view))))
    }

    /// Waits until a capture that was begun has its window.
    async fn started(&self, id: &str) -> Result<Arc<Capture>, Error> {
        const LOOK: Duration = Duration::from_millis(100);
        loop {
            let capture = self.get(id).await?;
            if self.stopping.is_cancelled() {
                return Err(Error::Stopping);
            }
            if let Some(answer) = actor::started_as(&capture) {
                return answer.map(|()| capture);
            }
            let pause = tokio::time::sleep(LOOK);
            self.stopping.run_until_cancelled(pause).await.ok_or(Error::Stopping)?;
        }
    }

    /// Arms a job as [`Jobs::start`] does and calls it off once every node has answered. Nothing of it is stored; the
    /// capture has no id, and its parts are armed or say why not.
    pub async fn rehearse(&self, spec: Spec, who: &str) -> Result<Capture, Error> {
        let (answer, view) = {
            let _one_at_a_time = self.admission.lock().await;
            admit(&spec, &self.board.unfinished()).map_err(Error::Exhausted)?;
            let mut capture = self.draft(spec, who).await?;
            let trace = Trace::begin(&capture.id, &mut capture.spec);
            let (started, answer) = oneshot::channel();
            let lease = Lease::unshared(&self.stopping);
            (answer, self.spawn((Machine::rehearsal(capture), trace), Some(started), lease))
        };
        answer.await.map_err(|_| Error::Stopping)??;
        let capture = view.borrow().clone();
        Ok(Capture { id: String::new(), ..Arc::unwrap_or_clone(capture) })
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

    async fn create(&self, capture: &Capture, request: Option<&str>) -> Result<Created, Error> {
        // Rehearsals are not stored, and count as well.
        let here: Vec<Arc<Capture>> =
            if self.cluster.is_none() { self.board.unfinished() } else { Vec::new() };
        let admission = |stored: &[Capture]| {
            let stored = stored.iter().filter(|one| here.iter().all(|other| other.id != one.id));
            admit(
                &capture.spec,
                &stored.cloned().map(Arc::new).chain(here.iter().cloned()).collect::<Vec<_>>(),
            )
        };
        let created = match self.services.store.create_capture(capture, request, &admission).await {
            Err(StoreError::NotAdmitted(reason)) => return Err(Error::Exhausted(reason)),
            created => created?,
        };
        if matches!(created, Created::New(_)) {
            tracing::info!(capture = capture.id, who = capture.created_by, "capture stored");
        }
        Ok(created)
    }

    /// One that no other has.
    async fn free_id(&self) -> Result<String, Error> {
        loop {
            let id = crate::id::random('c');
            if self.services.store.capture(&id).await?.is_none() {
                return Ok(id);
            }
        }
    }
}

/// Why a job cannot begin beside those that have not ended.
fn admit(spec: &Spec, running: &[Arc<Capture>]) -> Result<(), String> {
    let names = |ids: Vec<&str>| ids.join(", ");
    if running.len() >= limits::CAPTURES_PER_FABRIC {
        return Err(format!(
            "captures: {} have not ended, the limit; stop one or wait: {}",
            running.len(),
            names(running.iter().map(|capture| capture.id.as_str()).collect())
        ));
    }
    for node in &spec.nodes {
        let is_busy = |capture: &&Arc<Capture>| capture.part(node).is_some_and(|part| !part.state.is_final());
        let busy: Vec<&str> = running.iter().filter(is_busy).map(|c| c.id.as_str()).collect();
        if busy.len() >= limits::CAPTURES_PER_NODE {
            return Err(format!(
                "nodes: {node} works on {} captures, the limit; stop one or wait: {}",
                busy.len(),
                names(busy)
            ));
        }
    }
    Ok(())
}
