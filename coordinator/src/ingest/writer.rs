//! The one writer: groups, deduplicates, makes durable, answers.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::check::check_window;
use super::{Delivery, Message, Outcome};
use crate::files::{FileWriter, Written};
use crate::jobs::{Admission, Board};
use crate::limits;
use crate::metrics::{Metrics, Refused};
use crate::model::{BatchKey, CheckedBatch, PointKey};
use crate::store::{Store, StoreError};

pub(super) struct Writer {
    messages: mpsc::Receiver<Message>,
    store: Arc<dyn Store>,
    files: FileWriter,
    board: Board,
    metrics: Metrics,
    /// Points that batches named, per capture and node, so that no agent can name them without end.
    points: HashMap<String, HashMap<String, HashSet<PointKey>>>,
}

/// A group and what becomes of each of its batches.
#[derive(Default)]
struct Group {
    deliveries: Vec<Delivery>,
    bytes: usize,
}

impl Writer {
    pub(super) fn new(
        messages: mpsc::Receiver<Message>,
        store: Arc<dyn Store>,
        files: FileWriter,
        board: Board,
        metrics: Metrics,
    ) -> Self {
        Self { messages, store, files, board, metrics, points: HashMap::new() }
    }

    pub(super) async fn run(mut self) {
        while let Some(first) = self.messages.recv().await {
            let (group, close) = self.gather(first).await;
            if !group.deliveries.is_empty() {
                self.commit(group).await;
            }
            if let Some((capture, done)) = close {
                self.points.remove(&capture);
                self.files.close(&capture);
                let _ = done.send(());
            }
        }
    }

    /// What arrives within the delay, up to the size. A close ends the group, so that it comes after all before it.
    async fn gather(
        &mut self,
        first: Message,
    ) -> (Group, Option<(String, tokio::sync::oneshot::Sender<()>)>) {
        let mut group = Group::default();
        let deadline = Instant::now() + limits::GROUP_DELAY;
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Close(capture, done) => return (group, Some((capture, done))),
                Message::Batch(delivery) => {
                    group.bytes += delivery.batch.bytes.len();
                    group.deliveries.push(*delivery);
                }
            }
            if group.bytes >= limits::GROUP_BYTES {
                break;
            }
            next = timeout_at(deadline, self.messages.recv()).await.ok().flatten();
        }
        (group, None)
    }

    async fn commit(&mut self, group: Group) {
        let started = Instant::now();
        let mut fresh: HashMap<BatchKey, (u32, u32)> = HashMap::new();
        let mut verdicts = Vec::with_capacity(group.deliveries.len());
        let mut captures: BTreeMap<String, Vec<CheckedBatch>> = BTreeMap::new();
        let keys: Vec<&BatchKey> = group.deliveries.iter().map(|delivery| &delivery.batch.key).collect();
        let known = match self.store.find_batches(&keys).await {
            Ok(known) => known,
            Err(error) => return self.fail(group, &error),
        };
        let named: BTreeSet<&str> = keys.iter().map(|key| key.capture.as_str()).collect();
        let looked = self.board.learn(named).await;
        if !looked {
            tracing::warn!(
                "captures that are not led here cannot be looked up; agents will send their batches again"
            );
        }
        let mut touched = BTreeSet::new();
        for (delivery, stored) in group.deliveries.iter().zip(known) {
            let verdict = self.judge(&delivery.batch, stored, looked, &mut fresh);
            let capture = &delivery.batch.key.capture;
            if matches!(verdict, Verdict::Store) {
                captures.entry(capture.clone()).or_default().push(delivery.batch.clone());
            }
            touched.insert(capture.clone());
            verdicts.push(verdict);
        }
        let failed = self.store(captures).await;
        if failed.is_empty() {
            self.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
        }
        for (delivery, verdict) in group.deliveries.into_iter().zip(verdicts) {
            let is_stored = !failed.contains(&delivery.batch.key.capture);
            self.answer(delivery, verdict, is_stored);
        }
        self.board.committed(touched.iter().map(String::as_str));
    }

    /// Each capture by itself, so that what breaks one holds up no other. Returns those that could not be stored.
    async fn store(&mut self, captures: BTreeMap<String, Vec<CheckedBatch>>) -> BTreeSet<String> {
        let mut failed: BTreeSet<String> = captures.keys().cloned().collect();
        for written in self.files.write(captures).await {
            let capture = written.capture.clone();
            match self.make_durable(written).await {
                Ok(()) => drop(failed.remove(&capture)),
                Err(error) => {
                    tracing::error!(
                        capture,
                        error = error.as_str(),
                        "batches could not be stored; agents will send them again"
                    );
                    self.board.unstored(&capture, &error);
                    // The database may know nothing of the file, which is garbage then.
                    self.files.close(&capture);
                }
            }
        }
        failed
    }

    /// Stored already, new, or not to be stored. Unless others were `looked` at, only what is led here is refused.
    fn judge(
        &mut self,
        batch: &CheckedBatch,
        stored: Option<(u32, u32)>,
        looked: bool,
        fresh: &mut HashMap<BatchKey, (u32, u32)>,
    ) -> Verdict {
        let contents = (batch.bytes.len() as u32, batch.checksum);
        if let Some(stored) = stored {
            return Verdict::repeated(stored == contents);
        }
        match fresh.entry(batch.key.clone()) {
            Entry::Occupied(entry) if *entry.get() == contents => Verdict::Twin,
            Entry::Occupied(_) => Verdict::repeated(false),
            Entry::Vacant(entry) => {
                let verdict = self.admit(batch, looked);
                if matches!(verdict, Verdict::Store) {
                    entry.insert(contents);
                }
                verdict
            }
        }
    }

    fn admit(&mut self, batch: &CheckedBatch, looked: bool) -> Verdict {
        let capture = match self.board.admit(&batch.key, looked) {
            Admission::Wanted(capture) => capture,
            Admission::NotWanted(reason) => return Verdict::Refused(Refused::NotWanted, reason),
            Admission::Unclear => return Verdict::Unclear,
        };
        // When it arrived, the capture may not have been known here, or without its window.
        if let Err(error) = check_window(&batch.key.node, batch.slice_nanos, &capture) {
            return Verdict::Refused(Refused::Malformed, error.to_string());
        }
        match self.count_point(batch) {
            Ok(()) => Verdict::Store,
            Err(reason) => Verdict::Refused(Refused::Points, reason),
        }
    }

    fn count_point(&mut self, batch: &CheckedBatch) -> Result<(), String> {
        let nodes = self.points.entry(batch.key.capture.clone()).or_default();
        let points = nodes.entry(batch.key.node.clone()).or_default();
        if !points.contains(&batch.key.point) {
            if points.len() >= limits::POINTS_PER_NODE {
                return Err(format!("more than {} observation points", limits::POINTS_PER_NODE));
            }
            points.insert(batch.key.point.clone());
        }
        Ok(())
    }

    /// File first, then the transaction: a file without a row is garbage, a row without a file would be a lie.
    async fn make_durable(&self, written: Written) -> Result<(), String> {
        let placed = written.placed.map_err(|e| e.to_string())?;
        if written.begun.elapsed() > limits::COMMIT_AGE {
            return Err("the coordinator stood still while it wrote them".to_owned());
        }
        self.store.commit_batches(&placed).await.map_err(|e| e.to_string())?;
        for batch in placed.iter().map(|placed| &placed.batch) {
            self.metrics.committed_batches.inc();
            self.metrics.committed_observations.inc_by(u64::from(batch.rows));
            self.metrics.committed_bytes.inc_by(batch.bytes.len() as u64);
        }
        Ok(())
    }

    /// Nothing of the group can be looked up, and nothing of it is stored.
    fn fail(&self, group: Group, error: &StoreError) {
        tracing::error!(
            batches = group.deliveries.len(),
            %error,
            "batches could not be looked up; agents will send them again"
        );
        let captures: BTreeSet<&str> =
            group.deliveries.iter().map(|d| d.batch.key.capture.as_str()).collect();
        for capture in captures {
            self.board.unstored(capture, &error.to_string());
        }
        for delivery in group.deliveries {
            self.answer(delivery, Verdict::Store, false);
        }
    }

    fn answer(&self, delivery: Delivery, verdict: Verdict, is_stored: bool) {
        let outcome = match verdict {
            Verdict::Known => Outcome::Committed,
            Verdict::Store | Verdict::Twin if is_stored => Outcome::Committed,
            Verdict::Refused(why, reason) => {
                self.metrics.refused(why);
                Outcome::Refused(reason)
            }
            Verdict::Store | Verdict::Twin | Verdict::Unclear => Outcome::Failed,
        };
        if outcome == Outcome::Failed {
            self.metrics.failed_batches.inc();
        }
        // The stream has room for all it sent; if it is gone, so is whoever would hear.
        let _ = delivery.reply.try_send((delivery.batch.key, outcome));
    }
}

enum Verdict {
    Known,
    Store,
    /// The same batch twice in one group.
    Twin,
    /// It may be of a capture that another coordinator leads.
    Unclear,
    Refused(Refused, String),
}

impl Verdict {
    fn repeated(is_same: bool) -> Self {
        if is_same {
            Self::Known
        } else {
            let reason = "a batch of the same key with other contents is stored".to_owned();
            Self::Refused(Refused::Conflict, reason)
        }
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
