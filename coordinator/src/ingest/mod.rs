//! From an agent's batch to stable storage: check, group, write, commit, acknowledge.
//!
//! Streams check their batches in parallel; one writer gathers what arrives in a moment and makes it durable with one
//! sync per file and one transaction. Memory between arrival and acknowledgement is bounded over all streams: when it
//! is used up, streams are not read and agents wait.

mod check;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;

pub(crate) use check::check_point;
pub use check::{Arrived, CheckError, check};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::error::Error;
use crate::files;
use crate::jobs::Board;
use crate::limits;
use crate::metrics::Metrics;
use crate::model::{BatchKey, CheckedBatch};
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
    pub permit: OwnedSemaphorePermit,
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
    memory: Arc<Semaphore>,
    directory: PathBuf,
}

impl Ingest {
    /// Starts the writer. It ends when every clone of the result is gone.
    pub fn start(
        store: Arc<dyn Store>,
        directory: PathBuf,
        board: Board,
        metrics: Metrics,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (messages, receiver) = mpsc::channel(limits::BATCHES_PER_STREAM);
        let writer = writer::Writer::new(receiver, store, directory.clone(), board, metrics);
        let task = tokio::spawn(writer.run());
        let memory = Arc::new(Semaphore::new(limits::INGEST_BYTES));
        (Self { messages, memory, directory }, task)
    }

    /// Waits until a batch of `bytes` bytes fits into memory.
    pub async fn reserve(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Error> {
        let bytes = u32::try_from(bytes.clamp(1, limits::INGEST_BYTES)).unwrap_or(u32::MAX);
        self.memory.clone().acquire_many_owned(bytes).await.map_err(|_| Error::Stopping)
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
        let (directory, capture) = (self.directory.clone(), capture.to_owned());
        let removed = tokio::task::spawn_blocking(move || files::remove_capture(&directory, &capture)).await;
        Ok(removed.map_err(|e| Error::Internal(e.to_string()))??)
    }

    /// Where observation files lie.
    pub fn directory(&self) -> &std::path::Path {
        &self.directory
    }
}
