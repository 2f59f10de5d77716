//! The stream of batches to a coordinator, and its acknowledgements back.

use std::sync::Arc;

use lastseen_proto::v1::agent_service_client::AgentServiceClient;
use lastseen_proto::v1::{BatchAck, ObservationBatch};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

use super::outbox::Outbox;
use crate::metrics::Metrics;

/// Batches between the outbox and the connection; HTTP/2 flow control holds back the rest.
const IN_FLIGHT: usize = 8;

/// Sends every batch of the outbox, from the first that is not acknowledged, until the connection fails.
pub async fn publish(
    mut client: AgentServiceClient<Channel>,
    outbox: Arc<Outbox>,
    metrics: Arc<Metrics>,
) -> Result<(), Status> {
    let (batches, stream) = mpsc::channel(IN_FLIGHT);
    let feeding = feed(outbox.clone(), batches, metrics.clone());
    let settling = async {
        let mut acks = client.publish_observations(ReceiverStream::new(stream)).await?.into_inner();
        while let Some(ack) = acks.message().await? {
            settle(&outbox, &ack, &metrics);
        }
        Err(Status::unavailable("the coordinator closed the stream of observations"))
    };
    tokio::select! {
        () = feeding => Err(Status::unavailable("the stream of observations broke")),
        result = settling => result,
    }
}

async fn feed(outbox: Arc<Outbox>, batches: mpsc::Sender<ObservationBatch>, metrics: Arc<Metrics>) {
    let mut grown = outbox.subscribe();
    let mut sent = 0;
    loop {
        grown.mark_unchanged();
        while let Some((id, batch)) = outbox.after(sent) {
            if batches.send(batch).await.is_err() {
                return;
            }
            metrics.batches_sent.inc();
            sent = id;
        }
        if grown.changed().await.is_err() {
            return;
        }
    }
}

fn settle(outbox: &Outbox, ack: &BatchAck, metrics: &Metrics) {
    for key in &ack.committed {
        if outbox.settle(key) {
            metrics.batches_committed.inc();
        }
    }
    for refused in &ack.refused {
        let Some(key) = &refused.key else { continue };
        if outbox.settle(key) {
            metrics.batches_refused.inc();
            tracing::error!(
                capture = key.capture_id,
                sequence = key.sequence,
                reason = refused.reason,
                "the coordinator refused a batch; it is dropped"
            );
        }
    }
}
