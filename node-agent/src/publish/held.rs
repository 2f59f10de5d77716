//! Captures whose batches the coordinator could not store, and single batches that could not be read: held back for a
//! while, so that they hold up no other.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use lastseen_runtime::backoff::Backoff;
use tokio::time::Instant;

/// What waits before it is sent again. Numbers are those of the spool.
#[derive(Debug)]
pub(super) struct Held {
    first: Duration,
    longest: Duration,
    captures: HashMap<String, Hold>,
    /// When a batch is to be read again, its number, and how often it could not be read.
    unread: BTreeMap<(Instant, u64), u32>,
}

#[derive(Debug)]
struct Hold {
    backoff: Backoff,
    until: Instant,
    batches: BTreeSet<u64>,
}

impl Held {
    /// Pauses from `first` on, each twice as long as the one before, up to `longest`.
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, captures: HashMap::new(), unread: BTreeMap::new() }
    }

    /// The coordinator could not store batch `id`. Returns the pause if this begins one: what was under way together
    /// fails together.
    pub(super) fn failed(&mut self, capture: &str, id: u64, now: Instant) -> Option<Duration> {
        let (first, longest) = (self.first, self.longest);
        let hold = self.captures.entry(capture.to_owned()).or_insert_with(|| Hold {
            backoff: Backoff::new(first, longest),
            until: now,
            batches: BTreeSet::new(),
        });
        hold.batches.insert(id);
        if hold.until > now {
            return None;
        }
        let pause = hold.backoff.next_delay();
        hold.until = now + pause;
        Some(pause)
    }

    /// Keeps batch `id` back while its capture pauses. False: it may be sent.
    pub(super) fn holds(&mut self, capture: &str, id: u64, now: Instant) -> bool {
        let hold = self.captures.get_mut(capture).filter(|hold| hold.until > now);
        hold.is_some_and(|hold| hold.batches.insert(id))
    }

    /// The coordinator stores batches of the capture again: what waits may go at once.
    pub(super) fn stored(&mut self, capture: &str, now: Instant) {
        match self.captures.get_mut(capture) {
            Some(hold) if !hold.batches.is_empty() => {
                hold.backoff.reset();
                hold.until = now;
            }
            Some(_) => drop(self.captures.remove(capture)),
            None => {}
        }
    }

    /// A batch whose pause is over.
    pub(super) fn due(&mut self, now: Instant) -> Option<u64> {
        let mut over = self.captures.values_mut().filter(|hold| hold.until <= now);
        over.find_map(|hold| hold.batches.pop_first())
    }

    /// Batch `id` could not be read, now for the `failures`th time. It waits alone: others of its capture may lie elsewhere.
    pub(super) fn unreadable(&mut self, id: u64, failures: u32, now: Instant) {
        let pause = self.first.saturating_mul(4_u32.saturating_pow(failures.saturating_sub(1)));
        self.unread.insert((now + pause.min(self.longest), id), failures);
    }

    /// A batch to be read again, and how often it could not be.
    pub(super) fn reread(&mut self, now: Instant) -> Option<(u64, u32)> {
        let first = self.unread.first_entry().filter(|first| first.key().0 <= now)?;
        let ((_, id), failures) = first.remove_entry();
        Some((id, failures))
    }

    /// When the next pause with something to send is over.
    pub(super) fn next(&self) -> Option<Instant> {
        let captures = self.captures.values().filter(|hold| !hold.batches.is_empty()).map(|hold| hold.until);
        captures.chain(self.unread.keys().next().map(|(until, _)| *until)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(8);

    #[test]
    fn what_failed_waits_and_takes_later_batches_of_its_capture_along() {
        let (mut held, now) = (Held::new(FIRST, LONGEST), Instant::now());
        assert!(held.failed("c-1", 1, now).is_some_and(|pause| pause >= FIRST));
        assert!(held.failed("c-1", 2, now).is_none(), "of the same pause");
        assert!(held.holds("c-1", 3, now));
        assert!(!held.holds("c-2", 4, now));
        assert_eq!(held.due(now), None);
        let over = held.next().unwrap();
        let sent: Vec<u64> = std::iter::from_fn(|| held.due(over)).collect();
        assert_eq!((sent, held.next()), (vec![1, 2, 3], None));
        assert!(!held.holds("c-1", 5, over));
    }

    #[test]
    fn pauses_grow_until_something_is_stored() {
        let (mut held, mut now) = (Held::new(FIRST, LONGEST), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..6 {
            pauses.push(held.failed("c-1", 1, now).unwrap());
            now = held.next().unwrap();
        }
        assert!(pauses[3] >= 8 * FIRST && pauses.iter().all(|pause| *pause <= 2 * LONGEST), "{pauses:?}");
        held.failed("c-1", 2, now);
        held.stored("c-1", now);
        assert_eq!(held.due(now), Some(1), "the rest need not wait");
        assert!(held.failed("c-1", 1, now).unwrap() <= 2 * FIRST);
    }

    #[test]
    fn what_cannot_be_read_waits_alone_and_longer_each_time() {
        let (mut held, now) = (Held::new(FIRST, LONGEST), Instant::now());
        held.unreadable(1, 1, now);
        held.unreadable(2, 2, now);
        held.unreadable(3, 3, now);
        assert!(!held.holds("c-1", 4, now));
        assert_eq!((held.reread(now), held.next()), (None, Some(now + FIRST)));
        assert_eq!((held.reread(now + FIRST), held.next()), (Some((1, 1)), Some(now + 4 * FIRST)));
        let sent: Vec<_> = std::iter::from_fn(|| held.reread(now + LONGEST)).collect();
        assert_eq!((sent, held.next()), (vec![(2, 2), (3, 3)], None));
    }

    #[test]
    fn a_capture_that_is_stored_again_is_forgotten() {
        let (mut held, now) = (Held::new(FIRST, LONGEST), Instant::now());
        held.failed("c-1", 1, now);
        let over = held.next().unwrap();
        held.due(over);
        held.stored("c-1", over);
        assert!(held.captures.is_empty());
    }
}
