//! A stream of batches from one agent, and its acknowledgements.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lastseen_proto::v1;
use prost::Message;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Context, Responses};
use crate::error::Error;
use crate::ingest::{self, Arrived, Delivery, Outcome, check_names};
use crate::jobs::Event;
use crate::limits;
use crate::metrics::{Metrics, Refused};
use crate::model::{BatchKey, Capture};
use crate::quota::Place;
use crate::wire;

/// Between two lines of the log about refused batches of one stream.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

type Replies = mpsc::Sender<(BatchKey, Outcome)>;

/// Starts taking batches; the stream of acknowledgements ends after the agent has ended its own.
pub(super) fn open(
    context: Context,
    node: String,
    place: Place,
    inbox: Streaming<v1::ObservationBatch>,
) -> Responses<v1::BatchAck> {
    let (outbox, stream) = mpsc::channel(limits::BATCHES_PER_STREAM);
    tokio::spawn(async move {
        let publisher = Publisher { context, node, pending: HashMap::new(), logged: (None, 0) };
        if let Err(status) = publisher.run(inbox, &outbox).await {
            let _ = outbox.send(Err(status)).await;
        }
        drop(place);
    });
    ReceiverStream::new(stream)
}

struct Publisher {
    context: Context,
    node: String,
    /// Keys as they came, to answer with, and how many batches wait under each.
    pending: HashMap<BatchKey, (v1::BatchKey, usize)>,
    /// When a refusal was last in the log, and how many were not since.
    logged: (Option<Instant>, u64),
}

impl Publisher {
    async fn run(
        mut self,
        mut inbox: Streaming<v1::ObservationBatch>,
        outbox: &mpsc::Sender<Result<v1::BatchAck, Status>>,
    ) -> Result<(), Status> {
        let (replies, mut answers) = mpsc::channel(limits::BATCHES_PER_STREAM);
        let checks = Arc::new(Semaphore::new(limits::BATCHES_PER_STREAM));
        let mut is_open = true;
        while is_open || !self.pending.is_empty() {
            // Each waiting batch holds a permit until it is answered: never more answers than the channel has room for.
            let waiting: usize = self.pending.values().map(|(_, count)| count).sum();
            let has_room = waiting < limits::BATCHES_PER_STREAM;
            tokio::select! {
                () = self.context.stopping.cancelled(), if is_open => is_open = false,
                message = inbox.message(), if is_open && has_room => match message {
                    Ok(Some(batch)) => {
                        let Some(refused) = self.take(batch, &replies, &checks).await? else { continue };
                        let acks = v1::BatchAck { refused: vec![refused], ..Default::default() };
                        if outbox.send(Ok(acks)).await.is_err() {
                            return Ok(());
                        }
                    }
                    Ok(None) => is_open = false,
                    Err(status) => return Err(status),
                },
                answer = answers.recv() => {
                    let Some(answer) = answer else { return Ok(()) };
                    let acks = self.acknowledge(answer, &mut answers).await;
                    if outbox.send(Ok(acks)).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
        if self.context.stopping.is_cancelled() { Err(Error::Stopping.into()) } else { Ok(()) }
    }

    /// Sends a batch on its way, or says why that cannot be: without a point no other answer would find it.
    async fn take(
        &mut self,
        batch: v1::ObservationBatch,
        replies: &Replies,
        checks: &Arc<Semaphore>,
    ) -> Result<Option<v1::RefusedBatch>, Status> {
        let bytes = batch.encoded_len();
        let permit = self.context.ingest.reserve(&self.node, bytes).await?;
        self.context.metrics.received_batches.inc();
        self.context.metrics.received_bytes.inc_by(bytes as u64);
        let (arrived, key) = match wire::batch::arrived(&self.node, batch) {
            Ok(arrived) => arrived,
            Err(key) => return Ok(Some(self.nameless(key))),
        };
        self.pending.entry(arrived.key.clone()).or_insert((key, 0)).1 += 1;
        let (ingest, replies) = (self.context.ingest.clone(), replies.clone());
        let metrics = self.context.metrics.clone();
        let capture = self.context.jobs.board().get(&arrived.key.capture);
        let capture = capture.map(|handle| handle.view.borrow().clone());
        let turn = checks.clone().acquire_owned().await.map_err(|_| Status::from(Error::Stopping))?;
        tokio::spawn(async move {
            deliver((arrived, capture), permit, (&ingest, &metrics), replies).await;
            drop(turn);
        });
        Ok(None)
    }

    /// The answer to a batch that does not say what it is of.
    fn nameless(&self, key: Option<v1::BatchKey>) -> v1::RefusedBatch {
        let reason = match &key {
            None => "key: missing; a batch needs one",
            Some(_) => "key: it names no observation point; a batch needs one",
        };
        self.context.metrics.refused(Refused::Malformed);
        tracing::debug!(node = self.node, reason, "batch refused");
        v1::RefusedBatch { key, reason: reason.to_owned() }
    }

    /// Answers what came, and what else is there already, in one message.
    async fn acknowledge(
        &mut self,
        first: (BatchKey, Outcome),
        answers: &mut mpsc::Receiver<(BatchKey, Outcome)>,
    ) -> v1::BatchAck {
        let mut acks = v1::BatchAck::default();
        let mut next = Some(first);
        while let Some((key, outcome)) = next {
            let Some(message) = self.answered(&key) else { break };
            match outcome {
                Outcome::Committed => {
                    self.context.metrics.acknowledged_batches.inc();
                    acks.committed.push(message);
                }
                Outcome::Refused(reason) => {
                    self.refused(&key, &reason).await;
                    acks.refused.push(v1::RefusedBatch { key: Some(message), reason });
                }
                // What ails its capture must not end the stream for the others.
                Outcome::Failed => acks.failed.push(message),
            }
            next = answers.try_recv().ok();
        }
        acks
    }

    fn answered(&mut self, key: &BatchKey) -> Option<v1::BatchKey> {
        let (message, count) = self.pending.get_mut(key)?;
        *count -= 1;
        let (message, is_last) = (message.clone(), *count == 0);
        if is_last {
            self.pending.remove(key);
        }
        Some(message)
    }

    async fn refused(&mut self, key: &BatchKey, reason: &str) {
        self.log(key, reason);
        // What no agent could have announced is not waited for either.
        let handle = self.context.jobs.board().get(&key.capture).filter(|_| check_names(key).is_ok());
        let handle = handle.filter(|handle| handle.view.borrow().part(&self.node).is_some());
        if let Some(handle) = handle {
            let _ = handle.events.send(Event::Refused(key.clone())).await;
        }
    }

    /// A line in [`LOG_INTERVAL`]: an agent that sends nothing else must not fill the log.
    fn log(&mut self, key: &BatchKey, reason: &str) {
        let (at, more) = self.logged;
        if at.is_some_and(|at| at.elapsed() < LOG_INTERVAL) {
            self.logged.1 += 1;
            return;
        }
        self.logged = (Some(Instant::now()), 0);
        tracing::warn!(
            node = self.node,
            capture = wire::bounded(key.capture.clone()),
            interface = wire::bounded(key.point.interface.clone()),
            sequence = key.sequence,
            reason,
            more,
            "batch refused"
        );
    }
}

/// Checks a batch where it hurts no one and hands it to the writer.
async fn deliver(
    (arrived, capture): (Arrived, Option<Arc<Capture>>),
    permit: ingest::Reserved,
    (ingest, metrics): (&ingest::Ingest, &Metrics),
    replies: Replies,
) {
    let key = arrived.key.clone();
    let outcome = match ingest.check(arrived, capture).await {
        Ok(Ok(batch)) => {
            metrics.received_observations.inc_by(batch.rows.into());
            match ingest.deliver(Delivery { batch, reply: replies.clone(), permit }).await {
                Ok(()) => return,
                Err(_) => Outcome::Failed,
            }
        }
        Ok(Err(error)) => {
            metrics.refused(Refused::Malformed);
            Outcome::Refused(error.to_string())
        }
        // Sent again it would break off again.
        Err(error) if error.is_panic() => {
            metrics.refused(Refused::CheckFailed);
            Outcome::Refused(format!("its check broke off: {error}"))
        }
        Err(_) => Outcome::Failed,
    };
    let _ = replies.send((key, outcome)).await;
}
