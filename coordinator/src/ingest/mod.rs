//! From an agent's batch to stable storage: check, group, write, commit, acknowledge.
//!
//! Streams check their batches in parallel; one writer gathers what arrives in a moment and makes it durable with one
//! sync per file and one transaction. Memory between arrival and acknowledgement is bounded over all streams: when it
//! is used up, streams are not read and agents wait.

mod check;
mod memory;
mod writer;

use std::num::NonZero;
use std::sync::Arc;

pub use check::{Arrived, CheckError, check};
pub(crate) use check::{check_capture_id, check_names, check_point};
use memory::Memory;
pub use memory::Reserved;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinError;

use crate::error::Error;
use crate::files::Files;
use crate::jobs::Board;
use crate::limits;
use crate::metrics::Metrics;
use crate::model::{BatchKey, Capture, CheckedBatch};
use crate::store::Store;

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// On stable storage.
    Committed,
    /// Will never be accepted, for this reason.
    Refused(String),
    /// The coordinator could not store it; the agent is to send it again.
    Failed,
}

/// A checked batch on its way to the writer.
#[derive(Debug)]
pub struct Delivery {
    /// The batch.
    pub batch: CheckedBatch,
    /// Told what became of it.
    pub reply: mpsc::Sender<(BatchKey, Outcome)>,
    /// The memory it takes.
    pub permit: Reserved,
}

enum Message {
    Batch(Box<Delivery>),
    /// Answered when everything before it is dealt with and the capture's file is closed.
    Close(String, oneshot::Sender<()>),
}

/// The way to the writer.
#[derive(Clone, Debug)]
pub struct Ingest {
    messages: mpsc::Sender<Message>,
    memory: Memory,
    /// Checks at once. A batch unpacks to many times its size, and only while it is checked.
    checks: Arc<Semaphore>,
    files: Files,
}

impl Ingest {
    /// Starts the writer. It ends when every clone of the result is gone.
    pub fn start(
        store: Arc<dyn Store>,
        files: Files,
        board: Board,
        metrics: Metrics,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (messages, receiver) = mpsc::channel(limits::BATCHES_PER_STREAM);
        let writer = writer::Writer::new(receiver, store, files.writer(), board, metrics);
        let task = tokio::spawn(writer.run());
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let (memory, checks) = (Memory::default(), Arc::new(Semaphore::new(cores)));
        (Self { messages, memory, checks, files }, task)
    }

    /// Checks a batch on a thread that may take its time, after those that came before.
    pub async fn check(
        &self,
        arrived: Arrived,
        capture: Option<Arc<Capture>>,
    ) -> Result<Result<CheckedBatch, CheckError>, JoinError> {
        // Never closed.
        let turn = self.checks.clone().acquire_owned().await;
        tokio::task::spawn_blocking(move || {
            let checked = check(arrived, capture.as_deref());
            drop(turn);
            checked
        })
        .await
    }

    /// Waits until a batch of `bytes` bytes of `node` fits into memory.
    pub async fn reserve(&self, node: &str, bytes: usize) -> Result<Reserved, Error> {
        self.memory.reserve(node, bytes).await
    }

    /// Memory of batches between arrival and acknowledgement.
    pub fn queued_bytes(&self) -> usize {
        self.memory.taken()
    }

    /// Hands a checked batch to the writer.
    pub async fn deliver(&self, delivery: Delivery) -> Result<(), Error> {
        self.messages.send(Message::Batch(Box::new(delivery))).await.map_err(|_| Error::Stopping)
    }

    /// Returns when no batch of the capture is on its way any more. The board must refuse them already.
    pub async fn close_capture(&self, capture: &str) {
        let (done, is_done) = oneshot::channel();
        if self.messages.send(Message::Close(capture.to_owned(), done)).await.is_ok() {
            let _ = is_done.await;
        }
    }

    /// Removes the observation files of a closed capture.
    pub async fn remove_files(&self, capture: &str) -> Result<(), Error> {
        Ok(self.files.remove_capture(capture).await?)
    }
}
