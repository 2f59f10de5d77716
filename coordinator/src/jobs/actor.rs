//! Runs the machine of one capture: feeds it what happens and carries out what it wants.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Services;
use super::machine::{Effect, Links, Machine, Status};
use crate::error::Error;
use crate::model::{BatchKey, Capture, State};
use crate::store::StoreError;

/// What happens to a capture.
#[derive(Debug)]
pub enum Event {
    /// An agent spoke.
    Status(String, Status),
    /// An agent came or went.
    Fleet,
    /// Batches of the capture could not be stored, for this reason. Agents send them again.
    Unstored(String),
    /// A batch will never be accepted.
    Refused(BatchKey),
    /// Somebody wants it to end; answered once that is stored, or could not be.
    Stop(String, oneshot::Sender<Result<(), Error>>),
    /// The correlation run ended.
    Correlated(Result<(), String>),
}

/// Answers the caller of the start once the window is fixed, or why it never will be.
pub(super) type Started = oneshot::Sender<Result<(), Error>>;

pub(super) struct Actor {
    pub(super) machine: Machine,
    pub(super) events: mpsc::Receiver<Event>,
    /// Told when batches were committed.
    pub(super) committed: Arc<Notify>,
    pub(super) itself: mpsc::WeakSender<Event>,
    pub(super) view: watch::Sender<Arc<Capture>>,
    pub(super) started: Option<Started>,
    /// The correlation run, once there is one.
    pub(super) run: Option<JoinHandle<()>>,
    pub(super) services: Services,
    pub(super) stopping: CancellationToken,
}

impl Actor {
    /// Until the capture ends, or the coordinator stops; then the next process goes on from what is stored.
    pub(super) async fn run(mut self) {
        self.count_stored().await;
        // What could not be stored is tried again at the next wake, a second away at most.
        while self.advance().await.unwrap_or(true) {
            let wake = self.sleep();
            tokio::select! {
                // What was stored is known before a deadline judges it.
                biased;
                () = self.stopping.cancelled() => return self.call_off().await,
                () = self.committed.notified() => self.count_stored().await,
                event = self.events.recv() => {
                    let Some(event) = event else { return };
                    self.take(event).await;
                }
                () = wake => {}
            }
        }
    }

    /// Steps the machine and does what it wants. False when nothing follows. An error: it could not be stored, and
    /// nothing that rests on it was done.
    async fn advance(&mut self) -> Result<bool, StoreError> {
        let now = self.services.clock.now();
        let effects = self.machine.step(now, &self.links(now));
        for effect in effects {
            match effect {
                Effect::Save => {
                    if let Err(error) = self.save().await {
                        self.machine.unsaved();
                        return Err(error);
                    }
                }
                Effect::SaveTopology(node) => self.save_topology(&node).await,
                Effect::SaveTranslations(node, told) => self.save_translations(&node, &told).await,
                Effect::Send(node, command) => {
                    self.services.fleet.send(&node, command);
                }
                Effect::Correlate => self.correlate(),
                Effect::Finish => {
                    self.publish();
                    // One that was stopped before its window may have batches already.
                    self.services.ingest.close_capture(&self.machine.capture().id).await;
                    self.answer_start();
                    return Ok(false);
                }
            }
        }
        self.publish();
        if self.machine.capture().window.is_some() {
            self.answer_start();
        }
        Ok(true)
    }

    async fn take(&mut self, event: Event) {
        let now = self.services.clock.now();
        match event {
            Event::Status(node, status) => self.machine.status(&node, status, now),
            Event::Fleet => {}
            Event::Unstored(reason) => self.machine.unstored(reason),
            Event::Refused(key) => self.machine.refused(&key),
            Event::Stop(who, done) => {
                self.machine.stop(&who, now);
                let stored = self.advance().await;
                let _ = done.send(stored.map(drop).map_err(|error| self.not_stopped(&error)));
            }
            Event::Correlated(result) => self.machine.correlated(result),
        }
    }

    /// Only while draining does it matter what is stored.
    async fn count_stored(&mut self) {
        if self.machine.capture().state != State::Draining {
            return;
        }
        match self.services.store.stored_counts(&self.machine.capture().id).await {
            Ok(counts) => self.machine.stored(counts, self.services.clock.now()),
            Err(error) => {
                tracing::error!(capture = self.machine.capture().id, %error, "cannot count batches");
            }
        }
    }

    fn links(&self, now_nanos: i64) -> Links {
        let capture = self.machine.capture();
        let link = |node: &String| {
            let link = self.services.fleet.link(node, &capture.id, now_nanos)?;
            Some((node.clone(), link))
        };
        capture.spec.nodes.iter().filter_map(link).collect()
    }

    /// The next transition, at most a second away so that clocks and counters stay fresh.
    fn sleep(&self) -> tokio::time::Sleep {
        let now = self.services.clock.now();
        let wait = self.machine.wake_nanos().map_or(i64::MAX, |at| (at - now).max(0));
        tokio::time::sleep(Duration::from_nanos(wait as u64).min(Duration::from_secs(1)))
    }

    fn not_stopped(&self, error: &StoreError) -> Error {
        Error::NotStopped { capture: self.machine.capture().id.clone(), reason: error.to_string() }
    }

    async fn save(&mut self) -> Result<(), StoreError> {
        let capture = self.machine.capture();
        tracing::info!(capture = capture.id, state = ?capture.state, reason = capture.reason, "capture");
        if let Err(error) = self.services.store.save_capture(capture).await {
            tracing::error!(capture = capture.id, %error, "cannot store the capture; it waits until that works");
            return Err(error);
        }
        if capture.state == State::Draining {
            self.count_stored().await;
            // Step once more with what was counted.
            if let Some(me) = self.itself.upgrade() {
                let _ = me.try_send(Event::Fleet);
            }
        }
        Ok(())
    }

    async fn save_topology(&self, node: &str) {
        let capture = &self.machine.capture().id;
        let Some(view) = self.services.fleet.node(node, self.services.clock.now()) else { return };
        if let Err(error) = self.services.store.save_topology(capture, node, &view.record.topology).await {
            tracing::error!(capture, node, %error, "cannot store the topology");
        }
    }

    async fn save_translations(&self, node: &str, told: &Bytes) {
        let capture = &self.machine.capture().id;
        if let Err(error) = self.services.store.save_translations(capture, node, told).await {
            tracing::error!(capture, node, %error, "cannot store the translations");
        }
    }

    fn publish(&self) {
        self.view.send_replace(Arc::new(self.machine.capture().clone()));
    }

    fn answer_start(&mut self) {
        let Some(started) = self.started.take() else { return };
        let capture = self.machine.capture();
        let text = format!("{} ({})", capture.reason, capture.id);
        let answer = match capture.state {
            _ if self.machine.is_rehearsal() => Ok(()),
            State::Failed if self.was_refused() => Err(Error::Refused(text)),
            State::Failed | State::Cancelled if capture.window.is_none() => Err(Error::Precondition(text)),
            _ => Ok(()),
        };
        // The caller may be gone.
        let _ = started.send(answer);
    }

    /// An agent said why it cannot do it, rather than not answering.
    fn was_refused(&self) -> bool {
        let capture = self.machine.capture();
        capture.window.is_none()
            && capture.parts.iter().any(|part| part.state == State::Failed && part.incarnation.is_some())
    }

    /// Lets a run note that it was called off. Nobody listens to its result any more.
    async fn call_off(mut self) {
        self.events.close();
        if let Some(run) = self.run.take() {
            let _ = run.await;
        }
    }

    fn correlate(&mut self) {
        self.publish();
        let (services, itself) = (self.services.clone(), self.itself.clone());
        let stopping = self.stopping.clone();
        let capture = self.machine.capture().clone();
        self.run = Some(tokio::spawn(async move {
            let result = async {
                services.ingest.close_capture(&capture.id).await;
                let results = services.analysis.conclude(&capture, &stopping).await?;
                services.store.save_results(&capture.id, &results.into_results()).await?;
                Ok::<_, Error>(())
            };
            let result = match result.await {
                // The next process makes it again.
                Err(Error::Stopping) => return,
                Err(Error::Exhausted(reason)) => Err(reason),
                other => other.map_err(|error| format!("correlation failed: {error}")),
            };
            if let Some(itself) = itself.upgrade() {
                // The actor waits for this and nothing else.
                let _ = itself.send(Event::Correlated(result)).await;
            }
        }));
    }
}
