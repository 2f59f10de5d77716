//! Which fragments are one datagram.
//!
//! Identifications wrap and packets are doubled, so several datagrams of one name may be under way: each fragment goes
//! to the nearest first fragment in time that lacks it.

use super::piece::{Part, Piece};
use crate::evidence::flows::Flows;
use crate::input::Job;

/// Puts the datagrams together that one point saw in fragments.
pub(super) struct Joiner<'a> {
    pub(super) job: &'a Job,
    pub(super) flows: &'a Flows,
    pub(super) bound: i64,
    /// Joins packets, not what carries them.
    pub(super) is_inner: bool,
    pub(super) pieces: &'a mut [Piece],
    pub(super) removed: &'a mut [bool],
}

impl Joiner<'_> {
    /// Puts the datagrams together that one point may have seen under each name.
    pub(super) fn join(&mut self, parts: &[Part]) {
        let mut given = Vec::new();
        for named in parts.chunk_by(|a, b| a.name == b.name) {
            if !self.tells(named) {
                continue;
            }
            for of_id in named.chunk_by(|a, b| a.id == b.id) {
                let (firsts, others) = of_id.split_at(of_id.partition_point(|part| part.start == 0));
                given.clear();
                for alike in others.chunk_by(|a, b| (a.start, a.end) == (b.start, b.end)) {
                    give(firsts, alike, self.bound, &mut given);
                }
                given.sort_unstable_by_key(|(first, part)| (*first, part.start, part.end));
                self.judge(firsts, &given);
            }
        }
    }

    /// A file may have been captured with a filter on ports, which leaves every fragment out but the first: where it
    /// shows no other, it says nothing about them.
    fn tells(&self, named: &[Part]) -> bool {
        let flow = self.pieces[named[0].piece as usize].flow;
        let point = usize::from(self.flows.all[flow as usize].point);
        self.job.points[point].gso_known || named.iter().any(|part| part.start != 0)
    }

    fn judge(&mut self, firsts: &[Part], given: &[(usize, Part)]) {
        let mut given = given;
        for (index, first) in firsts.iter().enumerate() {
            let (own, rest) = given.split_at(given.partition_point(|(of, _)| *of <= index));
            given = rest;
            let piece = first.piece as usize;
            match completed(first, own) {
                Some((time, end)) => {
                    let piece = &mut self.pieces[piece];
                    piece.time = time;
                    if self.is_inner {
                        let next = own.first().map_or(end, |(_, part)| part.start);
                        piece.complete(self.flows.all[piece.flow as usize].key.protocol, next, end);
                    }
                }
                None => self.removed[piece] = true,
            }
        }
    }
}

/// Gives each of some fragments with the same bytes to the nearest first fragment that has none of them yet. Both are
/// in order of time.
fn give(firsts: &[Part], alike: &[Part], bound: i64, given: &mut Vec<(usize, Part)>) {
    let mut before: Vec<usize> = Vec::new();
    let mut next = 0;
    for part in alike {
        while next < firsts.len() && firsts[next].time <= part.time {
            before.push(next);
            next += 1;
        }
        let apart = |first: usize| firsts[first].time.saturating_sub(part.time).saturating_abs();
        let last = before.last().copied().filter(|first| apart(*first) <= bound);
        let coming = (next < firsts.len() && apart(next) <= bound).then_some(next);
        match (last, coming) {
            (Some(last), coming) if coming.is_none_or(|coming| apart(last) <= apart(coming)) => {
                before.pop();
                given.push((last, *part));
            }
            (_, Some(coming)) => {
                next += 1;
                given.push((coming, *part));
            }
            _ => {}
        }
    }
}

/// When the last fragment came and where it ends, if `others`, by their first byte, follow `first` without a gap to the
/// last of them.
fn completed(first: &Part, others: &[(usize, Part)]) -> Option<(i64, u32)> {
    let (mut covered, mut last) = (first.end, first.time);
    for (_, part) in others {
        if part.start > covered {
            return None;
        }
        covered = covered.max(part.end);
        last = last.max(part.time);
    }
    others.iter().any(|(_, part)| part.is_last && part.end == covered).then_some((last, covered))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(time: i64, start: u32, end: u32, is_last: bool) -> Part {
        Part { name: 0, id: 7, time, start, end, is_last, piece: 0 }
    }

    /// For each first fragment when its datagram was whole.
    fn whole(firsts: &[i64], others: &[Part]) -> Vec<Option<i64>> {
        let firsts: Vec<_> = firsts.iter().map(|time| part(*time, 0, 1000, false)).collect();
        let mut others = others.to_vec();
        others.sort_by_key(|other| (other.start, other.end, other.time));
        let mut given = Vec::new();
        for alike in others.chunk_by(|a, b| (a.start, a.end) == (b.start, b.end)) {
            give(&firsts, alike, 100, &mut given);
        }
        given.sort_by_key(|(first, part)| (*first, part.start, part.end));
        let own = |index| given.iter().filter(move |(of, _)| *of == index).copied().collect::<Vec<_>>();
        firsts.iter().enumerate().map(|(index, first)| Some(completed(first, &own(index))?.0)).collect()
    }

    #[test]
    fn every_byte_must_have_come() {
        let (middle, end) = (part(3, 1000, 2000, false), part(2, 2000, 2100, true));
        assert_eq!(whole(&[0], &[middle, end]), [Some(3)]);
        assert_eq!(whole(&[0], &[middle]), [None], "the last is missing");
        assert_eq!(whole(&[0], &[end]), [None], "one in the middle is missing");
        assert_eq!(whole(&[0], &[]), [None]);
        assert_eq!(whole(&[0], &[part(1, 992, 2100, true)]), [Some(1)], "they may overlap");
    }

    #[test]
    fn a_fragment_goes_to_the_nearest_first_one_that_lacks_it() {
        let end = |time| part(time, 1000, 1100, true);
        assert_eq!(whole(&[0, 50], &[end(51)]), [None, Some(51)], "identifications wrap");
        assert_eq!(whole(&[0, 50], &[end(1)]), [Some(1), None]);
        assert_eq!(whole(&[0, 1], &[end(2), end(3)]), [Some(3), Some(2)], "the network doubled both");
        assert_eq!(whole(&[0, 50], &[end(51), end(90)]), [Some(90), Some(51)], "one was delayed");
        assert_eq!(whole(&[5, 50], &[end(4), end(49)]), [Some(5), Some(50)], "the last may come first");
        assert_eq!(whole(&[0, 500], &[end(200)]), [None, None], "too far from either");
    }
}
