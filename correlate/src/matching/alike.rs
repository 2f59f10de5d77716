//! Copies that time cannot tell apart.
//!
//! Of identical copies that pass within the error of clocks and the time they take of each other, any sighting may be of
//! any of them. While every point sees everything that does not matter: what is missing on a leg is what its points
//! differ by. Where a point missed some of them, or recording ended while they were under way, it does: one that is
//! missing in the assignment may be one that was missed, though that passed at another time. Of those missing on a leg
//! among such copies as many may be of that kind as could pass while a point was blind; the others were lost.

use crate::matching::trajectory::{Step, Trajectory};

/// Stretches of copies that cannot be told apart.
#[derive(Debug, Default)]
pub(crate) struct Alike {
    /// Those in which a point may have missed a copy, disjoint and ascending.
    doubtful: Vec<Stretch>,
}

#[derive(Debug)]
struct Stretch {
    start: i64,
    end: i64,
    /// Copies that a point may have missed.
    may_be_missed: u32,
    /// By where they were last seen, how many of those that are missing were taken to be such copies.
    excused: [u32; 32],
}

impl Alike {
    /// Of all copies of an identity and their steps. None takes longer than its longest step or `passing`. `may_miss`
    /// says whether a point may have missed what passed it between two times.
    pub(crate) fn new(
        copies: &[Trajectory],
        steps: &[Step],
        (slack, passing): (i64, i64),
        may_miss: impl Fn(i64, i64) -> bool,
    ) -> Self {
        let mut spans: Vec<_> =
            copies.iter().map(|copy| (copy.first.min(copy.last), copy.first.max(copy.last))).collect();
        spans.sort_unstable();
        let longest = steps.iter().map(|step| step.nanos).fold(passing, i64::max);
        let apart = slack.saturating_mul(2).saturating_add(longest);
        let is_missed =
            |&&(start, end): &&(i64, i64)| may_miss(start.saturating_sub(apart), end.saturating_add(apart));
        let mut alike = Self::default();
        let mut from = 0;
        while from < spans.len() {
            let (start, mut end) = spans[from];
            let mut to = from + 1;
            while let Some(next) = spans.get(to).filter(|next| next.0.saturating_sub(end) <= apart) {
                end = end.max(next.1);
                to += 1;
            }
            if to - from > 1 {
                let may_be_missed = spans[from..to].iter().filter(is_missed).count() as u32;
                alike.note(Stretch { start, end, may_be_missed, excused: [0; 32] });
            }
            from = to;
        }
        alike
    }

    fn note(&mut self, stretch: Stretch) {
        if stretch.may_be_missed > 0 {
            self.doubtful.push(stretch);
        }
    }

    /// Whether nothing is known of a copy that is missing. Each is asked for once.
    pub(crate) fn excuse(&mut self, copy: &Trajectory) -> bool {
        let time = copy.first.min(copy.last);
        let at = self.doubtful.partition_point(|stretch| stretch.start <= time);
        let Some(stretch) = self.doubtful[..at].last_mut().filter(|stretch| time <= stretch.end) else {
            return false;
        };
        let excused = &mut stretch.excused[copy.reach() as usize];
        *excused += 1;
        *excused <= stretch.may_be_missed
    }
}
