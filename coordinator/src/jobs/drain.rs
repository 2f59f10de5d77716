//! Whether everything that agents made has arrived.

use std::collections::{HashMap, HashSet};

use crate::limits;
use crate::model::{BatchKey, Capture, Part, PointKey, PointStatus};
use crate::store::StoredCount;

/// Batches that are stored or given up, per node and point.
#[derive(Debug, Default)]
pub struct Ledger {
    stored: HashMap<(String, PointKey, u64), u64>,
    /// By node and point; incarnation and sequence, because a batch may be sent and refused twice.
    refused: HashMap<(String, PointKey), HashSet<(u64, u64)>>,
    /// How many there are of each node.
    refused_by: HashMap<String, usize>,
}

impl Ledger {
    /// What is stored now. True if that is news.
    pub fn replace(&mut self, counts: Vec<StoredCount>) -> bool {
        let stored: HashMap<_, _> = counts
            .into_iter()
            .map(|count| ((count.node, count.point, count.incarnation), count.batches))
            .collect();
        let is_news = stored != self.stored;
        self.stored = stored;
        is_news
    }

    /// One will never be. Each node has its own share, so that none uses up that of the others. True if that is news, and
    /// within the share.
    pub fn refuse(&mut self, key: &BatchKey) -> bool {
        let count = self.refused_by.entry(key.node.clone()).or_default();
        if *count == limits::REFUSED_BATCHES {
            return false;
        }
        let refused = self.refused.entry((key.node.clone(), key.point.clone())).or_default();
        let is_news = refused.insert((key.incarnation, key.sequence));
        *count += usize::from(is_news);
        is_news
    }

    /// True when no batch of any part is on its way.
    pub fn is_complete(&self, capture: &Capture) -> bool {
        !capture.parts.iter().any(|part| self.lacks(part))
    }

    /// True when a batch that the part announced is neither stored nor given up.
    pub fn lacks(&self, part: &Part) -> bool {
        part.points.iter().any(|status| self.missing(part, status) > 0)
    }

    /// Says in the part's coverage what did not arrive.
    pub fn note_missing(&self, part: &mut Part) {
        let mut notes = Vec::new();
        for status in &part.points {
            let (missing, refused) = (self.missing(part, status), self.refused_of(part, &status.point.key));
            let interface = status.point.key.place();
            if missing > 0 {
                notes.push(format!("{interface}: {missing} of {} batches did not arrive", status.batches));
            }
            if refused > 0 {
                notes.push(format!("{interface}: {refused} of {} batches were refused", status.batches));
            }
        }
        part.coverage.extend(notes);
        part.coverage.truncate(limits::COVERAGE_NOTES + 2 * limits::POINTS_PER_NODE);
    }

    fn missing(&self, part: &Part, status: &PointStatus) -> u64 {
        let key = (part.node.clone(), status.point.key.clone(), part.incarnation.unwrap_or_default());
        let stored = self.stored.get(&key).copied().unwrap_or_default();
        status.batches.saturating_sub(stored + self.refused_of(part, &status.point.key))
    }

    fn refused_of(&self, part: &Part, point: &PointKey) -> u64 {
        let refused = self.refused.get(&(part.node.clone(), point.clone()));
        refused.map_or(0, |keys| keys.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_batches_are_told_apart_up_to_the_limit_and_missing_beyond_it() {
        let point = PointKey { netns: String::new(), interface: "eth0".into(), index: 2, direction: 1 };
        let key = |sequence| BatchKey {
            capture: "c-1".into(),
            node: "node-a".into(),
            point: point.clone(),
            incarnation: 1,
            sequence,
        };
        let (mut ledger, mut news) = (Ledger::default(), 0);
        let part = Part::new("node-a");
        for (count, kept) in [
            (limits::REFUSED_BATCHES - 1, limits::REFUSED_BATCHES - 1),
            (limits::REFUSED_BATCHES, limits::REFUSED_BATCHES),
            (limits::REFUSED_BATCHES + 1, limits::REFUSED_BATCHES),
        ] {
            news += (0..count as u64).filter(|&sequence| ledger.refuse(&key(sequence))).count();
            assert_eq!((news, ledger.refused_of(&part, &point)), (kept, kept as u64));
        }
        ledger.refuse(&BatchKey { node: "node-b".into(), ..key(0) });
        assert_eq!(ledger.refused_of(&Part::new("node-b"), &point), 1, "each node has its own");
    }
}
