//! Traits of single segments: fragments, TCP flags, lengths.

use super::candidate::{Candidate, Holders, Kind};
use super::chance::Split;
use super::profile::{EMPTY, FRAGMENTED, Profile, Size};
use crate::report::text::grouped;

/// TCP flags, RFC 9293 §3.1.
const FLAGS: [(u16, &str); 8] = [
    (0x01, "FIN"),
    (0x02, "SYN"),
    (0x04, "RST"),
    (0x08, "PSH"),
    (0x10, "ACK"),
    (0x20, "URG"),
    (0x40, "ECE"),
    (0x80, "CWR"),
];
const FIN_SYN_RST: u16 = 0x07;
const ACK: u16 = 0x10;

/// The traits of segments of a loss and of what passed; their lengths only where these are lengths of segments.
pub(crate) fn candidates(lost: &Profile, passed: &Profile, has_lengths: bool) -> Vec<Candidate> {
    let sample = Sample { lost, passed };
    let mut found = vec![sample.fragments()];
    found.extend(sample.flags());
    if has_lengths {
        found.extend(sample.lengths());
    }
    found
}

struct Sample<'p> {
    lost: &'p Profile,
    passed: &'p Profile,
}

impl Sample<'_> {
    fn candidate(
        &self,
        kind: Kind,
        holders: Holders,
        tried: usize,
        what: String,
        rest: &'static str,
    ) -> Candidate {
        let with = |profile| holders.count(profile);
        let split =
            Split::new((with(self.lost), self.lost.count()), (with(self.passed), self.passed.count()));
        Candidate { kind, split, holders, ln_tried: (tried as f64).ln(), what, rest }
    }

    fn fragments(&self) -> Candidate {
        let holders = Holders::Marks { mask: FRAGMENTED, value: FRAGMENTED };
        self.candidate(Kind::Fragment, holders, 1, "are datagrams in fragments".into(), "whole")
    }

    fn flags(&self) -> impl Iterator<Item = Candidate> {
        let one = |(flag, name): (u16, &str)| {
            let holders = Holders::Marks { mask: flag, value: flag };
            self.candidate(Kind::Flag, holders, FLAGS.len() + 1, format!("carry {name}"), "without it")
        };
        let pure = Holders::Marks { mask: EMPTY | ACK | FIN_SYN_RST, value: EMPTY | ACK };
        let what = "are acknowledgments without data".into();
        let pure = self.candidate(Kind::Flag, pure, FLAGS.len() + 1, what, "others");
        FLAGS.into_iter().map(one).chain([pure])
    }

    /// Every threshold between two lengths that occur, to both sides.
    fn lengths(&self) -> impl Iterator<Item = Candidate> {
        let mut all = self.lost.clone();
        all.merge_traits(self.passed);
        let tried = 2 * all.sizes.len();
        self.lost.sizes.iter().flat_map(move |lost| {
            let mut passed = self.passed.sizes.iter();
            let passed = passed.find(|size| size.bucket() == lost.bucket());
            let (from, to) = (shortest(lost, passed), longest(lost, passed));
            let longer = format!("are {} bytes or longer", grouped(from.into()));
            let shorter = format!("are {} bytes or shorter", grouped(to.into()));
            [
                self.candidate(Kind::Size, Holders::Lengths(from..=u16::MAX), tried, longer, "shorter"),
                self.candidate(Kind::Size, Holders::Lengths(0..=to), tried, shorter, "longer"),
            ]
        })
    }
}

/// The threshold below the lost of a bucket. Above it are all of those that passed in the bucket, or none.
fn shortest(lost: &Size, passed: Option<&Size>) -> u16 {
    let mixed = passed.filter(|passed| passed.longest >= lost.shortest);
    mixed.map_or(lost.shortest, |passed| lost.shortest.min(passed.shortest))
}

/// As [`shortest`], above them.
fn longest(lost: &Size, passed: Option<&Size>) -> u16 {
    let mixed = passed.filter(|passed| passed.shortest <= lost.longest);
    mixed.map_or(lost.longest, |passed| lost.longest.max(passed.longest))
}
