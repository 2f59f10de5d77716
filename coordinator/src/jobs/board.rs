//! Where the captures that have not ended are found, by their actors, ingest and the services.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc, watch};

use super::actor::Event;
use crate::model::{BatchKey, Capture, State};

/// One capture that has not ended.
#[derive(Clone, Debug)]
pub struct Handle {
    /// To its actor.
    pub events: mpsc::Sender<Event>,
    /// Told when batches of it were committed. Apart from the events, so that no full queue swallows it.
    pub committed: Arc<Notify>,
    /// As it is.
    pub view: watch::Receiver<Arc<Capture>>,
}

/// Captures that have not ended, by id.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<BTreeMap<String, Handle>>>);

impl Board {
    /// One capture.
    pub fn get(&self, id: &str) -> Option<Handle> {
        self.lock().get(id).cloned()
    }

    /// Every capture that has not ended.
    pub fn unfinished(&self) -> Vec<Arc<Capture>> {
        let views = self.lock().values().map(|handle| handle.view.borrow().clone()).collect::<Vec<_>>();
        views.into_iter().filter(|capture| !capture.state.is_final()).collect()
    }

    /// Whether a batch may still come in, and why not.
    pub fn admit(&self, key: &BatchKey) -> Result<(), String> {
        let Some(handle) = self.get(&key.capture) else {
            return Err(format!("capture {:?} does not run; it has ended or was deleted", key.capture));
        };
        let capture = handle.view.borrow();
        if capture.part(&key.node).is_none() {
            return Err(format!("node {} is not part of capture {}", key.node, key.capture));
        }
        match capture.state {
            State::Running | State::Draining => Ok(()),
            State::Pending | State::Arming => Err(format!("capture {} has no window yet", key.capture)),
            _ => Err(format!("capture {} takes no more batches; this one came too late", key.capture)),
        }
    }

    /// Batches of these captures were committed.
    pub fn committed<'a>(&self, captures: impl Iterator<Item = &'a str>) {
        for capture in captures {
            if let Some(handle) = self.get(capture) {
                handle.committed.notify_one();
            }
        }
    }

    /// Batches of this capture could not be stored.
    pub fn unstored(&self, capture: &str, reason: &str) {
        if let Some(handle) = self.get(capture) {
            // A full queue: the next attempt tells.
            let _ = handle.events.try_send(Event::Unstored(reason.to_owned()));
        }
    }

    /// The captures that `node` is part of should look at it again.
    pub fn wake_node(&self, node: &str) {
        self.wake_where(|capture| capture.part(node).is_some());
    }

    /// Every capture should look at its nodes again.
    pub fn wake_all(&self) {
        self.wake_where(|_| true);
    }

    pub(crate) fn insert(&self, id: &str, handle: Handle) {
        self.lock().insert(id.to_owned(), handle);
    }

    pub(super) fn remove(&self, id: &str) {
        self.lock().remove(id);
    }

    fn wake_where(&self, is_concerned: impl Fn(&Capture) -> bool) {
        for handle in self.lock().values().filter(|handle| is_concerned(&handle.view.borrow())) {
            // A full queue means it is going to wake anyway.
            let _ = handle.events.try_send(Event::Fleet);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Handle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_node_wakes_the_captures_it_is_part_of() {
        let board = Board::default();
        let mut queues = Vec::new();
        for (id, nodes) in [("c-1", &["node-a", "node-b"][..]), ("c-2", &["node-b"])] {
            let (events, queue) = mpsc::channel(4);
            let (sender, view) = watch::channel(Arc::new(Capture::sample(nodes)));
            board.insert(id, Handle { events, committed: Arc::default(), view });
            queues.push((queue, sender));
        }
        let mut woken = || queues.iter_mut().map(|(queue, _)| queue.try_recv().is_ok()).collect::<Vec<_>>();
        board.wake_node("node-a");
        assert_eq!(woken(), [true, false]);
        board.wake_node("node-b");
        assert_eq!(woken(), [true, true]);
        board.wake_node("node-c");
        assert_eq!(woken(), [false, false]);
        board.wake_all();
        assert_eq!(woken(), [true, true]);
    }

    #[test]
    fn a_commit_is_heard_behind_a_full_queue() {
        let (board, committed) = (Board::default(), Arc::new(Notify::new()));
        let (events, _queue) = mpsc::channel(1);
        events.try_send(Event::Fleet).unwrap();
        let view = watch::channel(Arc::new(Capture::sample(&["node-a"]))).1;
        board.insert("c-1", Handle { events, committed: committed.clone(), view });
        board.committed(["c-2", "c-1"].into_iter());
        assert!(committed.notified().now_or_never().is_some());
        assert!(committed.notified().now_or_never().is_none(), "once");
    }
}
