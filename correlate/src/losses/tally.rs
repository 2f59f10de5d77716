//! Counts of one conversation. All fields merge in any order to the same result.

use std::collections::BTreeMap;

use crate::evidence::sighting::Sighting;
use crate::losses::delay::Delays;
use crate::pattern::Profile;
use crate::report::SegmentTotals;

/// Examples kept per loss.
const EXAMPLES: usize = 5;
/// Unit of sums of rates: integers add up to the same whatever the order.
const RATE_UNIT: f64 = 1e9;

/// A segment that did not arrive, with what the list of lost packets shows. Ordered by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Missing {
    pub(crate) first: i64,
    pub(crate) k0: u64,
    pub(crate) tcp_seq: u32,
    pub(crate) mask: u32,
    pub(crate) testify: u32,
    pub(crate) conversation: u32,
    pub(crate) ip_length: u16,
    pub(crate) ip_id: u16,
    /// As [`Class::drop`].
    pub(crate) drop: u16,
    pub(crate) tcp_flags: u8,
    pub(crate) header_length: u8,
}

/// What missing segments have in common that decides what becomes of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Class {
    /// Position that saw them last.
    pub(crate) from: u8,
    /// Later positions that could have seen them and did not.
    pub(crate) testify: u32,
    /// The drop event that proves the loss, see [`crate::matching::drops::Drops`]; 0 without one.
    pub(crate) drop: u16,
}

/// Segments missing after one position, to which the same later points testify.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MissingTally {
    pub(crate) count: u64,
    /// Payload of all.
    pub(crate) bytes: u64,
    pub(crate) shortest: u16,
    pub(crate) longest: u16,
    pub(crate) examples: Vec<Missing>,
    /// What they are like.
    pub(crate) profile: Profile,
}

/// What one position of the path saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HopTally {
    pub(crate) seen: u64,
    /// Segments last seen here.
    pub(crate) ended: u64,
    /// Inner IP length of the longest segment last seen here.
    pub(crate) longest_ended: u16,
    pub(crate) delays: Delays,
    /// What the segments last seen here are like.
    pub(crate) profile: Option<Box<Profile>>,
    blind: u64,
}

/// Counts of one conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// `lost` is filled in at the end, from `missing`.
    pub(crate) totals: SegmentTotals,
    /// Payload of the segments.
    pub(crate) bytes: u64,
    pub(crate) hops: Vec<HopTally>,
    pub(crate) missing: BTreeMap<Class, MissingTally>,
    /// Segments that later points did not see and that were acknowledged.
    pub(crate) acknowledged: u64,
    /// Longest time from the first to the last point that saw a segment of which there is no second copy, nanoseconds.
    pub(crate) longest_nanos: i64,
    /// Positions that saw segments which points before them should have seen and did not.
    pub(crate) orphaned: u32,
}

impl Tally {
    pub(crate) fn new(hops: usize) -> Self {
        Self { hops: vec![HopTally::default(); hops], ..Self::default() }
    }

    /// Counts a segment, which was sent in bin `time`, as missing.
    pub(crate) fn miss(&mut self, missing: Missing, segment: &Sighting, time: u16) {
        let tally = self.missing.entry(missing.class()).or_default();
        tally.add(missing);
        tally.profile.add(segment, time);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.totals.add(&other.totals);
        self.bytes += other.bytes;
        self.orphaned |= other.orphaned;
        self.longest_nanos = self.longest_nanos.max(other.longest_nanos);
        self.acknowledged += other.acknowledged;
        for (hop, theirs) in self.hops.iter_mut().zip(&other.hops) {
            hop.merge(theirs);
        }
        for (key, theirs) in &other.missing {
            self.missing.entry(*key).or_default().merge(theirs);
        }
    }
}

impl HopTally {
    /// Counts a segment, which was sent in bin `time`, as last seen here.
    #[inline]
    pub(crate) fn end(&mut self, segment: &Sighting, time: u16) {
        self.ended += 1;
        self.longest_ended = self.longest_ended.max(segment.ip_length);
        self.profile.get_or_insert_default().add(segment, time);
    }

    /// Adds the share of packets the hop missed when a segment passed.
    pub(crate) fn doubt(&mut self, rate: f64) {
        self.blind += (rate * RATE_UNIT) as u64;
    }

    /// Mean of these shares over `segments`.
    pub(crate) fn blind_ratio(&self, segments: u64) -> f64 {
        if segments == 0 { 0.0 } else { self.blind as f64 / RATE_UNIT / segments as f64 }
    }

    fn merge(&mut self, other: &Self) {
        self.seen += other.seen;
        self.ended += other.ended;
        self.longest_ended = self.longest_ended.max(other.longest_ended);
        self.blind += other.blind;
        self.delays.merge(&other.delays);
        if let Some(theirs) = &other.profile {
            self.profile.get_or_insert_default().merge(theirs);
        }
    }
}

impl MissingTally {
    pub(crate) fn add(&mut self, missing: Missing) {
        let shortest = if self.count == 0 { u16::MAX } else { self.shortest };
        self.shortest = shortest.min(missing.ip_length);
        self.longest = self.longest.max(missing.ip_length);
        self.count += 1;
        self.bytes += u64::from(missing.payload_length());
        self.keep(missing);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        self.shortest = if self.count == 0 { other.shortest } else { self.shortest.min(other.shortest) };
        self.longest = self.longest.max(other.longest);
        self.count += other.count;
        self.bytes += other.bytes;
        self.profile.merge(&other.profile);
        other.examples.iter().for_each(|&missing| self.keep(missing));
    }

    fn keep(&mut self, missing: Missing) {
        let at = self.examples.partition_point(|known| known.rank() <= missing.rank());
        if at < EXAMPLES {
            self.examples.insert(at, missing);
            self.examples.truncate(EXAMPLES);
        }
    }
}

impl Missing {
    /// Order of the list: by time, then by what a reader of the list sees, then by everything else there is. So neither
    /// the secret of a capture, nor the order in which batches came, nor the number of cores shows.
    pub(crate) fn rank(&self) -> impl Ord + use<> {
        let of_packet = (self.tcp_seq, self.ip_id, self.ip_length, self.tcp_flags, self.header_length);
        (self.first, self.conversation, of_packet, self.mask, self.testify, self.drop, self.k0)
    }

    pub(crate) fn payload_length(&self) -> u16 {
        self.ip_length.saturating_sub(self.header_length.into())
    }

    pub(crate) fn class(&self) -> Class {
        Class { from: self.mask.ilog2() as u8, testify: self.testify, drop: self.drop }
    }
}
