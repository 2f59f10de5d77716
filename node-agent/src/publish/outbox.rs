//! Batches that are not acknowledged yet, in memory and bounded in bytes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lastseen_proto::v1::{BatchKey, ObservationBatch};
use tokio::sync::watch;

/// Memory of a batch beside its columns: names, counters, list entries.
const OVERHEAD_BYTES: usize = 512;

/// Batches that wait for their acknowledgement.
pub struct Outbox {
    incarnation: u64,
    max_bytes: usize,
    batches: Mutex<Batches>,
    grown: watch::Sender<u64>,
}

#[derive(Default)]
struct Batches {
    last_id: u64,
    bytes: usize,
    by_id: BTreeMap<u64, ObservationBatch>,
    by_key: HashMap<Key, u64>,
}

/// What tells batches of one process apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    capture: String,
    netns: String,
    index: u32,
    direction: i32,
    sequence: u64,
}

impl Key {
    fn of(key: &BatchKey) -> Option<Self> {
        let point = key.point.as_ref()?;
        Some(Self {
            capture: key.capture_id.clone(),
            netns: point.netns.clone(),
            index: point.index,
            direction: point.direction,
            sequence: key.sequence,
        })
    }
}

fn size(batch: &ObservationBatch) -> usize {
    batch.columns.len() + OVERHEAD_BYTES
}

impl Outbox {
    /// An empty outbox for at most `max_bytes`. `incarnation` is the random number of this process.
    pub fn new(incarnation: u64, max_bytes: usize) -> Self {
        Self { incarnation, max_bytes, batches: Mutex::default(), grown: watch::Sender::new(0) }
    }

    /// The random number of this process.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Whether another batch of `bytes` fits.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.lock().bytes.saturating_add(bytes) <= self.max_bytes
    }

    /// Takes a batch over. False, and the batch is dropped, without room; `must` takes it anyway.
    pub fn offer(&self, batch: ObservationBatch, must: bool) -> bool {
        let Some(key) = batch.key.as_ref().and_then(Key::of) else { return false };
        let mut batches = self.lock();
        if !must && batches.bytes.saturating_add(size(&batch)) > self.max_bytes {
            return false;
        }
        batches.last_id += 1;
        batches.bytes += size(&batch);
        let id = batches.last_id;
        batches.by_key.insert(key, id);
        batches.by_id.insert(id, batch);
        drop(batches);
        self.grown.send_replace(id);
        true
    }

    /// The first batch behind `id`; 0 is before all.
    pub fn after(&self, id: u64) -> Option<(u64, ObservationBatch)> {
        let batches = self.lock();
        let next = batches.by_id.range(id.saturating_add(1)..).next();
        next.map(|(id, batch)| (*id, batch.clone()))
    }

    /// The batch `id`, if it still waits.
    pub fn get(&self, id: u64) -> Option<ObservationBatch> {
        self.lock().by_id.get(&id).cloned()
    }

    /// The number of the batch of this key, if it still waits.
    pub fn id_of(&self, key: &BatchKey) -> Option<u64> {
        let key = Key::of(key).filter(|_| key.incarnation == self.incarnation)?;
        self.lock().by_key.get(&key).copied()
    }

    /// Drops the batch that was acknowledged or refused. False for keys that are not, or no longer, kept.
    pub fn settle(&self, key: &BatchKey) -> bool {
        let Some(key) = Key::of(key).filter(|_| key.incarnation == self.incarnation) else { return false };
        let mut batches = self.lock();
        let Some(id) = batches.by_key.remove(&key) else { return false };
        batches.remove(id);
        true
    }

    /// Drops every batch of a capture.
    pub fn forget(&self, capture: &str) {
        let mut batches = self.lock();
        let gone: Vec<_> =
            batches.by_key.extract_if(|key, _| key.capture == capture).map(|(_, id)| id).collect();
        for id in gone {
            batches.remove(id);
        }
    }

    /// Changes when a batch was added.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.grown.subscribe()
    }

    /// Batches and bytes that wait.
    pub fn waiting(&self) -> (usize, usize) {
        let batches = self.lock();
        (batches.by_id.len(), batches.bytes)
    }

    fn lock(&self) -> MutexGuard<'_, Batches> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batches {
    fn remove(&mut self, id: u64) {
        if let Some(batch) = self.by_id.remove(&id) {
            self.bytes -= size(&batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use lastseen_proto::v1::ObservationPoint;

    use super::*;

    fn batch(capture: &str, sequence: u64, bytes: usize) -> ObservationBatch {
        let point = ObservationPoint { index: 3, ..Default::default() };
        let key = BatchKey { capture_id: capture.into(), point: Some(point), incarnation: 9, sequence };
        ObservationBatch { key: Some(key), columns: vec![0; bytes].into(), ..Default::default() }
    }

    fn key(capture: &str, sequence: u64) -> BatchKey {
        batch(capture, sequence, 0).key.unwrap()
    }

    #[test]
    fn batches_stay_in_order_until_they_are_settled() {
        let outbox = Outbox::new(9, 1 << 20);
        for sequence in 0..3 {
            assert!(outbox.offer(batch("c", sequence, 10), false));
        }
        assert!(outbox.settle(&key("c", 1)));
        assert!(!outbox.settle(&key("c", 1)), "settled once");
        assert!(!outbox.settle(&BatchKey { incarnation: 8, ..key("c", 0) }), "of another process");
        let (first, _) = outbox.after(0).unwrap();
        let (second, next) = outbox.after(first).unwrap();
        assert_eq!(next.key.unwrap().sequence, 2);
        assert_eq!(outbox.after(second).map(|(id, _)| id), None);
    }

    #[test]
    fn room_is_bounded_and_comes_back() {
        let outbox = Outbox::new(9, 2 * (1000 + OVERHEAD_BYTES));
        assert!(outbox.offer(batch("c", 0, 1000), false));
        assert!(outbox.offer(batch("c", 1, 1000), false));
        assert!(!outbox.offer(batch("c", 2, 1000), false));
        assert!(outbox.offer(batch("c", 2, 0), true));
        outbox.forget("other");
        assert_eq!(outbox.waiting().0, 3);
        outbox.forget("c");
        assert_eq!(outbox.waiting(), (0, 0));
    }
}
