//! Packets one way at two levels: those before a clock was set, and those after.

use super::Step;

/// Longer than packets are late and than the window allows for, nanoseconds.
const LONG_NANOS: i64 = 1_000_000_000;

/// Packets one way, split where their differences are furthest apart.
pub(super) struct Levels {
    low: Vec<[i64; 2]>,
    high: Vec<[i64; 2]>,
    gap: i64,
}

fn difference(times: &[i64; 2]) -> i64 {
    times[1].saturating_sub(times[0])
}

impl Levels {
    pub(super) fn of(times: &[[i64; 2]], least: usize) -> Option<Self> {
        let mut sorted = times.to_vec();
        sorted.sort_unstable_by_key(|times| (difference(times), *times));
        let gap = |at: &usize| difference(&sorted[*at]).saturating_sub(difference(&sorted[at - 1]));
        let at = (least..(sorted.len() + 1).saturating_sub(least)).max_by_key(gap)?;
        let gap = gap(&at);
        let high = sorted.split_off(at);
        Some(Self { low: sorted, high, gap })
    }

    /// How far their middles are apart.
    pub(super) fn apart(&self) -> i64 {
        let middle = |level: &[[i64; 2]]| difference(&level[level.len() / 2]);
        middle(&self.high).saturating_sub(middle(&self.low))
    }

    /// All of one was before all of the other, by the clock of either point.
    pub(super) fn are_no_delay(&self) -> bool {
        let ends = |level: &[[i64; 2]], point: usize| {
            let times = || level.iter().map(|times| times[point]);
            (times().min(), times().max())
        };
        let is_split = |point: usize| {
            let (low, high) = (ends(&self.low, point), ends(&self.high, point));
            low.1 < high.0 || high.1 < low.0
        };
        self.gap >= LONG_NANOS && (is_split(0) || is_split(1))
    }

    /// Which of the points stepped, and how. Stamps that run back show a step back; without any it was forward.
    pub(super) fn step(&self, backwards: [i64; 2]) -> (usize, Step) {
        let apart = self.apart();
        let mean = |level: &[[i64; 2]]| {
            level.iter().map(|times| i128::from(times[1])).sum::<i128>() / level.len() as i128
        };
        let is_high_later = mean(&self.high) > mean(&self.low);
        let (at, sign) = match backwards.map(|back| back >= apart / 2) {
            [true, _] => (0, -1),
            [_, true] => (1, -1),
            _ => (usize::from(is_high_later), 1),
        };
        let later = if (at == 1) == (sign > 0) { &self.high } else { &self.low };
        let first = later.iter().min_by_key(|times| times[1 - at]).copied().unwrap_or_default();
        (at, Step { nanos: sign * apart, at_nanos: first[at] })
    }
}
