//! The one writer: groups, deduplicates, makes durable, answers.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::{Delivery, Message, Outcome};
use crate::files::Appender;
use crate::jobs::Board;
use crate::limits;
use crate::metrics::Metrics;
use crate::model::{BatchKey, CheckedBatch, PointKey};
use crate::store::{Placed, Store, StoreError};

pub(super) struct Writer {
    messages: mpsc::Receiver<Message>,
    store: Arc<dyn Store>,
    directory: PathBuf,
    appender: Appender,
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
        directory: PathBuf,
        board: Board,
        metrics: Metrics,
    ) -> Self {
        let appender = Appender::new(directory.clone());
        Self { messages, store, directory, appender, board, metrics, points: HashMap::new() }
    }

    pub(super) async fn run(mut self) {
        while let Some(first) = self.messages.recv().await {
            let (group, close) = self.gather(first).await;
            if !group.deliveries.is_empty() {
                self.commit(group).await;
            }
            if let Some((capture, done)) = close {
                self.points.remove(&capture);
                self.appender.close(&capture);
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
        for delivery in &group.deliveries {
            let verdict = self.judge(&delivery.batch, &mut fresh).await;
            let batches = captures.entry(delivery.batch.key.capture.clone()).or_default();
            if matches!(verdict, Ok(Verdict::Store)) {
                batches.push(delivery.batch.clone());
            }
            verdicts.push(verdict);
        }
        let touched: Vec<String> = captures.keys().cloned().collect();
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
        let mut failed = BTreeSet::new();
        for (capture, batches) in captures {
            let count = batches.len();
            if let Err(error) = self.make_durable(batches).await {
                tracing::error!(
                    capture,
                    batches = count,
                    error = error.as_str(),
                    "batches could not be stored; agents will send them again"
                );
                self.board.unstored(&capture, &error);
                failed.insert(capture);
            }
        }
        failed
    }

    /// Stored already, new, or not to be stored.
    async fn judge(
        &mut self,
        batch: &CheckedBatch,
        fresh: &mut HashMap<BatchKey, (u32, u32)>,
    ) -> Result<Verdict, StoreError> {
        let contents = (batch.bytes.len() as u32, batch.checksum);
        if let Some(stored) = self.store.find_batch(&batch.key).await? {
            return Ok(Verdict::repeated(stored == contents));
        }
        match fresh.entry(batch.key.clone()) {
            Entry::Occupied(entry) if *entry.get() == contents => Ok(Verdict::Twin),
            Entry::Occupied(_) => Ok(Verdict::repeated(false)),
            Entry::Vacant(entry) => match self.board.admit(&batch.key).and_then(|()| self.count_point(batch))
            {
                Ok(()) => {
                    entry.insert(contents);
                    Ok(Verdict::Store)
                }
                Err(reason) => Ok(Verdict::Refused(reason)),
            },
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
    async fn make_durable(&mut self, batches: Vec<CheckedBatch>) -> Result<(), String> {
        if batches.is_empty() {
            return Ok(());
        }
        let (batches, written) = self
            .on_files(move |appender| {
                let written = appender.append(&batches);
                (batches, written)
            })
            .await?;
        let locations = written.map_err(|e| e.to_string())?;
        let placed: Vec<Placed> =
            batches.into_iter().zip(locations).map(|(batch, location)| Placed { batch, location }).collect();
        self.store.commit_batches(&placed).await.map_err(|e| e.to_string())?;
        for Placed { batch, .. } in &placed {
            self.metrics.committed_batches.inc();
            self.metrics.committed_observations.inc_by(u64::from(batch.rows));
            self.metrics.committed_bytes.inc_by(batch.bytes.len() as u64);
        }
        Ok(())
    }

    /// Runs `work` where it may block. If it panics, what it had open is not written to again.
    async fn on_files<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Appender) -> T + Send + 'static,
    ) -> Result<T, String> {
        let unused = Appender::new(self.directory.clone());
        let mut appender = std::mem::replace(&mut self.appender, unused);
        let done = tokio::task::spawn_blocking(move || {
            let result = work(&mut appender);
            (appender, result)
        });
        let (appender, result) =
            done.await.map_err(|e| format!("writing observation files broke off: {e}"))?;
        self.appender = appender;
        Ok(result)
    }

    fn answer(&self, delivery: Delivery, verdict: Result<Verdict, StoreError>, is_stored: bool) {
        let outcome = match verdict {
            Ok(Verdict::Known) => Outcome::Committed,
            Ok(Verdict::Store | Verdict::Twin) if is_stored => Outcome::Committed,
            Ok(Verdict::Refused(reason)) => Outcome::Refused(reason),
            Ok(Verdict::Store | Verdict::Twin) => Outcome::Failed,
            Err(error) => {
                tracing::error!(%error, "a batch could not be looked up");
                Outcome::Failed
            }
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
    Refused(String),
}

impl Verdict {
    fn repeated(is_same: bool) -> Self {
        if is_same {
            Self::Known
        } else {
            Self::Refused("a batch of the same key with other contents is stored".to_owned())
        }
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
