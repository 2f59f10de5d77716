//! Stands in for the actor of a capture that another coordinator leads: what happens to it here goes there by mail.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::drain::Ledger;
use super::{Board, Event, Handle, Jobs};
use crate::cluster::{Cluster, letters};
use crate::error::Error;
use crate::fleet::Fleet;
use crate::ingest::Ingest;
use crate::limits;
use crate::model::{Capture, State};

/// Events that go in one statement.
const ROUND: usize = 256;
/// Whoever leads a capture stores a stop within this time, or nobody leads it.
const STOP: Duration = Duration::from_secs(10);

/// A capture that is followed, for who knows how it goes on.
pub(crate) struct Followed {
    /// As it is stored.
    pub(crate) view: watch::Sender<Arc<Capture>>,
    over: CancellationToken,
    committed: Arc<Notify>,
}

struct Follower {
    capture: String,
    events: mpsc::Receiver<Event>,
    view: watch::Receiver<Arc<Capture>>,
    over: CancellationToken,
    board: Board,
    fleet: Arc<Fleet>,
    ingest: Ingest,
    cluster: Cluster,
    /// Refused batches that whoever leads it was told of, no more than it would tell apart.
    told: Ledger,
}

impl Jobs {
    /// Follows a capture that another coordinator leads. None where there are no others, and where it is led here after all.
    pub(crate) fn follow(&self, capture: Capture) -> Option<Followed> {
        let cluster = self.cluster.clone()?;
        let (sender, events) = mpsc::channel(limits::CAPTURE_QUEUE);
        let (view_sender, view) = watch::channel(Arc::new(capture));
        let (id, committed) = (view.borrow().id.clone(), Arc::new(Notify::new()));
        let over = self.stopping.child_token();
        let handle =
            Handle { events: sender, committed: committed.clone(), view: view.clone(), is_led: false };
        if !self.board.insert_followed(&id, handle) {
            return None;
        }
        let follower = Follower {
            capture: id,
            events,
            view,
            over: over.clone(),
            board: self.board.clone(),
            fleet: self.services.fleet.clone(),
            ingest: self.services.ingest.clone(),
            cluster,
            told: Ledger::default(),
        };
        self.actors.spawn(follower.run());
        Some(Followed { view: view_sender, over, committed })
    }
}

impl Followed {
    /// Whether batches and news still come to it.
    pub(crate) fn stands(&self, board: &Board, id: &str) -> bool {
        board.get(id).is_some_and(|handle| Arc::ptr_eq(&handle.committed, &self.committed))
    }

    /// It has ended, or is led here.
    pub(crate) fn end(self, board: &Board, id: &str) {
        board.remove(id, &self.committed);
        self.over.cancel();
    }
}

impl Follower {
    async fn run(mut self) {
        let mut events = Vec::new();
        while self.over.run_until_cancelled(self.events.recv_many(&mut events, ROUND)).await.is_some() {
            self.post(&mut events).await;
        }
        // What came before the end of the last round is of interest to who leads it now.
        self.events.close();
        while self.events.recv_many(&mut events, ROUND).await > 0 {
            self.post(&mut events).await;
        }
        // It has ended, or was deleted before anybody looked; not so if it is led here now, or the process ends.
        if self.board.get(&self.capture).is_none() {
            self.ingest.close_capture(&self.capture).await;
        }
    }

    async fn post(&mut self, events: &mut Vec<Event>) {
        let is_news = |event: &&Event| !matches!(event, Event::Refused(key) if !self.told.refuse(key));
        let mail = events
            .iter()
            .filter(is_news)
            .filter_map(|event| letters::mail(&self.capture, event, &self.fleet));
        let mail = letters::latest(mail);
        let posted = if mail.is_empty() { Ok(()) } else { self.cluster.shared().post(&mail).await };
        if let Err(error) = &posted {
            tracing::error!(capture = self.capture, %error, "cannot tell who leads the capture what happened to it");
        }
        for event in events.drain(..) {
            let Event::Stop(_, done) = event else { continue };
            match &posted {
                Ok(()) => drop(tokio::spawn(confirm(self.view.clone(), done))),
                Err(error) => drop(done.send(Err(not_stopped(&self.capture, error.to_string())))),
            }
        }
    }
}

/// Answers a stop once it is stored. Whoever leads it later reads of it as well.
async fn confirm(mut view: watch::Receiver<Arc<Capture>>, done: oneshot::Sender<Result<(), Error>>) {
    let id = view.borrow().id.clone();
    let is_stopped = |capture: &Arc<Capture>| capture.state >= State::Draining || !capture.reason.is_empty();
    let answer = match timeout(STOP, view.wait_for(is_stopped)).await {
        Ok(_) => Ok(()),
        Err(_) => Err(not_stopped(&id, "the coordinator that leads it does not answer".to_owned())),
    };
    // The caller may be gone.
    let _ = done.send(answer);
}

fn not_stopped(capture: &str, reason: String) -> Error {
    Error::NotStopped { capture: capture.to_owned(), reason }
}
