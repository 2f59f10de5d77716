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

use lastseen_packet::IdentityKey;
use lastseen_packet::observation::tcp_flags;

use crate::plan::{Plan, Plans};
use crate::scratch::ScratchError;
use crate::sighting::Sighting;

/// Most intervals of a conversation for each of its sightings, and in any case: a super-packet holds 45 segments of
/// Ethernet's size. Senders choose where packets begin and end, and could have every byte cut out of every packet.
const INTERVALS: (usize, usize) = (64, 1 << 16);
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

    /// Hands over the sightings of intervals of a conversation, unless they are too many, and says whether it did.
    pub(crate) fn cut(
        &self,
        conversation: &[Sighting],
        add: impl FnMut(Sighting) -> Result<(), ScratchError>,
    ) -> Result<bool, ScratchError> {
        let sweep = Sweep::new(conversation, self.key, self.bound);
        if sweep.count().is_none() {
            return Ok(false);
        }
        sweep.cut().try_for_each(add)?;
        Ok(true)
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
    /// First byte of each in the stream, which does not wrap.
    starts: Vec<i64>,
    /// Of the packets up to an index, where any begins or ends: ascending. Packets further apart in time than copies
    /// can be do not cut each other.
    epochs: Vec<(usize, Vec<i64>)>,
}

impl<'s> Sweep<'s> {
    /// `sightings` are in order of time.
    fn new(sightings: &'s [Sighting], key: IdentityKey, bound: i64) -> Self {
        let starts = starts(sightings);
        let mut epochs = Vec::new();
        let mut first = 0;
        for epoch in sightings.chunk_by(|a, b| b.time.saturating_sub(a.time) <= bound) {
            let end = first + epoch.len();
            let ends =
                starts[first..end].iter().zip(epoch).flat_map(|(start, s)| [*start, start + length(s)]);
            let mut cuts: Vec<i64> = ends.collect();
            cuts.sort_unstable();
            cuts.dedup();
            epochs.push((end, cuts));
            first = end;
        }
        Self { key, sightings, starts, epochs }
    }

    /// Each packet with the cuts from its first byte to behind its last.
    fn packets(&self) -> impl Iterator<Item = (&Sighting, &[i64])> {
        let mut epochs = self.epochs.iter();
        let (mut end, mut cuts): (usize, &[i64]) = (0, &[]);
        self.sightings.iter().zip(&self.starts).enumerate().map(move |(index, (sighting, start))| {
            if index >= end
                && let Some(epoch) = epochs.next()
            {
                (end, cuts) = (epoch.0, &epoch.1);
            }
            let from = cuts.partition_point(|cut| cut < start);
            let to = from + cuts[from..].partition_point(|cut| *cut <= start + length(sighting));
            (sighting, &cuts[from..to])
        })
    }

    /// Sightings of intervals that it comes to; absent if they are too many.
    fn count(&self) -> Option<usize> {
        let most = INTERVALS.1.saturating_add(self.sightings.len().saturating_mul(INTERVALS.0));
        let count = self.packets().map(|(_, cuts)| cuts.len().saturating_sub(1)).sum();
        (count <= most).then_some(count)
    }

    fn cut(&self) -> impl Iterator<Item = Sighting> {
        self.packets().flat_map(move |(packet, cuts)| {
            let last = cuts.len().saturating_sub(2);
            let intervals = cuts.windows(2).enumerate();
            intervals
                .map(move |(index, ends)| self.interval(packet, (ends[0], ends[1]), index, index == last))
        })
    }

    /// One interval of a packet. Its identification is that of the segment, if intervals are segments.
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
            ip_id: packet.ip_id.wrapping_add(index as u16),
            tcp_flags: flags,
            ..*packet
        };
        let name = [INTERVAL, start.to_le_bytes(), end.to_le_bytes()];
        interval.become_interval(self.key.hash(name.as_flattened()));
        interval
    }
}

fn length(sighting: &Sighting) -> i64 {
    sighting.payload_length().into()
}

/// Sequence numbers wrap: each is placed nearest to the one before it in time.
fn starts(sightings: &[Sighting]) -> Vec<i64> {
    let mut last = sightings.first().map_or(0, |first| i64::from(first.tcp_seq));
    let place = |sighting: &Sighting| {
        last += i64::from(sighting.tcp_seq.wrapping_sub(last as u32) as i32);
        last
    };
    sightings.iter().map(place).collect()
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
        assert_eq!(cut(&seen, 10), [(0, base, 100, 7), (0, 0, 200, 8), (1, base, 100, 7), (1, 0, 200, 7)]);
        let out: Vec<_> = Sweep::new(&seen, IdentityKey([3; 16]), 10).cut().collect();
        assert_eq!((out[0].k0, out[1].k0), (out[2].k0, out[3].k0));
        assert_ne!(out[0].k0, out[1].k0);
        assert!(!out[0].is_datagram());
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
