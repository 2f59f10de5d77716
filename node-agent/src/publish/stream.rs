//! The stream of batches to a coordinator, and its acknowledgements back.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lastseen_proto::v1::agent_service_client::AgentServiceClient;
use lastseen_proto::v1::{BatchAck, BatchKey, ObservationBatch};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

use super::held::Held;
use crate::control::Pace;
use crate::metrics::Metrics;
use crate::spool::Spool;

/// Batches between the spool and the connection; HTTP/2 flow control holds back the rest.
const IN_FLIGHT: usize = 8;
/// Refusals remembered, so that none is told twice.
const REFUSALS: usize = 64;
/// Times that a batch is read before it counts as damaged.
const READS: u32 = 5;

/// One stream: what is sent on it, and what must wait.
struct Publisher {
    spool: Arc<Spool>,
    metrics: Arc<Metrics>,
    held: Mutex<Held>,
    /// Refusals that the log has: a capture that ended without this agent refuses all it has of it.
    told: Mutex<HashSet<(String, String)>>,
    /// Told when what is held changed.
    changed: Notify,
}

/// Sends every batch of the spool, from the first that is not acknowledged, until the connection fails. Those that the
/// coordinator could not store are sent again after a pause, from `pace.first` up to `pace.longest`.
pub async fn publish(
    mut client: AgentServiceClient<Channel>,
    spool: Arc<Spool>,
    metrics: Arc<Metrics>,
    pace: Pace,
) -> Result<(), Status> {
    let (batches, stream) = mpsc::channel(IN_FLIGHT);
    let held = Mutex::new(Held::new(pace.first, pace.longest));
    let publisher = Publisher { spool, metrics, held, told: Mutex::default(), changed: Notify::new() };
    let publisher = Arc::new(publisher);
    let settling = async {
        let mut acks = client.publish_observations(ReceiverStream::new(stream)).await?.into_inner();
        while let Some(ack) = acks.message().await? {
            let publisher = publisher.clone();
            // It removes files, which may take its time, and the control stream has none.
            let _ = tokio::task::spawn_blocking(move || publisher.settle(&ack)).await;
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
        let mut grown = self.spool.subscribe();
        let mut sent = 0;
        loop {
            grown.mark_unchanged();
            while let Some((id, failures)) = self.next(&mut sent, Instant::now()) {
                let Some(batch) = self.read(id, failures).await else { continue };
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

    /// A batch that waited long enough, or the first behind `sent` that need not wait, and how often it could not be read.
    fn next(&self, sent: &mut u64, now: Instant) -> Option<(u64, u32)> {
        let mut held = self.held();
        let waited = held.due(now).map(|id| (id, 0));
        if let Some(waited) = waited.or_else(|| held.reread(now)) {
            return Some(waited);
        }
        while let Some((id, capture)) = self.spool.after(*sent) {
            *sent = id;
            if !held.holds(&capture, id, now) {
                return Some((id, 0));
            }
        }
        None
    }

    /// From the page cache, or from the disk if it waited for long. What cannot be read at the moment is tried again after
    /// a pause, unless it could not be read too often.
    async fn read(&self, id: u64, failures: u32) -> Option<ObservationBatch> {
        let (spool, failures) = (self.spool.clone(), failures + 1);
        let read = move || match spool.get(id) {
            Err(error) if failures >= READS => {
                spool.give_up(id, &error.to_string());
                Ok(None)
            }
            read => read,
        };
        let read = tokio::task::spawn_blocking(read).await.ok()?;
        read.inspect_err(|error| self.put_off(id, failures, error)).ok()?
    }

    fn put_off(&self, id: u64, failures: u32, error: &io::Error) {
        self.held().unreadable(id, failures, Instant::now());
        if failures == 1 {
            let capture = self.spool.capture_of(id);
            tracing::error!(capture, %error, tries = READS, "a batch cannot be read from the spool; it is tried again");
        }
    }

    fn settle(&self, ack: &BatchAck) {
        for key in &ack.committed {
            if self.spool.settle(key) {
                self.metrics.batches_committed.inc();
                self.held().stored(&key.capture_id, Instant::now());
            }
        }
        for refused in &ack.refused {
            let Some(key) = &refused.key else { continue };
            if self.spool.settle(key) {
                self.metrics.batches_refused.inc();
                self.tell_refusal(key, &refused.reason);
            }
        }
        for key in &ack.failed {
            let Some(id) = self.spool.id_of(key) else { continue };
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

    /// Once for each reason.
    fn tell_refusal(&self, key: &BatchKey, reason: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= REFUSALS {
            told.clear();
        }
        if told.insert((key.capture_id.clone(), reason.to_owned())) {
            tracing::error!(
                capture = key.capture_id,
                sequence = key.sequence,
                reason,
                "the coordinator refused a batch; it is dropped, and so are others that it refuses for that reason"
            );
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use lastseen_proto::v1::ObservationPoint;

    use super::*;
    use crate::spool::{Fsync, Settings};

    const PAUSE: Duration = Duration::from_secs(1);

    fn publisher(home: &Path) -> Publisher {
        let metrics = Metrics::registered().0;
        let settings = Settings { directory: home.join("spool"), max_bytes: 1 << 20, fsync: Fsync::Never };
        let spool = Arc::new(Spool::open(settings, 9, metrics.clone()).unwrap());
        let held = Mutex::new(Held::new(PAUSE, PAUSE));
        Publisher { spool, metrics, held, told: Mutex::default(), changed: Notify::new() }
    }

    /// Offers a batch that fills a segment alone, and one behind it. Returns both.
    fn two_segments(publisher: &Publisher) -> [ObservationBatch; 2] {
        let batch = |sequence: u64, bytes: usize| {
            let point = Some(ObservationPoint { index: 3, ..Default::default() });
            let key = Some(BatchKey { capture_id: "c".into(), point, sequence, ..Default::default() });
            ObservationBatch { key, columns: vec![0; bytes].into(), ..Default::default() }
        };
        let batches = [batch(0, 200_000), batch(1, 10)];
        assert!(batches.iter().all(|batch| publisher.spool.offer(batch.clone(), false)));
        batches
    }

    /// Where the first segment is, and where it is put aside for a link, which opens with an error.
    fn unreadable(home: &Path) -> [PathBuf; 2] {
        let [file, aside] = ["spool/0000000000000001.seg", "aside"].map(|name| home.join(name));
        std::fs::rename(&file, &aside).unwrap();
        std::os::unix::fs::symlink(&aside, &file).unwrap();
        [file, aside]
    }

    /// What is read of what need not wait at `now`.
    async fn readable(publisher: &Publisher, sent: &mut u64, now: Instant) -> Vec<ObservationBatch> {
        let mut read = Vec::new();
        while let Some((id, failures)) = publisher.next(sent, now) {
            read.extend(publisher.read(id, failures).await);
        }
        read
    }

    #[tokio::test]
    async fn what_cannot_be_read_at_the_moment_is_sent_later_and_holds_up_no_other() {
        let home = tempfile::tempdir().unwrap();
        let (publisher, mut sent) = (publisher(home.path()), 0);
        let [first, second] = two_segments(&publisher);
        let [file, aside] = unreadable(home.path());
        assert_eq!(readable(&publisher, &mut sent, Instant::now()).await, [second]);
        let over = publisher.held().next().unwrap();
        assert_eq!(readable(&publisher, &mut sent, over).await, []);
        assert_eq!((publisher.spool.waiting().0, publisher.metrics.spool_damaged_records.get()), (2, 0));
        std::fs::rename(&aside, &file).unwrap();
        let over = publisher.held().next().unwrap();
        assert_eq!(readable(&publisher, &mut sent, over).await, [first]);
        assert_eq!(publisher.held().next(), None);
    }

    #[tokio::test]
    async fn what_can_never_be_read_is_given_up_as_damaged() {
        let home = tempfile::tempdir().unwrap();
        let (publisher, mut sent) = (publisher(home.path()), 0);
        let [_, second] = two_segments(&publisher);
        unreadable(home.path());
        assert_eq!(readable(&publisher, &mut sent, Instant::now()).await, [second]);
        for _ in 1..READS {
            assert_eq!((publisher.spool.waiting().0, publisher.metrics.spool_damaged_records.get()), (2, 0));
            let over = publisher.held().next().unwrap();
            assert_eq!(readable(&publisher, &mut sent, over).await, []);
        }
        assert_eq!((publisher.spool.waiting().0, publisher.metrics.spool_damaged_records.get()), (1, 1));
        assert_eq!(publisher.held().next(), None);
    }
}
