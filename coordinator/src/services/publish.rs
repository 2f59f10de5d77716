//! A stream of batches from one agent, and its acknowledgements.

use std::collections::HashMap;
use std::sync::Arc;

use lastseen_proto::v1;
use prost::Message;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Context, Responses};
use crate::error::Error;
use crate::ingest::{self, Arrived, Delivery, Outcome};
use crate::jobs::Event;
use crate::limits;
use crate::model::BatchKey;
use crate::quota::Place;
use crate::wire;

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
        let publisher = Publisher { context, node, pending: HashMap::new() };
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
                    Ok(Some(batch)) => self.take(batch, &replies, &checks).await?,
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

    async fn take(
        &mut self,
        batch: v1::ObservationBatch,
        replies: &Replies,
        checks: &Arc<Semaphore>,
    ) -> Result<(), Status> {
        let permit = self.context.ingest.reserve(batch.encoded_len()).await?;
        let Some((arrived, key)) = wire::batch::arrived(&self.node, batch) else {
            return Err(Status::invalid_argument(
                "key: a batch without a key or a point; nothing can be answered",
            ));
        };
        self.pending.entry(arrived.key.clone()).or_insert((key, 0)).1 += 1;
        let (ingest, replies) = (self.context.ingest.clone(), replies.clone());
        let turn = checks.clone().acquire_owned().await.map_err(|_| Status::from(Error::Stopping))?;
        tokio::spawn(async move {
            deliver(arrived, permit, &ingest, replies).await;
            drop(turn);
        });
        Ok(())
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
                Outcome::Committed => acks.committed.push(message),
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

    async fn refused(&self, key: &BatchKey, reason: &str) {
        self.context.metrics.refused("batch");
        tracing::warn!(
            node = self.node,
            capture = key.capture,
            interface = key.point.interface,
            sequence = key.sequence,
            reason,
            "batch refused"
        );
        if let Some(handle) = self.context.jobs.board().get(&key.capture) {
            let _ = handle.events.send(Event::Refused(key.clone())).await;
        }
    }
}

/// Checks a batch where it hurts no one and hands it to the writer.
async fn deliver(
    arrived: Arrived,
    permit: tokio::sync::OwnedSemaphorePermit,
    ingest: &ingest::Ingest,
    replies: Replies,
) {
    let key = arrived.key.clone();
    let outcome = match tokio::task::spawn_blocking(move || ingest::check(arrived)).await {
        Ok(Ok(batch)) => match ingest.deliver(Delivery { batch, reply: replies.clone(), permit }).await {
            Ok(()) => return,
            Err(_) => Outcome::Failed,
        },
        Ok(Err(error)) => Outcome::Refused(error.to_string()),
        // Sent again it would break off again.
        Err(error) if error.is_panic() => Outcome::Refused(format!("its check broke off: {error}")),
        Err(_) => Outcome::Failed,
    };
    let _ = replies.send((key, outcome)).await;
}
