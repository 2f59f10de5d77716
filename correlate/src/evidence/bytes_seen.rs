//! Which bytes of a TCP stream one point has seen.

/// Most separate ranges that are remembered. The smallest gap closes first, so a flow with more holes than this
/// counts a late segment as a retransmission.
const MAX_RANGES: usize = 64;

/// What a segment is to the bytes before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Starts at or beyond the highest byte seen.
    InOrder,
    /// Starts before the highest byte seen and brings new bytes.
    OutOfOrder {
        /// And some that were seen before.
        overlaps: bool,
    },
    /// Every byte was seen before.
    Retransmission,
}

/// Ranges of stream offsets, ascending and apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct BytesSeen {
    ranges: Vec<(i64, i64)>,
}

impl BytesSeen {
    /// Takes the next segment in time. Sequence numbers wrap: each is placed nearest to the highest byte seen.
    pub(crate) fn add(&mut self, seq: u32, length: u32) -> Arrival {
        let highest = self.ranges.last().map_or(i64::from(seq), |range| range.1);
        let distance = seq.wrapping_sub(highest as u32) as i32;
        let start = highest + i64::from(distance);
        let range = (start, start + i64::from(length));
        let at = self.ranges.partition_point(|known| known.1 < range.0);
        let is_known = self.ranges.get(at).is_some_and(|known| known.0 <= range.0 && range.1 <= known.1);
        if is_known {
            return Arrival::Retransmission;
        }
        let in_order = start >= highest;
        // What only touches a range shares no byte with it.
        let near = self.ranges[at..].iter().take_while(|known| known.0 < range.1);
        let overlaps = !in_order && near.into_iter().any(|known| range.0 < known.1);
        self.merge(at, range);
        if in_order { Arrival::InOrder } else { Arrival::OutOfOrder { overlaps } }
    }

    fn merge(&mut self, at: usize, range: (i64, i64)) {
        let end = at + self.ranges[at..].partition_point(|known| known.0 <= range.1);
        if at == end {
            self.ranges.insert(at, range);
        } else {
            let joined = (range.0.min(self.ranges[at].0), range.1.max(self.ranges[end - 1].1));
            self.ranges[at] = joined;
            self.ranges.drain(at + 1..end);
        }
        if self.ranges.len() > MAX_RANGES {
            self.close_smallest_gap();
        }
    }

    fn close_smallest_gap(&mut self) {
        let gap = |at: &usize| self.ranges[at + 1].0 - self.ranges[*at].1;
        if let Some(at) = (0..self.ranges.len() - 1).min_by_key(gap) {
            self.ranges[at].1 = self.ranges[at + 1].1;
            self.ranges.remove(at + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retransmissions_and_late_segments_are_told_apart_across_the_wrap() {
        let mut seen = BytesSeen::default();
        let base = u32::MAX - 150;
        assert_eq!(seen.add(base, 100), Arrival::InOrder);
        assert_eq!(seen.add(base.wrapping_add(200), 100), Arrival::InOrder);
        assert_eq!(seen.add(base.wrapping_add(100), 100), Arrival::OutOfOrder { overlaps: false });
        assert_eq!(seen.add(base.wrapping_add(150), 100), Arrival::Retransmission);
        assert_eq!(seen.add(base.wrapping_add(300), 10), Arrival::InOrder);
        assert_eq!(seen.ranges.len(), 1);
        assert_eq!(seen.add(base.wrapping_sub(100), 100), Arrival::OutOfOrder { overlaps: false });
        assert_eq!(seen.add(base.wrapping_sub(200), 150), Arrival::OutOfOrder { overlaps: true });
    }

    #[test]
    fn memory_is_bounded_however_many_holes_there_are() {
        let mut seen = BytesSeen::default();
        for at in 0..10_000 {
            seen.add(at * 1000, 10);
        }
        assert!(seen.ranges.len() <= MAX_RANGES);
    }
}
