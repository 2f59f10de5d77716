//! What stamps say about the order of points: how much later one stamped the packets that the other saw too.

use std::collections::BTreeMap;

use crate::sighting::Sighting;

/// Differences kept of a pair of points: enough for a median.
const KEPT: usize = 16;
/// Sightings looked at; of more than this a share is taken, chosen by identity.
const MOST: usize = 1 << 20;

/// Differences of stamps, nanoseconds, by conversation's ends and pair of points in ascending order.
#[derive(Debug, Default)]
pub(super) struct Times {
    differences: BTreeMap<(u32, u16, u16), Vec<i64>>,
}

impl Times {
    /// `way_of` numbers the ends of a conversation.
    pub(super) fn new(sightings: &[Vec<Sighting>], way_of: &[u32]) -> Self {
        let total: usize = sightings.iter().map(Vec::len).sum();
        let share = (total / MOST).next_power_of_two() as u64;
        // The lowest bit tells datagrams from packets.
        let chosen = |sighting: &&Sighting| share <= 1 || (sighting.k0 >> 1).is_multiple_of(share);
        let mut chosen: Vec<Sighting> = sightings.iter().flatten().filter(chosen).copied().collect();
        chosen.sort_unstable_by_key(|s| (s.k0, s.owner, s.point, s.time));
        let mut times = Self::default();
        for group in chosen.chunk_by(|a, b| (a.k0, a.owner) == (b.k0, b.owner)) {
            times.compare(way_of[group[0].owner as usize], group);
        }
        times
    }

    fn compare(&mut self, way: u32, group: &[Sighting]) {
        // Identical packets at one point: which of them is which elsewhere is not known.
        if group.windows(2).any(|pair| pair[0].point == pair[1].point) {
            return;
        }
        for (at, first) in group.iter().enumerate() {
            for then in &group[at + 1..] {
                let kept = self.differences.entry((way, first.point, then.point)).or_default();
                if kept.len() < KEPT {
                    kept.push(then.time.saturating_sub(first.time));
                }
            }
        }
    }

    /// Median of how much later `then` stamped than `first`. Absent without a common packet.
    pub(super) fn median(&self, way: u32, first: usize, then: usize) -> Option<i64> {
        let (low, high, sign) = if first < then { (first, then, 1) } else { (then, first, -1) };
        let mut all = self.differences.get(&(way, low as u16, high as u16))?.clone();
        all.sort_unstable();
        Some(sign * all[all.len() / 2])
    }
}
