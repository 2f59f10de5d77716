//! When segments were sent, in bins: as fine as the segments of a conversation can fill, so that the bins of all
//! conversations take less memory than their segments.

use crate::evidence::flows::Flows;
use crate::input::Window;

/// Width of the finest bins, nanoseconds. Every level doubles it.
pub(crate) const BIN_NANOS: i64 = 50_000_000;
/// Most bins of a conversation or a leg.
const MOST_BINS: u64 = 1024;

/// Bins of one width: the first one as a number of bins since the start of the window, and how many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grain {
    /// Bins are `2^level` of the finest wide.
    pub(crate) level: u8,
    pub(crate) bins: u16,
    pub(crate) first: u64,
}

impl Grain {
    /// The finest that has at most `most` bins for an interval of finest bins.
    fn over(first: u64, last: u64, most: u64) -> Self {
        let mut level = 0;
        while (last >> level) - (first >> level) >= most {
            level += 1;
        }
        let bins = (last >> level) - (first >> level) + 1;
        Self { level, bins: bins as u16, first: first >> level }
    }

    /// Width of a bin, nanoseconds.
    pub(crate) fn width_nanos(&self) -> i64 {
        BIN_NANOS.saturating_mul(1 << self.level.min(32))
    }

    /// The place of a finest bin.
    fn place(&self, fine: u64) -> u16 {
        let at = (fine >> self.level).saturating_sub(self.first);
        at.min(u64::from(self.bins.max(1) - 1)) as u16
    }

    /// The place here of bin `at` of a grain that is no wider.
    pub(crate) fn place_of(&self, finer: &Self, at: usize) -> u16 {
        self.place((finer.first + at as u64) << finer.level)
    }
}

/// The bins of every conversation.
#[derive(Debug)]
pub(crate) struct Timeline {
    start: i64,
    /// Of a whole leg: over the window.
    pub(crate) whole: Grain,
    /// By conversation.
    pub(crate) grains: Vec<Grain>,
}

impl Timeline {
    pub(crate) fn new(window: Window, flows: &Flows) -> Self {
        let start = window.start_nanos;
        let end = window.end_nanos.saturating_sub(1);
        let mut spans = vec![(i64::MAX, i64::MIN, 0_u64); flows.conversations.len()];
        for flow in flows.all.iter().filter(|flow| flow.packets > 0) {
            let (first, last, segments) = &mut spans[flow.conversation as usize];
            *first = flow.first.min(*first);
            *last = flow.last.max(*last);
            *segments = flow.segments.max(*segments);
        }
        let grain = |(first, last, segments): (i64, i64, u64)| {
            let (first, last) = (first.clamp(start, end), last.clamp(start, end));
            Grain::over(fine(start, first), fine(start, last.max(first)), (segments / 2).clamp(4, MOST_BINS))
        };
        Self {
            start,
            whole: Grain::over(0, fine(start, end), MOST_BINS / 4),
            grains: spans.into_iter().map(grain).collect(),
        }
    }

    /// The bin of a conversation for a time in the window.
    pub(crate) fn bin(&self, conversation: u32, time: i64) -> u16 {
        self.grains[conversation as usize].place(fine(self.start, time))
    }
}

fn fine(start: i64, time: i64) -> u64 {
    (time.saturating_sub(start) / BIN_NANOS).max(0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_as_fine_as_their_limit_allows_and_hold_every_instant() {
        for (first, last, most) in [(0, 0, 4), (3, 199, 1024), (3, 199, 50), (7, 8, 1), (0, u64::MAX >> 1, 4)]
        {
            let grain = Grain::over(first, last, most);
            assert!(u64::from(grain.bins) <= most, "{grain:?}");
            assert!(grain.level == 0 || (last >> (grain.level - 1)) - (first >> (grain.level - 1)) >= most);
            assert_eq!((grain.place(first), grain.place(last)), (0, grain.bins - 1));
        }
    }

    #[test]
    fn a_bin_has_its_place_among_wider_ones() {
        let fine = Grain::over(20, 40, 1024);
        let wide = Grain::over(0, 199, 64);
        assert_eq!(wide.level, 2);
        assert_eq!([0, 3, 4, 20].map(|at| wide.place_of(&fine, at)), [5, 5, 6, 10]);
    }
}
