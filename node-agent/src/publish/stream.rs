//! The stream of batches to a coordinator, and its acknowledgements back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lastseen_proto::v1::agent_service_client::AgentServiceClient;
use lastseen_proto::v1::{BatchAck, ObservationBatch};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

use super::held::Held;
use super::outbox::Outbox;
use crate::control::Pace;
use crate::metrics::Metrics;

/// Batches between the outbox and the connection; HTTP/2 flow control holds back the rest.
const IN_FLIGHT: usize = 8;

/// One stream: what is sent on it, and what must wait.
struct Publisher {
    outbox: Arc<Outbox>,
    metrics: Arc<Metrics>,
    held: Mutex<Held>,
    /// Told when what is held changed.
    changed: Notify,
}

/// Sends every batch of the outbox, from the first that is not acknowledged, until the connection fails. Those that the
/// coordinator could not store are sent again after a pause, from `pace.first` up to `pace.longest`.
pub async fn publish(
    mut client: AgentServiceClient<Channel>,
    outbox: Arc<Outbox>,
    metrics: Arc<Metrics>,
    pace: Pace,
) -> Result<(), Status> {
    let (batches, stream) = mpsc::channel(IN_FLIGHT);
    let held = Mutex::new(Held::new(pace.first, pace.longest));
    let publisher = Publisher { outbox, metrics, held, changed: Notify::new() };
    let settling = async {
        let mut acks = client.publish_observations(ReceiverStream::new(stream)).await?.into_inner();
        while let Some(ack) = acks.message().await? {
            publisher.settle(&ack);
        }
        Err(Status::unavailable("the coordinator closed the stream of observations"))
    };
    tokio::select! {
        () = publisher.feed(batches) => Err(Status::unavailable("the stream of observations broke")),
        result = settling => result,
    }
}

impl Publisher {
    async fn feed(&self, batches: mpsc::Sender<ObservationBatch>) {
        let mut grown = self.outbox.subscribe();
        let mut sent = 0;
        loop {
            grown.mark_unchanged();
            while let Some(batch) = self.next(&mut sent) {
                if batches.send(batch).await.is_err() {
                    return;
                }
                self.metrics.batches_sent.inc();
            }
            let due = self.held().next();
            tokio::select! {
                grown = grown.changed() => if grown.is_err() { return },
                () = self.changed.notified() => {}
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
    }

    /// A batch that waited long enough, or the first behind `sent` that need not wait.
    fn next(&self, sent: &mut u64) -> Option<ObservationBatch> {
        let (mut held, now) = (self.held(), Instant::now());
        while let Some(id) = held.due(now) {
            if let Some(batch) = self.outbox.get(id) {
                return Some(batch);
            }
        }
        while let Some((id, batch)) = self.outbox.after(*sent) {
            *sent = id;
            let capture = batch.key.as_ref().map_or("", |key| key.capture_id.as_str());
            if !held.holds(capture, id, now) {
                return Some(batch);
            }
        }
        None
    }

    fn settle(&self, ack: &BatchAck) {
        for key in &ack.committed {
            if self.outbox.settle(key) {
                self.metrics.batches_committed.inc();
                self.held().stored(&key.capture_id, Instant::now());
            }
        }
        for refused in &ack.refused {
            let Some(key) = &refused.key else { continue };
            if self.outbox.settle(key) {
                self.metrics.batches_refused.inc();
                tracing::error!(
                    capture = key.capture_id,
                    sequence = key.sequence,
                    reason = refused.reason,
                    "the coordinator refused a batch; it is dropped"
                );
            }
        }
        for key in &ack.failed {
            let Some(id) = self.outbox.id_of(key) else { continue };
            if let Some(pause) = self.held().failed(&key.capture_id, id, Instant::now()) {
                tracing::warn!(
                    capture = key.capture_id,
                    retry_in = ?pause,
                    "the coordinator could not store a batch; its log says why"
                );
            }
        }
        self.changed.notify_one();
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
