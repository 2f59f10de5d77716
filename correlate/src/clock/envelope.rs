//! The shortest time differences between two nodes, over the time of a recording.
//!
//! A difference is delay plus clock offset, and no delay is negative: each bounds the offset, and the shortest bound it
//! best. One wrong pair proves nothing, so of each bin the second shortest is taken, which is a bound as well.

/// Bins of a recording: enough to follow drift, few enough for the linear program.
const BINS: usize = 32;

/// What a bin holds before anything was added.
const NOTHING: (i64, i64) = (i64::MAX, i64::MAX);

/// The two shortest differences of each bin with their times. Merges in any order to the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Envelope {
    start: i64,
    width: i64,
    bins: Vec<[(i64, i64); 2]>,
}

impl Envelope {
    /// Over `[start, end)`; what lies outside counts to the outermost bins.
    pub(crate) fn new((start, end): (i64, i64)) -> Self {
        let width = (end.saturating_sub(start) / BINS as i64).max(1);
        Self { start, width, bins: vec![[NOTHING; 2]; BINS] }
    }

    /// A packet was stamped `nanos` later at the second node than at the first, where it was stamped at `time`.
    pub(crate) fn add(&mut self, time: i64, nanos: i64) {
        let bin = time.saturating_sub(self.start).div_euclid(self.width).clamp(0, BINS as i64 - 1);
        keep(&mut self.bins[bin as usize], (nanos, time));
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (bin, theirs) in self.bins.iter_mut().zip(&other.bins) {
            for &found in theirs {
                keep(bin, found);
            }
        }
    }

    /// Time and difference of each bin that has one.
    pub(crate) fn points(&self) -> impl Iterator<Item = (i64, i64)> + use<'_> {
        self.bins
            .iter()
            .map(|bin| bin[1])
            .filter(|found| *found != NOTHING)
            .map(|(nanos, time)| (time, nanos))
    }
}

fn keep(bin: &mut [(i64, i64); 2], found: (i64, i64)) {
    if found < bin[0] {
        *bin = [found, bin[0]];
    } else if found < bin[1] {
        bin[1] = found;
    }
}
