//! The compact record of one segment at one point, of which a run holds one per observation.

use lastseen_packet::Segment;

use crate::evidence::scratch::{Fields, Record};

/// Payload that a sighting always has room for, whatever its headers.
pub(crate) const LEAST_ROOM: u32 = (u16::MAX - u8::MAX as u16) as u32;

/// One segment as one point saw it. 32 bytes, because tens of millions are held at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sighting {
    /// Unix nanoseconds on the coordinator's clock.
    pub(crate) time: i64,
    /// Identity. The lowest bit says that it is a datagram's, see [`Sighting::is_datagram`].
    pub(crate) k0: u64,
    /// Index of the flow while observations are collected, of the conversation afterwards.
    pub(crate) owner: u32,
    pub(crate) tcp_seq: u32,
    /// Inner IP length; larger ones (super-packets of unknown segment size) stop at 65,535.
    pub(crate) ip_length: u16,
    pub(crate) ip_id: u16,
    pub(crate) point: u16,
    pub(crate) tcp_flags: u8,
    /// `ip_length` less the transport payload, at most 255.
    pub(crate) header_length: u8,
}

/// Bytes of the header of an IPv6 fragment, RFC 8200 §4.5.
const FRAGMENT_HEADER: u8 = 8;
/// Marks the identity of a datagram that some hop saw in fragments.
const DATAGRAM_BIT: u64 = 1;

impl Sighting {
    pub(crate) fn new(segment: &Segment, shift_nanos: i64, owner: u32, point: u16) -> Self {
        let headers = segment.ip_length.saturating_sub(segment.payload_length);
        Self {
            time: segment.time_nanos.saturating_add(shift_nanos),
            k0: segment.k0 & !DATAGRAM_BIT | u64::from(segment.is_fragment()),
            owner,
            tcp_seq: segment.tcp_seq,
            ip_length: u16::try_from(segment.ip_length).unwrap_or(u16::MAX),
            ip_id: segment.ip_id,
            point,
            tcp_flags: segment.tcp_flags,
            header_length: u8::try_from(headers).unwrap_or(u8::MAX),
        }
    }

    /// A packet longer than an IP length can say in parts that a sighting can hold, each with an identity of its own. All
    /// but the last [are full](Self::is_full).
    pub(crate) fn parts(
        segment: Segment,
        shift_nanos: i64,
        owner: u32,
        point: u16,
    ) -> impl Iterator<Item = Self> {
        let headers = segment.ip_length.saturating_sub(segment.payload_length);
        let room = room(headers);
        (0..segment.payload_length).step_by(room as usize).zip(0..).map(move |(start, index)| {
            let payload_length = room.min(segment.payload_length - start);
            let part = Segment {
                k0: segment.k0.wrapping_add(2 * index),
                tcp_seq: segment.tcp_seq.wrapping_add(start),
                payload_length,
                ip_length: headers.saturating_add(payload_length),
                ..segment
            };
            Self::new(&part, shift_nanos, owner, point)
        })
    }

    /// Whether a segment does not fit into one sighting.
    pub(crate) fn is_too_small_for(segment: &Segment) -> bool {
        segment.payload_length > room(segment.ip_length.saturating_sub(segment.payload_length))
    }

    /// True if it holds as much as it can: it may be part of a longer packet.
    pub(crate) fn is_full(&self) -> bool {
        self.ip_length == u16::MAX
    }

    /// Gives a whole packet the identity of its datagram, because some hop saw it in fragments.
    pub(crate) fn become_datagram(&mut self, datagram_key: u64) {
        self.k0 = datagram_key | DATAGRAM_BIT;
    }

    /// Makes a first fragment over IPv6 the packet that its datagram is without being cut.
    pub(crate) fn become_whole(&mut self, packet_key: u64, payload_length: u32) {
        self.k0 = packet_key & !DATAGRAM_BIT;
        self.header_length = self.header_length.saturating_sub(FRAGMENT_HEADER);
        let length = payload_length.saturating_add(self.header_length.into());
        self.ip_length = u16::try_from(length).unwrap_or(u16::MAX);
    }

    /// Gives a part of a packet the identity of its bytes.
    pub(crate) fn become_interval(&mut self, interval_key: u64) {
        self.k0 = interval_key & !DATAGRAM_BIT;
    }

    /// True for a datagram that some hop saw in fragments.
    pub(crate) fn is_datagram(&self) -> bool {
        self.k0 & DATAGRAM_BIT != 0
    }

    pub(crate) fn payload_length(&self) -> u32 {
        u32::from(self.ip_length.saturating_sub(u16::from(self.header_length)))
    }
}

/// Payload that a sighting has room for behind so many bytes of headers.
fn room(headers: u32) -> u32 {
    u32::from(u16::MAX) - headers.min(u8::MAX.into())
}

impl Record for Sighting {
    const BYTES: usize = 32;

    fn encode(&self, to: &mut Vec<u8>) {
        let Self { time, k0, owner, tcp_seq, ip_length, ip_id, point, tcp_flags, header_length } = *self;
        to.extend(time.to_le_bytes());
        to.extend(k0.to_le_bytes());
        to.extend(owner.to_le_bytes());
        to.extend(tcp_seq.to_le_bytes());
        to.extend(ip_length.to_le_bytes());
        to.extend(ip_id.to_le_bytes());
        to.extend(point.to_le_bytes());
        to.extend([tcp_flags, header_length]);
    }

    fn decode(from: &mut Fields<'_>) -> Self {
        Self {
            time: i64::from_le_bytes(from.take()),
            k0: u64::from_le_bytes(from.take()),
            owner: u32::from_le_bytes(from.take()),
            tcp_seq: u32::from_le_bytes(from.take()),
            ip_length: u16::from_le_bytes(from.take()),
            ip_id: u16::from_le_bytes(from.take()),
            point: u16::from_le_bytes(from.take()),
            tcp_flags: u8::from_le_bytes(from.take()),
            header_length: u8::from_le_bytes(from.take()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sighting_comes_back_as_it_was() {
        let sighting = Sighting {
            time: -5_000_000_000_000,
            k0: 0x0123_4567_89ab_cdef,
            owner: 0xdead_beef,
            tcp_seq: 0xfeed_cafe,
            ip_length: 65_535,
            ip_id: 513,
            point: 1027,
            tcp_flags: 0x18,
            header_length: 52,
        };
        let mut bytes = Vec::new();
        sighting.encode(&mut bytes);
        assert_eq!((bytes.len(), Sighting::decode(&mut Fields::new(&bytes))), (Sighting::BYTES, sighting));
    }

    #[test]
    fn a_sighting_stays_small() {
        assert_eq!(size_of::<Sighting>(), 32);
    }
}
