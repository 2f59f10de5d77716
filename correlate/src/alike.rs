//! Copies that time cannot tell apart.
//!
//! Of identical copies that pass within the error of clocks and the time they take of each other, any sighting may be of
//! any of them. While every point sees everything that does not matter: what is missing on a leg is what its points
//! differ by. Where a point missed some of them it does: the one that is missing in the assignment may be the one that
//! was missed, though that passed at another time. So nothing is known of what is missing among such copies if a point
//! was blind while one of them passed, and nothing is in doubt among others.

use crate::trajectory::{Step, Trajectory};

/// Stretches of copies that cannot be told apart.
#[derive(Debug, Default)]
pub(crate) struct Alike {
    /// Begin and end of those stretches in which a point may have missed a copy, disjoint and ascending.
    doubtful: Vec<(i64, i64)>,
}

impl Alike {
    /// Of all copies of an identity and their steps. `may_miss` says whether a point may have missed what was last seen
    /// between two times.
    pub(crate) fn new(
        copies: &[Trajectory],
        steps: &[Step],
        slack: i64,
        may_miss: impl Fn(i64, i64) -> bool,
    ) -> Self {
        let mut spans: Vec<_> =
            copies.iter().map(|copy| (copy.first.min(copy.last), copy.first.max(copy.last))).collect();
        spans.sort_unstable();
        let longest = steps.iter().map(|step| step.nanos).max().unwrap_or(0).max(0);
        let apart = slack.saturating_mul(2).saturating_add(longest);
        let mut alike = Self::default();
        let mut from = 0;
        while from < spans.len() {
            let (start, mut end) = spans[from];
            let mut to = from + 1;
            while let Some(next) = spans.get(to).filter(|next| next.0.saturating_sub(end) <= apart) {
                end = end.max(next.1);
                to += 1;
            }
            if to - from > 1 && may_miss(start, end) {
                alike.doubtful.push((start, end));
            }
            from = to;
        }
        alike
    }

    /// Whether nothing is known of it if it is missing.
    pub(crate) fn is_doubtful(&self, copy: &Trajectory) -> bool {
        let at = self.doubtful.partition_point(|(start, _)| *start <= copy.first.min(copy.last));
        at > 0 && copy.first.min(copy.last) <= self.doubtful[at - 1].1
    }
}
