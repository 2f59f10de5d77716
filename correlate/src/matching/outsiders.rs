//! Copies of an identity that are not of the window, for those that are and may be confused with them.

use crate::matching::trajectory::Trajectory;

/// Where copies outside the window got to and when, in that order.
#[derive(Debug, Default)]
pub(crate) struct Outsiders(Vec<(u32, i64)>);

impl Outsiders {
    /// Of all copies of an identity those that are not judged, which is said by the time they were first seen.
    pub(crate) fn new(copies: &[Trajectory], is_judged: impl Fn(i64) -> bool) -> Self {
        let outside = copies.iter().filter(|copy| !is_judged(copy.first));
        let mut outside: Vec<_> = outside.map(|copy| (copy.reach(), copy.last)).collect();
        outside.sort_unstable();
        Self(outside)
    }

    /// One of them was last seen between two times, both included, and beyond a position.
    pub(crate) fn got_beyond(&self, position: u32, earliest: i64, latest: i64) -> bool {
        let furthest = self.0.last().map_or(0, |(reach, _)| *reach);
        (position + 1..=furthest).any(|reach| {
            let at = self.0.partition_point(|outside| *outside < (reach, earliest));
            self.0.get(at).is_some_and(|outside| *outside <= (reach, latest))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(reach: u32, last: i64) -> Trajectory {
        Trajectory { mask: 1 | 1 << reach, first: last, last, is_extra: false, may_be_late: false }
    }

    #[test]
    fn those_count_that_got_further_at_the_time() {
        let outsiders = Outsiders::new(&[copy(3, 100), copy(5, 200), copy(7, -5)], |first| first == 200);
        assert!(outsiders.got_beyond(2, 100, 100) && outsiders.got_beyond(2, 0, 150));
        assert!(!outsiders.got_beyond(3, 0, 150), "no further than that");
        assert!(!outsiders.got_beyond(2, 101, 300), "the other is of the window");
        assert!(outsiders.got_beyond(6, -9, 9) && !outsiders.got_beyond(7, -9, 9));
        assert!(!Outsiders::default().got_beyond(0, i64::MIN, i64::MAX));
    }

    /// To look at each of them for each that is missing would take 10^12 steps.
    #[test]
    fn there_may_be_any_number_of_both() {
        let copies: Vec<_> = (0..1_000_000).map(|at| copy(7, 2 * at)).collect();
        let outsiders = Outsiders::new(&copies, |_| false);
        let found = (0..1_000_000).filter(|at| outsiders.got_beyond(6, *at, *at)).count();
        assert_eq!(found, 500_000);
    }
}
