//! Where the captures that have not ended are found, by their actors, ingest and the services.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::actor::Event;
use crate::model::{BatchKey, Capture, State};

/// One capture that has not ended.
#[derive(Clone, Debug)]
pub struct Handle {
    /// To its actor, or to who passes them on to whoever leads it.
    pub events: mpsc::Sender<Event>,
    /// Told when batches of it were committed. Apart from the events, so that no full queue swallows it.
    pub committed: Arc<Notify>,
    /// As it is.
    pub view: watch::Receiver<Arc<Capture>>,
    /// Whether it is led here.
    pub is_led: bool,
}

/// Whether a batch may come in.
#[derive(Clone, Debug)]
pub enum Admission {
    /// Its capture.
    Wanted(Arc<Capture>),
    /// Why not, and never.
    NotWanted(String),
    /// That cannot be said now.
    Unclear,
}

impl Admission {
    fn unwanted(is_sure: bool, reason: String) -> Self {
        if is_sure { Self::NotWanted(reason) } else { Self::Unclear }
    }
}

/// Who waits for a look at the captures of the others, to be told whether it succeeded.
pub(crate) type Asked = oneshot::Sender<bool>;

#[derive(Debug, Default)]
struct Captures {
    handles: BTreeMap<String, Handle>,
    /// Led here until now and not ended: another coordinator goes on with them, or this one when it is up again.
    left: BTreeSet<String>,
}

impl Captures {
    /// Whether the handle that has this `committed` was there.
    fn take(&mut self, id: &str, committed: &Arc<Notify>) -> bool {
        let is_it = self.handles.get(id).is_some_and(|handle| Arc::ptr_eq(&handle.committed, committed));
        is_it && self.handles.remove(id).is_some()
    }
}

/// Captures that have not ended, by id.
#[derive(Clone, Debug, Default)]
pub struct Board {
    captures: Arc<Mutex<Captures>>,
    /// To who knows the captures of the others, where there are others.
    lookout: Arc<OnceLock<mpsc::Sender<Asked>>>,
}

impl Board {
    /// One capture.
    pub fn get(&self, id: &str) -> Option<Handle> {
        self.lock().handles.get(id).cloned()
    }

    /// Whether it has ended or never was, as far as a [look](Board::learn) before this call can tell.
    pub fn is_over(&self, id: &str) -> bool {
        let captures = self.lock();
        match captures.handles.get(id) {
            Some(handle) => handle.view.borrow().state.is_final(),
            None => !captures.left.contains(id),
        }
    }

    /// Every capture that has not ended.
    pub fn unfinished(&self) -> Vec<Arc<Capture>> {
        let views =
            self.lock().handles.values().map(|handle| handle.view.borrow().clone()).collect::<Vec<_>>();
        views.into_iter().filter(|capture| !capture.state.is_final()).collect()
    }

    /// Captures that are led here.
    pub fn led(&self) -> Vec<String> {
        let captures = self.lock();
        captures.handles.iter().filter(|(_, handle)| handle.is_led).map(|(id, _)| id.clone()).collect()
    }

    /// Makes sure that captures of other coordinators are here, and not as they were before they had a window: an agent may
    /// know of them sooner than this process does. One look, however many they are. False if it failed: what is not here
    /// may be a capture all the same, above all one that was led here until a moment ago.
    #[must_use]
    pub async fn learn(&self, ids: impl IntoIterator<Item: AsRef<str>>) -> bool {
        let is_known = |handle: Handle| handle.is_led || handle.view.borrow().state >= State::Running;
        let unknown = ids.into_iter().filter(|id| !self.get(id.as_ref()).is_some_and(is_known));
        let unknown: Vec<String> = unknown.map(|id| id.as_ref().to_owned()).collect();
        if unknown.is_empty() {
            return true;
        }
        let left = self.lock().left.clone();
        let Some(lookout) = self.lookout.get() else {
            return !unknown.iter().any(|id| left.contains(id));
        };
        let (done, is_done) = oneshot::channel();
        let looked = lookout.send(done).await.is_ok() && is_done.await.unwrap_or(false);
        if looked {
            // Whoever leads them now was seen, or they have ended.
            let mut captures = self.lock();
            captures.left.retain(|id| !left.contains(id));
        }
        looked
    }

    /// Asked by [`Board::learn`].
    pub(crate) fn look_out(&self, lookout: mpsc::Sender<Asked>) {
        let _ = self.lookout.set(lookout);
    }

    /// Whether a batch may still come in. Unless the captures of the others were [looked](Board::learn) at, only what is led
    /// here is not wanted.
    pub fn admit(&self, key: &BatchKey, looked: bool) -> Admission {
        let captures = self.lock();
        let Some(handle) = captures.handles.get(&key.capture) else {
            let is_sure = looked && !captures.left.contains(&key.capture);
            let reason = format!("capture {:?} does not run; it has ended or was deleted", key.capture);
            return Admission::unwanted(is_sure, reason);
        };
        let (capture, is_sure) = (handle.view.borrow().clone(), looked || handle.is_led);
        if capture.part(&key.node).is_none() {
            let reason = format!("node {} is not part of capture {}", key.node, key.capture);
            return Admission::unwanted(is_sure, reason);
        }
        let reason = match capture.state {
            State::Running | State::Draining => return Admission::Wanted(capture),
            State::Pending | State::Arming => format!("capture {} has no window yet", key.capture),
            _ => format!("capture {} takes no more batches; this one came too late", key.capture),
        };
        Admission::unwanted(is_sure, reason)
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
        let captures = &mut *self.lock();
        captures.left.remove(id);
        captures.handles.insert(id.to_owned(), handle);
    }

    /// False if it is led here: who leads it stays.
    pub(super) fn insert_followed(&self, id: &str, handle: Handle) -> bool {
        let captures = &mut *self.lock();
        let is_led = captures.handles.get(id).is_some_and(|known| known.is_led);
        if !is_led {
            captures.left.remove(id);
            captures.handles.insert(id.to_owned(), handle);
        }
        !is_led
    }

    /// Removes the handle that has this `committed`; another one that took its place stays.
    pub(super) fn remove(&self, id: &str, committed: &Arc<Notify>) {
        self.lock().take(id, committed);
    }

    /// The same of a capture that was led here and has not ended.
    pub(crate) fn leave(&self, id: &str, committed: &Arc<Notify>) {
        let captures = &mut *self.lock();
        if captures.take(id, committed) {
            captures.left.insert(id.to_owned());
        }
    }

    fn wake_where(&self, is_concerned: impl Fn(&Capture) -> bool) {
        for handle in self.lock().handles.values().filter(|handle| is_concerned(&handle.view.borrow())) {
            // A full queue means it is going to wake anyway.
            let _ = handle.events.try_send(Event::Fleet);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Captures> {
        self.captures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::model::CheckedBatch;

    #[test]
    fn a_node_wakes_the_captures_it_is_part_of() {
        let board = Board::default();
        let mut queues = Vec::new();
        for (id, nodes) in [("c-1", &["node-a", "node-b"][..]), ("c-2", &["node-b"])] {
            let (events, queue) = mpsc::channel(4);
            let (sender, view) = watch::channel(Arc::new(Capture::sample(nodes)));
            board.insert(id, Handle { events, committed: Arc::default(), view, is_led: true });
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

    fn handle(is_led: bool) -> Handle {
        let view = watch::channel(Arc::new(Capture::sample(&["node-a"]))).1;
        Handle { events: mpsc::channel(1).0, committed: Arc::default(), view, is_led }
    }

    #[test]
    fn who_follows_takes_no_place_of_who_leads() {
        let board = Board::default();
        assert!(board.insert_followed("c-1", handle(false)));
        board.insert("c-1", handle(true));
        assert!(!board.insert_followed("c-1", handle(false)));
        assert_eq!(board.led(), ["c-1"]);
    }

    #[tokio::test]
    async fn captures_are_looked_up_once_however_many_and_a_look_that_fails_is_told() {
        let board = Board::default();
        assert!(board.learn(["c-2"]).await, "there are no others");
        let (lookout, mut asking) = mpsc::channel::<Asked>(1);
        board.look_out(lookout);
        board.insert("c-1", handle(true));
        assert!(board.learn(["c-1"]).await, "it is led here");
        for succeeds in [true, false] {
            let answering = async { asking.recv().await.unwrap().send(succeeds).unwrap() };
            let (looked, ()) = tokio::join!(board.learn(["c-1", "c-2", "c-3"]), answering);
            assert_eq!(looked, succeeds);
            assert!(asking.try_recv().is_err(), "once");
        }
        drop(asking);
        assert!(!board.learn(["c-2"]).await, "nobody looks");
    }

    #[tokio::test]
    async fn a_capture_that_was_left_is_not_over_until_others_were_looked_at() {
        let (board, left) = (Board::default(), handle(true));
        board.insert("c-1", left.clone());
        board.insert("c-2", handle(true));
        board.leave("c-1", &left.committed);
        let key = CheckedBatch::sample("c-1", 0, b"").key;
        assert!(!board.is_over("c-1") && board.is_over("c-3"));
        assert!(!board.learn(["c-1"]).await && board.learn(["c-2", "c-3"]).await, "there are no others");
        assert!(matches!(board.admit(&key, true), Admission::Unclear));
        let (lookout, mut asking) = mpsc::channel::<Asked>(1);
        board.look_out(lookout);
        let answering = async { asking.recv().await.unwrap().send(true).unwrap() };
        assert!(tokio::join!(board.learn(["c-1"]), answering).0);
        assert!(board.is_over("c-1"), "nobody leads it");
        assert!(matches!(board.admit(&key, true), Admission::NotWanted(_)));
        assert!(matches!(board.admit(&key, false), Admission::Unclear));
        // Left again while others are looked at.
        board.insert("c-1", left.clone());
        board.leave("c-1", &left.committed);
        board.insert("c-1", left.clone());
        let looking = board.learn(["c-3"]);
        let leaving = async {
            let asked = asking.recv().await.unwrap();
            board.leave("c-1", &left.committed);
            asked.send(true).unwrap();
        };
        assert!(tokio::join!(looking, leaving).0 && !board.is_over("c-1"));
    }

    #[test]
    fn a_commit_is_heard_behind_a_full_queue() {
        let (board, committed) = (Board::default(), Arc::new(Notify::new()));
        let (events, _queue) = mpsc::channel(1);
        events.try_send(Event::Fleet).unwrap();
        let view = watch::channel(Arc::new(Capture::sample(&["node-a"]))).1;
        board.insert("c-1", Handle { events, committed: committed.clone(), view, is_led: true });
        board.committed(["c-2", "c-1"].into_iter());
        assert!(committed.notified().now_or_never().is_some());
        assert!(committed.notified().now_or_never().is_none(), "once");
    }
}
