//! TCP by the bytes it carries, where a point cannot tell the segments of a super-packet apart.
//!
//! Without a segment size one hop may show as one packet what the next shows as ten, and they have no identity in
//! common. So what is not matched packet by packet all along its path is cut wherever any point of the path saw a
//! packet begin or end: what lies between two neighbouring cuts was carried whole at every point, and is what is matched
//! and counted. That sweeps the end points of all packets of a conversation and leaves, of each interval and point, as
//! many sightings as packets covered it there: a range that was lost and sent again was seen twice before the loss and
//! once behind it, however it was cut either time.
//!
//! What was seen as the same packet everywhere stays as it is. That cannot change a difference between two points, and
//! it keeps retransmissions that were cut elsewhere from cutting what they repeat. So the unit is the packet at the hop
//! of the path that shows the smallest ones: the segment, if one hop lies behind segmentation.

use std::collections::BTreeMap;
use std::rc::Rc;

use lastseen_packet::IdentityKey;
use lastseen_packet::observation::tcp_flags;

use crate::evidence::scratch::ScratchError;
use crate::evidence::sighting::{LEAST_ROOM, Sighting};
use crate::matching::plan::{Plan, Plans};

/// Most intervals of a conversation for each of its sightings, and in any case: a super-packet holds 45 segments of
/// Ethernet's size. Senders choose where packets begin and end, and could have every byte cut out of every packet.
const INTERVALS: (usize, usize) = (64, 1 << 16);
/// Longest IP packet that is taken for one segment where the MTU is not known: jumbo frames, 802.1AC or not, hold no more.
const LONGEST_SEGMENT: u32 = 9_216;
/// Congestion window reduced, RFC 3168. Only the first segment of a super-packet keeps it.
const CWR: u8 = 0x80;
/// What separates the identity of an interval from those of packets.
const INTERVAL: [u8; 8] = *b"interval";

/// Cuts what is not matched of the conversations that have points without segment sizes.
#[derive(Debug)]
pub(crate) struct Cutter<'p> {
    pub(crate) plans: &'p Plans,
    pub(crate) key: IdentityKey,
    /// Copies no further apart than this, nanoseconds, may be one packet's.
    pub(crate) bound: i64,
    /// MTU of each point, 0 where it is not known.
    pub(crate) mtus: &'p [u32],
}

/// What cutting comes to for one conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Into what some point of the path shows as packets.
    Segments,
    /// No point shows segments: what lies between two cuts may be many, or part of one.
    Pieces,
    /// It is left as it is, for it would be too much.
    Not,
}

impl Cutter<'_> {
    /// Moves the packets that are not matched out of `sightings`, which are grouped by identity.
    pub(crate) fn set_apart(&self, sightings: &mut Vec<Sighting>, apart: &mut Vec<Sighting>) {
        let (mut kept, mut start) = (0, 0);
        while let Some(first) = sightings.get(start).copied() {
            let is_same = |s: &&Sighting| (s.k0, s.owner) == (first.k0, first.owner);
            let end = start + sightings[start..].iter().take_while(is_same).count();
            if self.is_to_cut(&sightings[start..end]) {
                apart.extend_from_slice(&sightings[start..end]);
            } else {
                sightings.copy_within(start..end, kept);
                kept += end - start;
            }
            start = end;
        }
        sightings.truncate(kept);
    }

    /// Of the sightings of one identity.
    fn is_to_cut(&self, group: &[Sighting]) -> bool {
        let course = self.plans.courses[group[0].owner as usize];
        let plan = &self.plans.plans[course.plan as usize];
        course.is_coarse && may_be_cut(&group[0]) && !is_matched(group, plan, course.active)
    }

    /// Sightings that become of a conversation's, which are in order of time.
    pub(crate) fn count(&self, conversation: &[Sighting]) -> usize {
        Sweep::new(conversation, self.key, self.bound).count().unwrap_or(conversation.len())
    }

    /// Hands over the sightings of intervals of a conversation, unless they are too many.
    pub(crate) fn cut(
        &self,
        conversation: &[Sighting],
        add: impl FnMut(Sighting) -> Result<(), ScratchError>,
    ) -> Result<Cut, ScratchError> {
        let sweep = Sweep::new(conversation, self.key, self.bound);
        if sweep.count().is_none() {
            return Ok(Cut::Not);
        }
        sweep.cut().try_for_each(add)?;
        Ok(if sweep.shows_segments(self.mtus) { Cut::Segments } else { Cut::Pieces })
    }
}

/// Data that segmentation and receive offload cut and merge.
fn may_be_cut(sighting: &Sighting) -> bool {
    !sighting.is_datagram()
        && sighting.payload_length() > 0
        && sighting.tcp_flags & (tcp_flags::SYN | tcp_flags::RST) == 0
}

/// Every point of the path saw as many copies.
fn is_matched(group: &[Sighting], plan: &Plan, active: u32) -> bool {
    let mut seen = [0_u32; 32];
    for at in group.iter().filter_map(|sighting| plan.position(sighting.point)) {
        seen[at as usize] += 1;
    }
    let mut on_path = (0..plan.len()).filter(|at| active & 1 << at != 0).map(|at| seen[at]);
    let first = on_path.next().unwrap_or(0);
    first > 0 && on_path.all(|count| count == first)
}

/// The packets of one conversation and where they are cut.
struct Sweep<'s> {
    key: IdentityKey,
    sightings: &'s [Sighting],
    /// First byte of each in the stream, which does not wrap, and the byte behind its last. The last part of a packet that
    /// is held in parts has the bytes of all, and the others have none.
    spans: Vec<(i64, i64)>,
    /// Of the packets up to an index, where any begins or ends: ascending. Packets further apart in time than copies
    /// can be do not cut each other.
    epochs: Vec<(usize, Vec<i64>)>,
}

impl<'s> Sweep<'s> {
    /// `sightings` are in order of time.
    fn new(sightings: &'s [Sighting], key: IdentityKey, bound: i64) -> Self {
        let spans = spans(sightings);
        let mut epochs = Vec::new();
        let mut first = 0;
        for epoch in sightings.chunk_by(|a, b| b.time.saturating_sub(a.time) <= bound) {
            let end = first + epoch.len();
            let packets = spans[first..end].iter().filter(|(start, end)| start < end);
            let mut cuts: Vec<i64> = packets.flat_map(|&(start, end)| [start, end]).collect();
            cuts.sort_unstable();
            cuts.dedup();
            epochs.push((end, cuts));
            first = end;
        }
        Self { key, sightings, spans, epochs }
    }

    /// Each packet with the cuts from its first byte to behind its last; of one in parts, the last part.
    fn packets(&self) -> impl Iterator<Item = (&Sighting, &[i64])> {
        let mut epochs = self.epochs.iter();
        let (mut end, mut cuts): (usize, &[i64]) = (0, &[]);
        self.sightings.iter().zip(&self.spans).enumerate().map(move |(index, (sighting, (start, last)))| {
            if index >= end
                && let Some(epoch) = epochs.next()
            {
                (end, cuts) = (epoch.0, &epoch.1);
            }
            let from = cuts.partition_point(|cut| cut < start);
            let to = from + cuts[from..].partition_point(|cut| cut <= last);
            (sighting, if start < last { &cuts[from..to] } else { &[] })
        })
    }

    /// Sightings of intervals that it comes to; absent if they are too many.
    fn count(&self) -> Option<usize> {
        let most = INTERVALS.1.saturating_add(self.sightings.len().saturating_mul(INTERVALS.0));
        let parts = |ends: &[i64]| parts((ends[0], ends[1])).count();
        let count = self.packets().map(|(_, cuts)| cuts.windows(2).map(parts).sum::<usize>()).sum();
        (count <= most).then_some(count)
    }

    fn cut(&self) -> impl Iterator<Item = Sighting> {
        let mut begins: Vec<_> =
            self.spans.iter().zip(self.sightings).map(|(span, s)| (span.0, s.ip_id)).collect();
        begins.sort_unstable();
        begins.dedup();
        let begins = Rc::new(begins);
        self.packets().flat_map(move |(packet, cuts)| {
            let last = cuts.len().saturating_sub(2);
            let intervals = cuts.windows(2).enumerate();
            let begins = Rc::clone(&begins);
            intervals.flat_map(move |(index, ends)| {
                let counted = packet.ip_id.wrapping_add(index as u16);
                let is_known = begins.binary_search(&(ends[0], counted)).is_ok();
                let packet = Sighting { ip_id: if is_known { counted } else { packet.ip_id }, ..*packet };
                parts((ends[0], ends[1])).map(move |ends| self.interval(&packet, ends, index, index == last))
            })
        })
    }

    /// True unless packets were cut and every point shows packets that are none of the intervals, or longer than a
    /// segment can be.
    fn shows_segments(&self, mtus: &[u32]) -> bool {
        let mut points: BTreeMap<u16, Shown> = BTreeMap::new();
        for (packet, cuts) in self.packets() {
            let shown = points.entry(packet.point).or_default();
            let mtu = mtus.get(usize::from(packet.point)).copied().filter(|mtu| *mtu > 0);
            shown.packets += 1;
            shown.cut += usize::from(cuts.len() > 2);
            shown.has_longer |= u32::from(packet.ip_length) > mtu.unwrap_or(LONGEST_SEGMENT);
        }
        points.values().all(|shown| shown.cut == 0)
            || points.values().any(|shown| !shown.has_longer && 2 * shown.cut < shown.packets)
    }

    /// One interval of a packet, whose identification it has: that of the segment, if some point saw it begin here with
    /// the number that counts up to it.
    fn interval(&self, packet: &Sighting, (start, end): (i64, i64), index: usize, is_last: bool) -> Sighting {
        let mut flags = packet.tcp_flags;
        if !is_last {
            flags &= !(tcp_flags::FIN | tcp_flags::PSH);
        }
        if index > 0 {
            flags &= !CWR;
        }
        let mut interval = Sighting {
            tcp_seq: start as u32,
            ip_length: u16::from(packet.header_length).saturating_add((end - start) as u16),
            tcp_flags: flags,
            ..*packet
        };
        let name = [INTERVAL, start.to_le_bytes(), end.to_le_bytes()];
        interval.become_interval(self.key.hash(name.as_flattened()));
        interval
    }
}

/// What one point shows of a conversation.
#[derive(Clone, Copy, Debug, Default)]
struct Shown {
    packets: usize,
    /// Of them those that were cut.
    cut: usize,
    /// One of them is longer than a segment.
    has_longer: bool,
}

/// An interval in parts that a sighting can hold.
fn parts((start, end): (i64, i64)) -> impl Iterator<Item = (i64, i64)> {
    let room = i64::from(LEAST_ROOM);
    (start..end).step_by(LEAST_ROOM as usize).map(move |from| (from, end.min(from + room)))
}

/// The bytes of each packet in the stream. Sequence numbers wrap: each is placed nearest to the one before it in time.
fn spans(sightings: &[Sighting]) -> Vec<(i64, i64)> {
    let mut last = sightings.first().map_or(0, |first| i64::from(first.tcp_seq));
    let place = |sighting: &Sighting| {
        last += i64::from(sighting.tcp_seq.wrapping_sub(last as u32) as i32);
        (last, last + i64::from(sighting.payload_length()))
    };
    let mut spans: Vec<_> = sightings.iter().map(place).collect();
    let mut first = 0;
    // Those of one time are in order of flags, header lengths and then sequence numbers. Parts of a packet share the first
    // two, and others may lie between them where sequence numbers wrap.
    for at_once in sightings.chunk_by(|a, b| (a.time, a.point) == (b.time, b.point)) {
        let end = first + at_once.len();
        if at_once.len() > 1 && at_once.iter().any(Sighting::is_full) {
            join_parts(at_once, &mut spans[first..end]);
        }
        first = end;
    }
    spans
}

/// Gives the last part of a packet the bytes of those before it, which have its identification.
fn join_parts(at_once: &[Sighting], spans: &mut [(i64, i64)]) {
    let mut order: Vec<usize> = (0..at_once.len()).collect();
    order.sort_by_key(|&at| (at_once[at].ip_id, spans[at].0));
    for pair in order.windows(2) {
        let (part, next) = (pair[0], pair[1]);
        let is_next = at_once[part].ip_id == at_once[next].ip_id && spans[part].1 == spans[next].0;
        if at_once[part].is_full() && is_next {
            spans[next].0 = spans[part].0;
            spans[part].1 = spans[part].0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting(point: u16, time: i64, seq: u32, length: u16) -> Sighting {
        Sighting {
            point,
            time,
            tcp_seq: seq,
            ip_length: length + 52,
            header_length: 52,
            ip_id: 7,
            ..Sighting::default()
        }
    }

    /// Sequence number, length and identification of the intervals of each point.
    fn cut(sightings: &[Sighting], bound: i64) -> Vec<(u16, u32, u32, u16)> {
        let sweep = Sweep::new(sightings, IdentityKey([3; 16]), bound);
        sweep.cut().map(|s| (s.point, s.tcp_seq, s.payload_length(), s.ip_id)).collect()
    }

    #[test]
    fn packets_are_cut_where_any_point_cuts_them_across_the_wrap() {
        let base = u32::MAX - 99;
        let seen = [sighting(0, 0, base, 300), sighting(1, 1, base, 100), sighting(1, 2, 0, 200)];
        assert_eq!(cut(&seen, 10), [(0, base, 100, 7), (0, 0, 200, 7), (1, base, 100, 7), (1, 0, 200, 7)]);
        let out: Vec<_> = Sweep::new(&seen, IdentityKey([3; 16]), 10).cut().collect();
        assert_eq!((out[0].k0, out[1].k0), (out[2].k0, out[3].k0));
        assert_ne!(out[0].k0, out[1].k0);
        assert!(!out[0].is_datagram());
    }

    #[test]
    fn an_interval_has_an_identification_that_a_packet_had() {
        let second = Sighting { ip_id: 8, ..sighting(1, 2, 100, 200) };
        let seen = [sighting(0, 0, 0, 300), sighting(1, 1, 0, 100), second];
        assert_eq!(cut(&seen, 10), [(0, 0, 100, 7), (0, 100, 200, 8), (1, 0, 100, 7), (1, 100, 200, 8)]);
    }

    #[test]
    fn segments_are_shown_by_a_point_whose_packets_are_short_and_mostly_whole() {
        let shows =
            |seen: &[Sighting], mtus: &[u32]| Sweep::new(seen, IdentityKey([3; 16]), 10).shows_segments(mtus);
        let whole = sighting(0, 0, 0, 30_000);
        let behind = [sighting(1, 1, 0, 10_000), sighting(1, 1, 10_000, 20_000)];
        let segments = [sighting(1, 1, 0, 1_400), sighting(1, 1, 1_400, 1_400)];
        assert!(shows(&[whole, whole], &[]), "nothing was cut");
        assert!(!shows(&[&[whole][..], &behind].concat(), &[]));
        assert!(shows(&[&[whole][..], &behind].concat(), &[1_500, 65_536]));
        assert!(shows(&[&[whole][..], &segments].concat(), &[]));
        let across = [sighting(1, 1, 0, 4_000), sighting(1, 1, 4_000, 4_000)];
        let early = [sighting(0, 0, 0, 3_000), sighting(0, 0, 3_000, 5_000)];
        assert!(!shows(&[early, across].concat(), &[]), "cut everywhere");
    }

    #[test]
    fn packets_of_another_time_do_not_cut() {
        let seen = [sighting(0, 0, 0, 300), sighting(0, 11, 100, 50)];
        assert_eq!(cut(&seen, 10), [(0, 0, 300, 7), (0, 100, 50, 7)]);
        assert_eq!(cut(&seen, 11).len(), 4);
    }

    #[test]
    fn whoever_has_every_byte_cut_out_is_not_followed() {
        let mut seen: Vec<_> = (0..2_000).map(|at| sighting(0, 0, at, 1)).collect();
        seen.extend((0..2_000).map(|_| sighting(1, 1, 0, 2_000)));
        assert_eq!(Sweep::new(&seen, IdentityKey([3; 16]), 10).count(), None);
    }
}
