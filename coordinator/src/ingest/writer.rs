//! The one writer: groups, deduplicates, makes durable, answers.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
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
    /// Absent only while a blocking thread has it.
    appender: Option<Appender>,
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
        appender: Appender,
        board: Board,
        metrics: Metrics,
    ) -> Self {
        Self { messages, store, appender: Some(appender), board, metrics, points: HashMap::new() }
    }

    pub(super) async fn run(mut self) {
        while let Some(first) = self.messages.recv().await {
            let (group, close) = self.gather(first).await;
            if !group.deliveries.is_empty() {
                self.commit(group).await;
            }
            if let Some((capture, done)) = close {
                self.points.remove(&capture);
                if let Some(appender) = &mut self.appender {
                    appender.close(&capture);
                }
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
        let mut batches: Vec<CheckedBatch> = Vec::new();
        for delivery in &group.deliveries {
            let verdict = self.judge(&delivery.batch, &mut fresh).await;
            if matches!(verdict, Ok(Verdict::Store)) {
                batches.push(delivery.batch.clone());
            }
            verdicts.push(verdict);
        }
        let stored = self.make_durable(batches).await;
        if let Err(error) = &stored {
            tracing::error!(%error, "batches could not be stored; agents will send them again");
        } else {
            self.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
        }
        let captures: BTreeSet<String> =
            group.deliveries.iter().map(|delivery| delivery.batch.key.capture.clone()).collect();
        for (delivery, verdict) in group.deliveries.into_iter().zip(verdicts) {
            Self::answer(delivery, verdict, stored.is_ok());
        }
        self.board.committed(captures.iter().map(String::as_str));
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
        let mut appender = self.appender.take().ok_or("the file writer is gone")?;
        let (appender, batches, written) = tokio::task::spawn_blocking(move || {
            let written = appender.append(&batches);
            (appender, batches, written)
        })
        .await
        .map_err(|e| e.to_string())?;
        self.appender = Some(appender);
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

    fn answer(delivery: Delivery, verdict: Result<Verdict, StoreError>, is_stored: bool) {
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
