//! Stores what nodes say of themselves, each at most once in an interval, however often it comes, goes and tells.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Fleet;
use crate::limits;
use crate::store::Store;

/// The way of the fleet's nodes into the database.
pub struct Keeper {
    store: Arc<dyn Store>,
    fleet: Arc<Fleet>,
    unsaved: Mutex<BTreeSet<String>>,
    told: Notify,
    /// One at a time, so that the newest is stored last.
    saving: tokio::sync::Mutex<()>,
}

impl Keeper {
    /// Starts to store; at `stopping` it ends, and [`Keeper::flush`] stores the rest.
    pub fn start(store: Arc<dyn Store>, fleet: Arc<Fleet>, stopping: CancellationToken) -> Arc<Self> {
        let (unsaved, told, saving) = (Mutex::default(), Notify::new(), tokio::sync::Mutex::default());
        let keeper = Arc::new(Self { store, fleet, unsaved, told, saving });
        let working = keeper.clone();
        tokio::spawn(async move { working.run(stopping).await });
        keeper
    }

    /// The node said something that is to be remembered.
    pub fn changed(&self, node: &str) {
        self.unsaved().insert(node.to_owned());
        self.told.notify_one();
    }

    /// Stores whatever is not stored yet.
    pub async fn flush(&self) {
        let _one_at_a_time = self.saving.lock().await;
        let nodes = std::mem::take(&mut *self.unsaved());
        for node in nodes {
            self.save(&node).await;
        }
    }

    async fn run(&self, stopping: CancellationToken) {
        let mut rests: HashMap<String, Instant> = HashMap::new();
        loop {
            let now = Instant::now();
            rests.retain(|_, until| *until > now);
            while let Some(node) = self.save_next(&rests).await {
                rests.insert(node, Instant::now() + limits::TOPOLOGY_INTERVAL);
            }
            let due = self.unsaved().iter().filter_map(|node| rests.get(node)).min().copied();
            tokio::select! {
                () = stopping.cancelled() => return,
                () = self.told.notified() => {}
                () = sleep_until(due.unwrap_or(now)), if due.is_some() => {}
            }
        }
    }

    async fn save_next(&self, rests: &HashMap<String, Instant>) -> Option<String> {
        let _one_at_a_time = self.saving.lock().await;
        let node = self.next(rests)?;
        self.save(&node).await;
        Some(node)
    }

    /// A node that is not stored and need not rest.
    fn next(&self, rests: &HashMap<String, Instant>) -> Option<String> {
        let mut unsaved = self.unsaved();
        let node = unsaved.iter().find(|node| !rests.contains_key(*node))?.clone();
        unsaved.remove(&node);
        Some(node)
    }

    async fn save(&self, node: &str) {
        let Some(record) = self.fleet.settled(node) else { return };
        if let Err(error) = self.store.save_node(&record).await {
            tracing::error!(node, %error, "cannot store the node; it is tried again in a moment");
            self.unsaved().insert(node.to_owned());
        }
    }

    fn unsaved(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
