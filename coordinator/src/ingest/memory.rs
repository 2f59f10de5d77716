//! Memory for batches between arrival and acknowledgement: so much in all, and so much of it for one node, so that an
//! agent that sends more than can be stored waits by itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Error;
use crate::limits;

/// The memory; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    whole: Arc<Semaphore>,
    /// Of the nodes that have some of it.
    shares: Arc<Mutex<HashMap<String, Arc<Semaphore>>>>,
}

/// Memory that a batch takes, given back when dropped.
#[derive(Debug)]
pub struct Reserved {
    _share: OwnedSemaphorePermit,
    _whole: OwnedSemaphorePermit,
}

impl Default for Memory {
    fn default() -> Self {
        Self { whole: Arc::new(Semaphore::new(limits::INGEST_BYTES)), shares: Arc::default() }
    }
}

impl Memory {
    /// Waits for the node's share first: what waits there takes nothing from the others.
    pub(super) async fn reserve(&self, node: &str, bytes: usize) -> Result<Reserved, Error> {
        let bytes = u32::try_from(bytes.clamp(1, limits::INGEST_BYTES_PER_NODE)).unwrap_or(u32::MAX);
        let share = self.share(node).acquire_many_owned(bytes).await.map_err(|_| Error::Stopping)?;
        let whole = self.whole.clone().acquire_many_owned(bytes).await.map_err(|_| Error::Stopping)?;
        Ok(Reserved { _share: share, _whole: whole })
    }

    /// Bytes that are taken.
    pub(super) fn taken(&self) -> usize {
        limits::INGEST_BYTES.saturating_sub(self.whole.available_permits())
    }

    fn share(&self, node: &str) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(node) {
            return share.clone();
        }
        // A permit holds its share: those that only this map holds have nothing taken.
        shares.retain(|_, share| Arc::strong_count(share) > 1);
        let share = Arc::new(Semaphore::new(limits::INGEST_BYTES_PER_NODE));
        shares.insert(node.to_owned(), share.clone());
        share
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_node_that_has_its_share_waits_and_the_others_do_not() {
        let memory = Memory::default();
        let take = |node: &str| memory.reserve(node, limits::BATCH_BYTES).now_or_never().transpose().unwrap();
        let mut greedy: Vec<_> = std::iter::from_fn(|| take("node-a")).collect();
        assert_eq!(greedy.len(), limits::INGEST_BYTES_PER_NODE / limits::BATCH_BYTES);
        assert!(take("node-b").is_some(), "others have room");
        greedy.pop();
        assert!(take("node-a").is_some(), "what was given back is there again");
        drop(greedy);
        assert!(take("node-c").is_some());
        assert_eq!(memory.shares.lock().unwrap().len(), 1, "nothing is kept of nodes that have nothing");
    }

    #[test]
    fn nodes_together_have_no_more_than_there_is() {
        let memory = Memory::default();
        let take = |node: usize| {
            memory.reserve(&node.to_string(), limits::BATCH_BYTES).now_or_never().transpose().unwrap()
        };
        let taken: Vec<_> = (0..).map_while(take).collect();
        assert_eq!(taken.len(), limits::INGEST_BYTES / limits::BATCH_BYTES);
    }
}
