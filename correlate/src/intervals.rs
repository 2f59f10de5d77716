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

use std::collections::HashSet;

use lastseen_packet::IdentityKey;
use lastseen_packet::observation::tcp_flags;

use crate::correlator::SEGMENT_LIMIT;
use crate::plan::{Plan, Plans};
use crate::run::on_all_cores;
use crate::sighting::Sighting;

/// Most intervals of a conversation for each of its sightings, and in any case: a super-packet holds 45 segments of
/// Ethernet's size. Senders choose where packets begin and end, and could have every byte cut out of every packet.
const INTERVALS: (usize, usize) = (64, 1 << 16);
/// Congestion window reduced, RFC 3168. Only the first segment of a super-packet keeps it.
const CWR: u8 = 0x80;
/// What separates the identity of an interval from those of packets.
const INTERVAL: [u8; 8] = *b"interval";

/// Cuts what is not matched of the conversations that have points without segment sizes, in partitions that are grouped
/// by identity. Copies no further apart than `bound` nanoseconds may be one packet's. Returns the conversations that
/// are matched by bytes from now on.
pub(crate) fn recut(
    partitions: &mut [Vec<Sighting>],
    plans: &Plans,
    key: IdentityKey,
    bound: i64,
    slot: impl Fn(&Sighting) -> usize,
) -> HashSet<u32> {
    let mut apart = on_all_cores(partitions.iter_mut(), |next| {
        let mut apart = Vec::new();
        while let Some(partition) = next() {
            set_apart(partition, plans, &mut apart);
        }
        apart
    })
    .concat();
    apart.sort_unstable_by_key(|s| (s.owner, whole_order(s)));
    let conversations: Vec<&[Sighting]> = apart.chunk_by(|a, b| a.owner == b.owner).collect();
    let counts = on_all_cores(conversations.iter(), |next| {
        let mut count = 0;
        while let Some(conversation) = next() {
            count += Sweep::new(conversation, key, bound).count().unwrap_or(conversation.len());
        }
        count
    });
    let is_too_much = counts.iter().sum::<usize>() > SEGMENT_LIMIT;
    let found = on_all_cores(conversations.iter(), |next| {
        let (mut cut, mut left) = (Vec::new(), HashSet::new());
        while let Some(conversation) = next() {
            let sweep = Sweep::new(conversation, key, bound);
            if is_too_much || sweep.count().is_none() {
                cut.extend_from_slice(conversation);
                left.insert(conversation[0].owner);
            } else {
                sweep.cut(&mut cut);
            }
        }
        (cut, left)
    });
    let mut told: HashSet<u32> =
        (0..).zip(&plans.courses).filter(|(_, c)| c.is_coarse).map(|(at, _)| at).collect();
    for (cut, left) in found {
        for sighting in &cut {
            partitions[slot(sighting)].push(*sighting);
        }
        told.retain(|conversation| !left.contains(conversation));
    }
    on_all_cores(partitions.iter_mut(), |next| {
        while let Some(partition) = next() {
            partition.sort_unstable_by_key(|s| (s.k0, s.owner, whole_order(s)));
        }
    });
    told
}

/// By time, then by everything else there is, so that the order of batches does not show.
fn whole_order(s: &Sighting) -> impl Ord + use<> {
    (s.time, s.point, s.tcp_flags, s.header_length, s.tcp_seq, s.ip_length, s.ip_id, s.k0)
}

/// Moves the packets that are not matched out of a partition, which is grouped by identity.
fn set_apart(partition: &mut Vec<Sighting>, plans: &Plans, apart: &mut Vec<Sighting>) {
    let (mut kept, mut start) = (0, 0);
    while let Some(first) = partition.get(start).copied() {
        let is_same = |s: &&Sighting| (s.k0, s.owner) == (first.k0, first.owner);
        let end = start + partition[start..].iter().take_while(is_same).count();
        let course = plans.courses[first.owner as usize];
        let plan = &plans.plans[course.plan as usize];
        if course.is_coarse && may_be_cut(&first) && !is_matched(&partition[start..end], plan, course.active)
        {
            apart.extend_from_slice(&partition[start..end]);
        } else {
            partition.copy_within(start..end, kept);
            kept += end - start;
        }
        start = end;
    }
    partition.truncate(kept);
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

    fn cut(&self, out: &mut Vec<Sighting>) {
        for (packet, cuts) in self.packets() {
            let last = cuts.len().saturating_sub(2);
            for (index, ends) in cuts.windows(2).enumerate() {
                out.push(self.interval(packet, (ends[0], ends[1]), index, index == last));
            }
        }
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
        let mut out = Vec::new();
        Sweep::new(sightings, IdentityKey([3; 16]), bound).cut(&mut out);
        out.iter().map(|s| (s.point, s.tcp_seq, s.payload_length(), s.ip_id)).collect()
    }

    #[test]
    fn packets_are_cut_where_any_point_cuts_them_across_the_wrap() {
        let base = u32::MAX - 99;
        let seen = [sighting(0, 0, base, 300), sighting(1, 1, base, 100), sighting(1, 2, 0, 200)];
        assert_eq!(cut(&seen, 10), [(0, base, 100, 7), (0, 0, 200, 8), (1, base, 100, 7), (1, 0, 200, 7)]);
        let mut out = Vec::new();
        Sweep::new(&seen, IdentityKey([3; 16]), 10).cut(&mut out);
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
