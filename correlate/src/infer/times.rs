//! What stamps say about the order of points: how much later one stamped the packets that the other saw too.

use std::collections::{BTreeMap, BTreeSet};

use crate::evidence::scratch::ScratchError;
use crate::evidence::sighting::Sighting;
use crate::evidence::sightings::Sightings;

/// Differences kept of a pair of points: enough for a median.
const KEPT: usize = 16;
/// Sightings looked at; of more than this a share is taken, chosen by identity.
const MOST: usize = 1 << 20;

/// Resolution of files that do not keep nanoseconds.
const MICROSECOND: i64 = 1_000;
/// Sightings of a point that show its resolution.
const TELLING: usize = 8;

/// Differences of stamps, nanoseconds, by conversation's ends and pair of points in ascending order.
#[derive(Debug, Default)]
pub(super) struct Times {
    differences: BTreeMap<(u32, u16, u16), Vec<i64>>,
    /// Points that stamp whole microseconds: against others, a smaller difference is only what was cut off.
    coarse: BTreeSet<u16>,
}

impl Times {
    /// `way_of` numbers the ends of a conversation.
    pub(super) fn new(sightings: &Sightings, way_of: &[u32]) -> Result<Self, ScratchError> {
        let share = (sightings.total() / MOST).next_power_of_two() as u64;
        // The lowest bit tells datagrams from packets.
        let is_chosen = |sighting: &Sighting| share <= 1 || (sighting.k0 >> 1).is_multiple_of(share);
        let (mut chosen, mut times) = (Vec::new(), Self::default());
        for point in 0..sightings.points() {
            let mut resolution = Resolution::default();
            sightings.each(point, |sighting| {
                chosen.extend(is_chosen(sighting).then_some(*sighting));
                resolution.add(sighting.time);
            })?;
            times.coarse.extend(resolution.is_coarse().then_some(point as u16));
        }
        chosen.sort_unstable_by_key(|s| (s.k0, s.owner, s.point, s.time));
        for group in chosen.chunk_by(|a, b| (a.k0, a.owner) == (b.k0, b.owner)) {
            times.compare(way_of[group[0].owner as usize], group);
        }
        Ok(times)
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
        let median = all[all.len() / 2];
        let is_coarse = [low, high].iter().any(|&point| self.coarse.contains(&(point as u16)));
        Some(if is_coarse && median.abs() < MICROSECOND { 0 } else { sign * median })
    }
}

/// Whether the stamps of a point are whole microseconds.
#[derive(Debug, Default)]
struct Resolution {
    count: usize,
    /// What the first stamp is beyond a microsecond: a shift of the clock is the same for all.
    fraction: i64,
    differs: bool,
}

impl Resolution {
    fn add(&mut self, time: i64) {
        let fraction = time.rem_euclid(MICROSECOND);
        if self.count == 0 {
            self.fraction = fraction;
        }
        self.differs |= fraction != self.fraction;
        self.count += 1;
    }

    fn is_coarse(&self) -> bool {
        self.count >= TELLING && !self.differs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sixteen packets that two points stamp at the same moments, the second in whole microseconds.
    #[test]
    fn what_a_coarse_stamp_cuts_off_is_no_difference() {
        let stamp = |point: u16, time: i64, k0: u64| Sighting { time, k0, point, ..Sighting::default() };
        let moments: Vec<(i64, u64)> = (0..16).map(|n| (n * 1_000_417 + 853, n as u64 * 2)).collect();
        let shift = 7_421_331;
        let times = |points: [Vec<Sighting>; 2]| {
            let mut sightings = Sightings::new(2);
            let all = points.into_iter().flatten();
            all.for_each(|sighting| sightings.push(sighting.point.into(), sighting));
            Times::new(&sightings, &[0]).unwrap()
        };
        let at = |point: u16, cut: i64| -> Vec<Sighting> {
            moments.iter().map(|&(time, k0)| stamp(point, time / cut * cut + shift, k0)).collect()
        };
        let mixed = times([at(0, 1), at(1, 1_000)]);
        assert_eq!((mixed.median(0, 0, 1), mixed.median(0, 1, 0)), (Some(0), Some(0)));
        let later: Vec<Sighting> =
            at(1, 1).into_iter().map(|one| Sighting { time: one.time + 700, ..one }).collect();
        assert_eq!(times([at(0, 1), later]).median(0, 0, 1), Some(700));
    }
}
