//! A fragment, and what it is a part of.

use lastseen_packet::observation::{FlowKey, Overlay, OverlayKind, marks};

use crate::evidence::scratch::{Fields, Record};

/// IP headers of fixed length, in bytes: IPv4, and IPv6 with its fragment header. Options only make a first fragment
/// seem longer than it is.
const HEADERS: (u32, u32) = (20, 48);

/// A row that is a fragment, or whose carrier is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) time: i64,
    pub(super) transport_hash: u64,
    /// Index of its flow, which names the point.
    pub(super) flow: u32,
    pub(super) outer_id: u32,
    pub(super) ip_length: u32,
    pub(super) payload_length: u32,
    /// Its sightings among those of its point.
    pub(super) sightings: (u32, u32),
    pub(super) ip_id: u16,
    pub(super) fragment_offset: u16,
    pub(super) outer_fragment_length: u16,
    pub(super) marks: u8,
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

/// A fragment as part of one of the datagrams it may belong to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// Addresses and protocol.
    pub(super) name: u32,
    pub(super) id: u32,
    pub(super) time: i64,
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) is_last: bool,
    pub(super) piece: u32,
}

impl Piece {
    /// As part of a tunnel's carrier.
    pub(super) fn outer(&self, flow: &FlowKey) -> Option<(FlowKey, Part)> {
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
    pub(super) fn inner(&self, flow: &FlowKey) -> Option<(FlowKey, Part)> {
        let has_more = self.marks & marks::MORE_FRAGMENTS != 0;
        let start = u32::from(self.fragment_offset);
        if start == 0 && !has_more {
            return None;
        }
        let headers = if self.marks & marks::IPV4 != 0 { HEADERS.0 } else { HEADERS.1 };
        let length = if start == 0 { self.ip_length.saturating_sub(headers) } else { self.payload_length };
        Some((without_ports(flow), self.part(self.ip_id.into(), start, length, !has_more)))
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
