//! Runs the machine of one capture: feeds it what happens and carries out what it wants.

use std::collections::BTreeMap;
use std::mem::take;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use super::Services;
use super::conclusion::Conclusion;
use super::machine::{Effect, Left, Links, Machine, Status};
use super::trace::Trace;
use crate::cluster::{Cluster, Lease, letters};
use crate::error::Error;
use crate::fleet::Command;
use crate::limits;
use crate::model::{BatchKey, Capture, Part, SECOND, State};
use crate::store::StoreError;
use crate::store::cluster::MailRow;

/// Refused batches of one node that who leads a capture next is told of.
const HANDED_OVER: usize = 64;

/// What happens to a capture.
#[derive(Debug)]
pub enum Event {
    /// An agent spoke.
    Status(String, Status),
    /// An earlier process of a node's agent left batches, which follow.
    Left(String, Vec<Left>),
    /// An agent came or went.
    Fleet,
    /// Batches of the capture could not be stored, for this reason. Agents send them again.
    Unstored(String),
    /// A batch will never be accepted.
    Refused(BatchKey),
    /// Somebody wants it to end; answered once that is stored, or could not be.
    Stop(String, oneshot::Sender<Result<(), Error>>),
    /// The report cannot be made or stored for now, for this reason.
    Postponed(String),
    /// The correlation run ended.
    Correlated(Result<(), String>),
}

/// Answers the caller of the start once the window is fixed, or why it never will be.
pub(super) type Started = oneshot::Sender<Result<(), Error>>;

pub(super) struct Actor {
    pub(super) machine: Machine,
    pub(super) trace: Trace,
    pub(super) events: mpsc::Receiver<Event>,
    /// Told when batches were committed.
    pub(super) committed: Arc<Notify>,
    pub(super) itself: mpsc::WeakSender<Event>,
    pub(super) view: watch::Sender<Arc<Capture>>,
    pub(super) started: Option<Started>,
    /// When the machine last stepped.
    pub(super) stepped_nanos: Option<i64>,
    /// The correlation run, once there is one.
    pub(super) run: Option<JoinHandle<()>>,
    pub(super) services: Services,
    /// The right to do all this.
    pub(super) lease: Lease,
    /// The way to agents of other coordinators, where there are others.
    pub(super) cluster: Option<Cluster>,
    /// What the others know of it, and since when.
    pub(super) told: (Arc<Capture>, Instant),
    /// What happened here, for who leads it next: agents that stay here do not say it again.
    pub(super) heard: BTreeMap<[String; 3], MailRow>,
}

impl Actor {
    /// Until the capture ends, or the coordinator stops; then the next process goes on from what is stored.
    pub(super) async fn run(&mut self) {
        let over = self.lease.over().clone();
        self.count_stored().await;
        // What could not be stored is tried again at the next wake, a second away at most.
        while self.advance().await.unwrap_or(true) {
            self.tell().await;
            let wake = self.sleep();
            tokio::select! {
                // What was stored is known before a deadline judges it.
                biased;
                () = over.cancelled() => return self.call_off().await,
                () = self.committed.notified() => self.count_stored().await,
                event = self.events.recv() => {
                    let Some(event) = event else { return };
                    self.take(event).await;
                    // One step for all that waits: with a thousand nodes each step looks at a thousand parts.
                    for _ in 0..limits::CAPTURE_QUEUE {
                        let Ok(event) = self.events.try_recv() else { break };
                        self.take(event).await;
                    }
                }
                () = wake => {}
            }
        }
    }

    /// Steps the machine and does what it wants. False when nothing follows. An error: it could not be stored, and
    /// nothing that rests on it was done.
    async fn advance(&mut self) -> Result<bool, StoreError> {
        // One that has ended needs no lease: nobody takes it over, and its agents must hear of it.
        if !self.lease.is_held() && !self.machine.capture().state.is_final() {
            // Whether it is over, or only late, is heard in a moment.
            return Ok(true);
        }
        let now = self.services.clock.now();
        // It sleeps a second at most.
        let last = self.stepped_nanos.replace(now).unwrap_or(now);
        if now - last > limits::STANDSTILL_NANOS {
            tracing::warn!(
                capture = self.machine.capture().id,
                seconds = (now - last) / SECOND,
                "this process stood still"
            );
            self.machine.stood_still(now);
        }
        let effects = self.machine.step(now, &self.links(now));
        let (mut sends, mut topologies) = (Vec::new(), Vec::new());
        for effect in effects {
            match effect {
                Effect::Save => self.save().await?,
                Effect::SaveTopology(node) => topologies.push(node),
                Effect::SaveTranslations(told) => self.save_translations(told).await?,
                Effect::Send(node, command) => sends.push((node, command)),
                Effect::Correlate => {
                    self.send(take(&mut topologies), take(&mut sends)).await?;
                    self.correlate();
                }
                Effect::Finish => {
                    self.send(take(&mut topologies), take(&mut sends)).await?;
                    self.publish();
                    // One that was stopped before its window may have batches already.
                    self.services.ingest.close_capture(&self.machine.capture().id).await;
                    self.answer_start();
                    return Ok(false);
                }
            }
        }
        // Batches come a moment after an agent hears of the window: who judges them must know it by then.
        self.publish();
        self.send(topologies, sends).await?;
        if self.machine.capture().window.is_some() {
            self.answer_start();
        }
        Ok(true)
    }

    /// To the agents that are here, and those that others have, once the networks of `topologies` are stored. An error:
    /// some may not have got theirs.
    async fn send(
        &mut self,
        topologies: Vec<String>,
        sends: Vec<(String, Command)>,
    ) -> Result<(), StoreError> {
        self.save_topologies(topologies).await?;
        let mut elsewhere = Vec::new();
        for (node, command) in sends {
            match self.services.fleet.session_elsewhere(&node).filter(|_| self.cluster.is_some()) {
                Some(session) => elsewhere.push((session, node, command)),
                None => drop(self.services.fleet.send(&node, command)),
            }
        }
        let Some(cluster) = self.cluster.as_ref().filter(|_| !elsewhere.is_empty()) else { return Ok(()) };
        let sent = cluster.send(self.lease.fence(), elsewhere, self.machine.is_rehearsal()).await;
        sent.inspect_err(|error| self.not_saved(error))
    }

    /// All of the step is to be made again. Once somebody else leads the capture, nothing is done about it here any more.
    fn not_saved(&mut self, error: &StoreError) {
        self.machine.unsaved();
        let capture = &self.machine.capture().id;
        if matches!(error, StoreError::Fenced { .. }) {
            tracing::info!(capture, "another coordinator leads it now");
            self.lease.lose();
        } else {
            tracing::error!(capture, %error, "cannot store the capture; it waits until that works");
        }
    }

    /// The others show what is stored: it must not be old.
    async fn tell(&mut self) {
        let capture = self.machine.capture();
        let is_shown = matches!(capture.state, State::Running | State::Draining) && self.lease.is_held();
        let is_old = self.told.1.elapsed() >= limits::TELL && *self.told.0 != *capture;
        if self.cluster.is_none() || self.machine.is_rehearsal() || !is_shown || !is_old {
            return;
        }
        self.told = (Arc::new(capture.clone()), Instant::now());
        if let Err(error) = self.services.store.save_capture(capture).await {
            self.not_saved(&error);
        }
    }

    async fn take(&mut self, event: Event) {
        self.remember(&event);
        let now = self.services.clock.now();
        match event {
            Event::Status(node, status) => self.machine.status(&node, status, now),
            Event::Left(node, left) => self.machine.left(&node, left, now),
            Event::Fleet => {}
            Event::Unstored(reason) => self.machine.unstored(reason, now),
            Event::Refused(key) => self.machine.refused(&key),
            Event::Stop(who, done) => {
                self.machine.stop(&who, now);
                let stored = self.advance().await.map_err(|error| error.to_string());
                let stored = stored.and_then(|_| self.led());
                let _ = done.send(stored.map_err(|reason| self.not_stopped(reason)));
            }
            Event::Postponed(reason) => self.machine.postponed(&reason),
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

    /// Whether what was decided here counts.
    fn led(&self) -> Result<(), String> {
        let is_led =
            self.lease.fence().is_none() || self.lease.is_held() && !self.lease.over().is_cancelled();
        is_led.then_some(()).ok_or_else(|| "another coordinator takes the capture over".to_owned())
    }

    fn not_stopped(&self, reason: String) -> Error {
        Error::NotStopped { capture: self.machine.capture().id.clone(), reason }
    }

    async fn save(&mut self) -> Result<(), StoreError> {
        let capture = self.machine.capture();
        tracing::info!(capture = capture.id, state = ?capture.state, reason = capture.reason, "capture");
        if let Err(error) = self.services.store.save_capture(capture).await {
            self.not_saved(&error);
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

    async fn save_topologies(&mut self, nodes: Vec<String>) -> Result<(), StoreError> {
        if nodes.is_empty() {
            return Ok(());
        }
        let (capture, now) = (&self.machine.capture().id, self.services.clock.now());
        let known = |node: String| {
            let topology = self.services.fleet.node(&node, now)?.record.topology;
            Some((node, topology))
        };
        let topologies: Vec<_> = nodes.into_iter().filter_map(known).collect();
        let stored = self.services.store.save_topologies(capture, &topologies).await;
        stored.inspect_err(|error| self.not_saved(error))
    }

    async fn save_translations(&mut self, told: Vec<(String, Bytes)>) -> Result<(), StoreError> {
        let stored = self.services.store.save_translations(&self.machine.capture().id, &told).await;
        stored.inspect_err(|error| {
            self.machine.untold(told);
            self.not_saved(error);
        })
    }

    fn publish(&mut self) {
        self.trace.follow(self.machine.capture());
        self.view.send_replace(Arc::new(self.machine.capture().clone()));
    }

    fn answer_start(&mut self) {
        let Some(started) = self.started.take() else { return };
        let answer = Some(Ok(())).filter(|_| self.machine.is_rehearsal());
        let answer = answer.or_else(|| started_as(self.machine.capture())).unwrap_or(Ok(()));
        // The caller may be gone.
        let _ = started.send(answer);
    }

    fn remember(&mut self, event: &Event) {
        if self.lease.fence().is_none() {
            return;
        }
        let capture = &self.machine.capture().id;
        let Some(row) = letters::mail(capture, event, &self.services.fleet) else { return };
        let key = [row.node.clone(), row.kind.clone(), row.subject.clone()];
        // A node has one status, but may have any number of batches refused; those beyond count as not arrived.
        let of_this_kind = [row.node.clone(), row.kind.clone(), String::new()];
        let is_like = |[node, kind, _]: &&[String; 3]| *node == row.node && *kind == row.kind;
        let likes = self.heard.range(of_this_kind..).map(|(key, _)| key).take_while(is_like).count();
        if likes < HANDED_OVER || self.heard.contains_key(&key) {
            self.heard.insert(key, row);
        }
    }

    /// Leaves what happened here to whoever leads the capture now. Nobody finds this actor on the board any more.
    pub(super) async fn hand_over(mut self) {
        self.events.close();
        while let Some(event) = self.events.recv().await {
            self.remember(&event);
        }
        let Some(cluster) = self.cluster.filter(|_| !self.heard.is_empty()) else { return };
        let heard: Vec<MailRow> = self.heard.into_values().collect();
        if let Err(error) = cluster.shared().post(&heard).await {
            let capture = &self.machine.capture().id;
            tracing::error!(capture, %error, "cannot tell who leads the capture what happened to it here");
        }
    }

    /// Lets a run note that it was called off. Nobody listens to its result any more.
    async fn call_off(&mut self) {
        if let Some(run) = self.run.take() {
            let _ = run.await;
        }
    }

    fn correlate(&mut self) {
        self.publish();
        let conclusion = Conclusion {
            services: self.services.clone(),
            capture: self.machine.capture().clone(),
            stopping: self.lease.over().clone(),
            itself: self.itself.clone(),
        };
        self.run = Some(tokio::spawn(conclusion.run().instrument(self.trace.phase())));
    }
}

/// What the caller of a start is told, once that is known: an agent said why it cannot do it, nobody answered, or there
/// is a window.
pub(super) fn started_as(capture: &Capture) -> Option<Result<(), Error>> {
    let text = || format!("{} ({})", capture.reason, capture.id);
    let has_refused = |part: &Part| part.state == State::Failed && part.incarnation.is_some();
    match capture.state {
        _ if capture.window.is_some() => Some(Ok(())),
        State::Failed if capture.parts.iter().any(has_refused) => Some(Err(Error::Refused(text()))),
        State::Failed | State::Cancelled => Some(Err(Error::Precondition(text()))),
        _ => None,
    }
}
