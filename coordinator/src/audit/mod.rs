//! Who did what. What changes or gives away something is not done unless its record is stored first; what only tells of
//! something that happened anyway, such as a refusal, is stored soon after it.

mod record;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use record::{NAMES, Outcome, Query, Record};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::access::Caller;
use crate::connections::Peer;
use crate::error::Error;
use crate::limits;
use crate::metrics::Metrics;
use crate::store::{Store, StoreError};
use crate::time::Clock;
use crate::wire::bounded;

/// Longest wait of a caller for the record of what was done.
const PATIENCE: Duration = Duration::from_secs(2);

/// What keeps repeated actions apart: who, what, to which subject.
type Deed = (String, String, String);

/// A record to be stored soon, and whom to tell when that was tried.
type Note = (Record, oneshot::Sender<()>);

/// The way to the audit. Clones share it.
#[derive(Clone)]
pub struct Audit {
    store: Arc<dyn Store>,
    clock: Clock,
    metrics: Metrics,
    notes: mpsc::Sender<Note>,
    /// When a deed that may be repeated without end was last recorded.
    recent: Arc<Mutex<HashMap<Deed, Instant>>>,
}

impl Audit {
    /// Starts what stores the notes. It ends when every clone of the result is gone.
    pub fn start(store: Arc<dyn Store>, clock: Clock, metrics: Metrics) -> (Self, JoinHandle<()>) {
        let (notes, queue) = mpsc::channel(limits::AUDIT_QUEUE);
        let keeping = tokio::spawn(keep(queue, store.clone(), metrics.clone()));
        (Self { store, clock, metrics, notes, recent: Arc::default() }, keeping)
    }

    /// Stores that `caller` is about to do something. The caller of this must not do it unless it succeeds.
    pub async fn begin(
        &self,
        caller: &Caller,
        action: &str,
        subject: &str,
        detail: String,
    ) -> Result<(), Error> {
        let record = self.record(by(caller), action, subject, Outcome::Begun, detail);
        self.store(&record).await.map_err(|source| Error::Unaudited { action: action.to_owned(), source })
    }

    /// Stores that `caller` is given something. Many calls for the same, as pages are, make one record in
    /// [`limits::AUDIT_INTERVAL`].
    pub async fn download(&self, caller: &Caller, action: &str, subject: &str) -> Result<(), Error> {
        let record = self.record(by(caller), action, subject, Outcome::Done, String::new());
        if self.is_repeated(&record) {
            return Ok(());
        }
        if let Err(source) = self.store(&record).await {
            self.forget(&record);
            return Err(Error::Unaudited { action: action.to_owned(), source });
        }
        Ok(())
    }

    /// Tells how something that was begun ended, before its caller hears of it: what they do next is recorded after it.
    /// `subject` is what it was done to, which may be known only now.
    pub async fn end<T>(&self, caller: &Caller, action: &str, subject: &str, result: &Result<T, Error>) {
        let (outcome, detail) = match result {
            Ok(_) => (Outcome::Done, String::new()),
            Err(error @ Error::Denied(_)) => (Outcome::Refused, error.to_string()),
            Err(error) => (Outcome::Failed, error.to_string()),
        };
        let tried = self.note(self.record(by(caller), action, subject, outcome, detail));
        // A caller who does not wait for it loses nothing: it is stored all the same. One that is lost was counted.
        let _ = timeout(PATIENCE, tried).await;
    }

    /// Tells that `peer` was kept from doing something; once in [`limits::AUDIT_INTERVAL`], so that nobody can push the
    /// others' records out.
    pub fn refused(&self, peer: &Peer, action: &str, subject: &str, reason: &str) {
        let by = (peer.name(), peer.address.clone());
        let record = self.record(by, action, subject, Outcome::Refused, reason.to_owned());
        if !self.is_repeated(&record) {
            drop(self.note(record));
        }
    }

    fn record(
        &self,
        (who, peer): (String, String),
        action: &str,
        subject: &str,
        outcome: Outcome,
        detail: String,
    ) -> Record {
        Record {
            at_nanos: self.clock.now(),
            who: bounded(who),
            peer,
            action: bounded(action.to_owned()),
            subject: bounded(subject.to_owned()),
            outcome,
            detail: bounded(detail),
        }
    }

    /// Has it stored soon; the result ends once that was tried.
    fn note(&self, record: Record) -> oneshot::Receiver<()> {
        let (tried, result) = oneshot::channel();
        if let Err(error) = self.notes.try_send((record, tried)) {
            self.metrics.lost_audit_records.inc();
            tracing::error!(%error, "audit record lost: the database takes them too slowly");
        }
        result
    }

    async fn store(&self, record: &Record) -> Result<(), StoreError> {
        store(self.store.as_ref(), record).await.inspect_err(|_| {
            self.metrics.lost_audit_records.inc();
        })
    }

    /// Whether the like of it was recorded a moment ago; if not, it counts as recorded now.
    fn is_repeated(&self, record: &Record) -> bool {
        let now = Instant::now();
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = |at: &Instant| now.duration_since(*at) < limits::AUDIT_INTERVAL;
        if recent.get(&deed(record)).is_some_and(is_recent) {
            return true;
        }
        if recent.len() >= limits::AUDIT_QUEUE {
            recent.retain(|_, at| is_recent(at));
        }
        // Rather too many records than too much memory.
        if recent.len() >= limits::AUDIT_QUEUE {
            recent.clear();
        }
        recent.insert(deed(record), now);
        false
    }

    fn forget(&self, record: &Record) {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).remove(&deed(record));
    }
}

fn by(caller: &Caller) -> (String, String) {
    (caller.identity.to_string(), caller.peer.address.clone())
}

fn deed(record: &Record) -> Deed {
    (record.who.clone(), record.action.clone(), record.subject.clone())
}

async fn keep(mut queue: mpsc::Receiver<Note>, database: Arc<dyn Store>, metrics: Metrics) {
    while let Some((record, tried)) = queue.recv().await {
        if let Err(error) = store(database.as_ref(), &record).await {
            metrics.lost_audit_records.inc();
            tracing::error!(%error, ?record, "audit record lost");
        }
        let _ = tried.send(());
    }
}

/// Into the log as well: whoever has the database may not have the last word.
async fn store(database: &dyn Store, record: &Record) -> Result<(), StoreError> {
    let Record { who, peer, action, subject, outcome, detail, .. } = record;
    tracing::info!(who, peer, action, subject, ?outcome, detail, "audit");
    database.add_audit(record, limits::AUDIT_RECORDS).await
}
