//! Datagrams of which a point saw only a part.
//!
//! A fragment that is not the first names no flow: it is joined to its first fragment by addresses, protocol and
//! identification (RFC 791 §3.2, RFC 8200 §4.5), of the tunnel's carrier or of the packet itself. Whoever puts the
//! datagram together again needs all of it, so a point saw it only if it saw every byte: a first fragment whose others
//! did not come is no sighting, and what is missing of it was lost before the point.
//!
//! Over IPv6 only fragments have an identification, and whoever put a datagram together and cuts it again draws another
//! one (`br_ip6_fragment` and `ip6_fragment` of the kernel behind connection tracking). So a datagram of which all
//! fragments came goes by the name that it has as one packet.
//!
//! Identifications wrap and packets are doubled, so several datagrams of one name may be under way: each fragment goes
//! to the nearest first fragment in time that lacks it.

use std::collections::HashMap;

use lastseen_packet::observation::{FlowKey, Observation, Overlay, OverlayKind, SipKey, marks, protocol};
use lastseen_packet::{HASHED_BYTES, IdentityKey, k0};

use crate::flows::Flows;
use crate::input::Job;
use crate::log::Log;
use crate::scratch::{Fields, Overflow, Record, ScratchError};
use crate::sighting::Sighting;
use crate::sightings::Sightings;

/// IP headers of fixed length, in bytes: IPv4, and IPv6 with its fragment header. Options only make a first fragment
/// seem longer than it is.
const HEADERS: (u32, u32) = (20, 48);
/// Fragments of one datagram are no further apart than this, nanoseconds, where a job does not wait longer.
const LEAST_BOUND_NANOS: i64 = 1_000_000_000;
/// Bytes that a piece takes while those of its point are put together.
const WORKING_BYTES: usize = size_of::<Piece>() + size_of::<Part>() + size_of::<(usize, Part)>();
/// Pieces of a point that there is always room for.
const LEAST_ROOM: usize = 1 << 16;

/// A row that is a fragment, or whose carrier is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    time: i64,
    transport_hash: u64,
    /// Index of its flow, which names the point.
    flow: u32,
    outer_id: u32,
    ip_length: u32,
    payload_length: u32,
    /// Its sightings among those of its point.
    sightings: (u32, u32),
    ip_id: u16,
    fragment_offset: u16,
    outer_fragment_length: u16,
    marks: u8,
}

impl Record for Piece {
    const BYTES: usize = 47;

    fn encode(&self, to: &mut Vec<u8>) {
        to.extend(self.time.to_le_bytes());
        to.extend(self.transport_hash.to_le_bytes());
        let (from, end) = self.sightings;
        for word in [self.flow, self.outer_id, self.ip_length, self.payload_length, from, end] {
            to.extend(word.to_le_bytes());
        }
        for half in [self.ip_id, self.fragment_offset, self.outer_fragment_length] {
            to.extend(half.to_le_bytes());
        }
        to.push(self.marks);
    }

    fn decode(from: &mut Fields<'_>) -> Self {
        Self {
            time: i64::from_le_bytes(from.take()),
            transport_hash: u64::from_le_bytes(from.take()),
            flow: u32::from_le_bytes(from.take()),
            outer_id: u32::from_le_bytes(from.take()),
            ip_length: u32::from_le_bytes(from.take()),
            payload_length: u32::from_le_bytes(from.take()),
            sightings: (u32::from_le_bytes(from.take()), u32::from_le_bytes(from.take())),
            ip_id: u16::from_le_bytes(from.take()),
            fragment_offset: u16::from_le_bytes(from.take()),
            outer_fragment_length: u16::from_le_bytes(from.take()),
            marks: u8::from_le_bytes(from.take()),
        }
    }
}

/// The fragments of a run by point, in the order of the sightings that were made of them.
#[derive(Debug)]
pub(crate) struct Pieces(Vec<Log<Piece>>);

/// The fragments of one point.
struct OfPoint(Vec<Piece>);

/// A fragment as part of one of the datagrams it may belong to.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// Addresses and protocol.
    name: u32,
    id: u32,
    time: i64,
    start: u32,
    end: u32,
    is_last: bool,
    piece: u32,
}

impl Pieces {
    /// That one fragment takes in memory.
    pub(crate) const BYTES: usize = size_of::<Piece>();

    /// None yet, of so many points.
    pub(crate) fn new(points: usize) -> Self {
        Self((0..points).map(|_| Log::default()).collect())
    }

    /// Takes in a row of a point that is a fragment or whose carrier is one, with the range of sightings that were made
    /// of it.
    #[cold]
    pub(crate) fn note(
        &mut self,
        point: usize,
        flow: u32,
        row: &Observation,
        shift_nanos: i64,
        sightings: (usize, usize),
    ) {
        self.0[point].push(Piece {
            time: row.time_nanos.saturating_add(shift_nanos),
            transport_hash: row.transport_hash,
            flow,
            outer_id: row.outer_id(),
            ip_length: row.ip_length,
            payload_length: row.payload_length,
            sightings: (sightings.0 as u32, sightings.1 as u32),
            ip_id: row.ip_id,
            fragment_offset: row.fragment_offset,
            outer_fragment_length: row.outer_fragment_length,
            marks: row.marks,
        });
    }

    /// Fragments of one point.
    pub(crate) fn count(&self, point: usize) -> usize {
        self.0[point].len()
    }

    /// Most fragments of one point that can be put together in half of the memory there is.
    pub(crate) fn room(overflow: &Overflow) -> usize {
        (overflow.bytes / 2 / WORKING_BYTES).max(LEAST_ROOM)
    }

    /// Moves all to scratch space.
    pub(crate) fn put_away(&mut self, overflow: &Overflow) -> Result<(), ScratchError> {
        self.0.iter_mut().try_for_each(|log| log.put_away(overflow))
    }

    /// Takes away the sightings of datagrams that are not whole, and has the others happen when the last of their
    /// fragments came. Returns how many were taken away, by point.
    pub(crate) fn settle(
        self,
        job: &Job,
        flows: &Flows,
        sightings: &mut Sightings,
    ) -> Result<Vec<u64>, ScratchError> {
        let overflow = sightings.overflow.clone();
        let settle = |(point, log): (usize, Log<Piece>)| {
            let mut pieces = Vec::with_capacity(log.len());
            log.drain(overflow.as_deref(), |some| {
                pieces.extend_from_slice(some);
                Ok(())
            })?;
            if pieces.is_empty() { Ok(0) } else { OfPoint(pieces).settle(job, flows, point, sightings) }
        };
        self.0.into_iter().enumerate().map(settle).collect()
    }
}

impl OfPoint {
    /// Settles the sightings of the point. Returns how many were taken away.
    fn settle(
        mut self,
        job: &Job,
        flows: &Flows,
        point: usize,
        sightings: &mut Sightings,
    ) -> Result<u64, ScratchError> {
        let bound = job.guard_nanos.max(LEAST_BOUND_NANOS);
        let mut removed = vec![false; self.0.len()];
        for (is_inner, level) in [(false, Piece::outer as Level), (true, Piece::inner)] {
            let parts = self.parts(flows, job.key.0, &removed, level);
            Joiner { job, flows, bound, is_inner, pieces: &mut self.0, removed: &mut removed }.join(&parts);
        }
        let mut pieces = self.0.iter().zip(removed).peekable();
        let mut incomplete = 0;
        sightings.amend(point, |first, some| {
            let end = first + some.len();
            let mut is_changed = false;
            while let Some(&(piece, is_removed)) = pieces.peek() {
                let (from, to) = (piece.sightings.0 as usize, piece.sightings.1 as usize);
                for sighting in &mut some[from.clamp(first, end) - first..to.clamp(first, end) - first] {
                    sighting.time = if is_removed { GONE } else { piece.time };
                    piece.name(&flows.all[piece.flow as usize].key, job.key, sighting);
                    incomplete += u64::from(is_removed);
                    is_changed = true;
                }
                if to > end {
                    break;
                }
                pieces.next();
            }
            if is_changed {
                some.retain(|sighting| sighting.time != GONE);
            }
            is_changed
        })?;
        Ok(incomplete)
    }

    /// The parts of one level, by datagram name and identification: first fragments in order of time, then the others
    /// by their bytes and then time.
    fn parts(&self, flows: &Flows, key: [u8; 16], removed: &[bool], level: Level) -> Vec<Part> {
        let mut names: HashMap<FlowKey, u32, SipKey> = HashMap::with_hasher(SipKey(key));
        let mut parts = Vec::new();
        for (index, piece) in self.0.iter().enumerate().filter(|(index, _)| !removed[*index]) {
            let Some((name, part)) = level(piece, &flows.all[piece.flow as usize].key) else { continue };
            let next = names.len() as u32;
            let name = *names.entry(name).or_insert(next);
            parts.push(Part { name, piece: index as u32, ..part });
        }
        parts.sort_unstable_by_key(|part| {
            let bytes = if part.start == 0 { (0, 0) } else { (part.start, part.end) };
            (part.name, part.id, bytes, part.time, part.piece)
        });
        parts
    }
}

/// A fragment as part of something, which has a name.
type Level = fn(&Piece, &FlowKey) -> Option<(FlowKey, Part)>;

/// The time of a sighting that is about to be taken away.
const GONE: i64 = i64::MIN;

impl Piece {
    /// As part of a tunnel's carrier.
    fn outer(&self, flow: &FlowKey) -> Option<(FlowKey, Part)> {
        let is_later = self.marks & marks::OUTER_FRAGMENT != 0;
        if self.outer_fragment_length == 0 && !is_later {
            return None;
        }
        let name = match flow.overlay {
            Some(overlay) => carrier(&overlay, flow),
            None => without_ports(flow),
        };
        let (start, length) = if is_later {
            (u32::from(self.fragment_offset), self.payload_length)
        } else {
            (0, u32::from(self.outer_fragment_length))
        };
        let is_last = is_later && self.marks & marks::MORE_FRAGMENTS == 0;
        Some((name, self.part(self.outer_id, start, length, is_last)))
    }

    /// As part of the packet itself.
    fn inner(&self, flow: &FlowKey) -> Option<(FlowKey, Part)> {
        let has_more = self.marks & marks::MORE_FRAGMENTS != 0;
        let start = u32::from(self.fragment_offset);
        if start == 0 && !has_more {
            return None;
        }
        let headers = if self.marks & marks::IPV4 != 0 { HEADERS.0 } else { HEADERS.1 };
        let length = if start == 0 { self.ip_length.saturating_sub(headers) } else { self.payload_length };
        Some((without_ports(flow), self.part(self.ip_id.into(), start, length, !has_more)))
    }

    /// A first fragment over IPv6 whose datagram came up to byte `end`, and of which the next one begins at `next`: from
    /// now on the whole packet. Not where it shows less than what names the whole, as that of TCP does.
    fn complete(&mut self, protocol: u8, next: u32, end: u32) {
        let shows_name = protocol != protocol::TCP && self.payload_length as usize >= HASHED_BYTES;
        if self.marks & marks::IPV4 == 0 && shows_name {
            self.payload_length = end.saturating_sub(next.saturating_sub(self.payload_length));
            self.marks &= !marks::MORE_FRAGMENTS;
        }
    }

    /// Names the sighting of a first fragment that [became](Self::complete) the whole packet.
    fn name(&self, flow: &FlowKey, key: IdentityKey, sighting: &mut Sighting) {
        if sighting.is_datagram() && self.marks & marks::MORE_FRAGMENTS == 0 {
            let (payload_length, transport_hash) = (self.payload_length, self.transport_hash);
            let whole = Observation { payload_length, transport_hash, ..Observation::default() };
            sighting.become_whole(k0(&key, flow, &whole), payload_length);
        }
    }

    fn part(&self, id: u32, start: u32, length: u32, is_last: bool) -> Part {
        let end = start.saturating_add(length);
        Part { name: 0, id, time: self.time, start, end, is_last, piece: 0 }
    }
}

/// What the fragments of a flow's packets have in common. The later ones do not show a tunnel that has no addresses of
/// its own.
fn without_ports(flow: &FlowKey) -> FlowKey {
    let is_own = |overlay: &Overlay| (overlay.source, overlay.destination) == (flow.source, flow.destination);
    let overlay = flow.overlay.filter(|overlay| !is_own(overlay));
    FlowKey { overlay, source_port: 0, destination_port: 0, ..*flow }
}

/// The flow of a tunnel's carrier, as its later fragments show it.
fn carrier(overlay: &Overlay, flow: &FlowKey) -> FlowKey {
    let protocol = match overlay.kind {
        _ if overlay.port != 0 => 17,
        OverlayKind::Gre => 47,
        OverlayKind::IpInIp if flow.source.is_ipv4() => 4,
        OverlayKind::IpInIp => 41,
        OverlayKind::Mpls => 137,
        OverlayKind::Esp => 50,
        OverlayKind::Ah => 51,
        _ => 17,
    };
    let Overlay { source, destination, .. } = *overlay;
    FlowKey { overlay: None, source, destination, protocol, source_port: 0, destination_port: 0 }
}

struct Joiner<'a> {
    job: &'a Job,
    flows: &'a Flows,
    bound: i64,
    /// Joins packets, not what carries them.
    is_inner: bool,
    pieces: &'a mut [Piece],
    removed: &'a mut [bool],
}

impl Joiner<'_> {
    /// Puts the datagrams together that one point may have seen under each name.
    fn join(&mut self, parts: &[Part]) {
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
    fn a_piece_comes_back_as_it_was() {
        let piece = Piece {
            time: -5_000_000_000_000,
            transport_hash: 0xf1f2_f3f4_f5f6_f7f8,
            flow: 0x0102_0304,
            outer_id: 0x0506_0708,
            ip_length: 0x090a_0b0c,
            payload_length: 0x0d0e_0f10,
            sightings: (0x1112_1314, 0x1516_1718),
            ip_id: 0x191a,
            fragment_offset: 0x1b1c,
            outer_fragment_length: 0x1d1e,
            marks: 0x1f,
        };
        let mut bytes = Vec::new();
        piece.encode(&mut bytes);
        assert_eq!((bytes.len(), Piece::decode(&mut Fields::new(&bytes))), (Piece::BYTES, piece));
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
