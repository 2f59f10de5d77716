//! The datagrams of a UDP super-packet, which are told apart by payload and so taken apart where it was captured.

use crate::decoded::{Decoded, Opaque, Transport};
use crate::identity::{IdentityKey, datagram_hash, opaque_hash};
use crate::observation::{FlowKey, Observation, Overlay, OverlayKind, marks};
use crate::observe::set_hash;
use crate::segment::MAX_SEGMENTS;
use crate::tunnel::{WIREGUARD_HEADER, wireguard_index};

/// The UDP payload of a super-packet.
pub(crate) struct Datagrams<'a> {
    captured: &'a [u8],
    /// On the wire, in bytes.
    length: usize,
    /// Of each datagram but the last, in bytes.
    size: usize,
    is_wireguard: bool,
}

impl<'a> Datagrams<'a> {
    /// None for what `UDP_SEGMENT` cannot have made: other protocols, fragments, one datagram, or more than a
    /// super-packet holds.
    pub(crate) fn of(decoded: &Decoded, frame: &'a [u8], gso_size: u16) -> Option<Self> {
        // The index and counter are headers to the decoder and payload to segmentation.
        let hidden = match decoded.transport {
            Transport::Udp(_) => 0,
            Transport::Opaque(Opaque { kind: OverlayKind::WireGuard, .. }) => WIREGUARD_HEADER,
            _ => return None,
        };
        let payload = decoded.payload;
        let (length, size) = (payload.length as usize + hidden, usize::from(gso_size));
        let is_super = size > hidden && (2..=MAX_SEGMENTS as usize).contains(&length.div_ceil(size));
        if !is_super || decoded.network.is_none_or(|network| network.is_fragment()) {
            return None;
        }
        let start = payload.offset as usize - hidden;
        let captured = frame.get(start..start + hidden + payload.captured as usize)?;
        Some(Self { captured, length, size, is_wireguard: hidden != 0 })
    }

    /// What `__udp_gso_segment` of `net/ipv4/udp_offload.c` makes of it. `inet_gso_segment` of `net/ipv4/af_inet.c`
    /// gives each datagram the next identification, in the carrier's header as well.
    pub(crate) fn each(
        &self,
        flow: &FlowKey,
        whole: &Observation,
        key: &IdentityKey,
        emit: &mut impl FnMut(&FlowKey, Observation),
    ) {
        let headers = whole.ip_length.saturating_sub(self.length as u32);
        for (index, start) in (0..self.length).step_by(self.size).enumerate() {
            let length = self.size.min(self.length - start);
            let end = self.captured.len().min(start + length);
            let captured = self.captured.get(start..end).unwrap_or_default();
            let mut row = Observation { ip_length: headers + length as u32, ..*whole };
            if row.marks & marks::IPV4 != 0 {
                row.ip_id = whole.ip_id.wrapping_add(index as u16);
            }
            if row.marks & marks::OUTER_IPV4 != 0 {
                row.outer_ip_id = whole.outer_ip_id.wrapping_add(index as u16);
            }
            let mut flow = *flow;
            self.put_payload(&mut flow, &mut row, key, captured, length);
            emit(&flow, row);
        }
    }

    /// What depends on the bytes of one datagram, of which `length` were on the wire.
    fn put_payload(
        &self,
        flow: &mut FlowKey,
        row: &mut Observation,
        key: &IdentityKey,
        captured: &[u8],
        length: usize,
    ) {
        if !self.is_wireguard {
            row.payload_length = length as u32;
            set_hash(row, datagram_hash(key, captured, length));
            return;
        }
        let header = captured.first_chunk().and_then(wireguard_index);
        let (index, sequence) = header.unwrap_or((flow.overlay.map_or(0, |overlay| overlay.id), 0));
        let ciphertext = captured.get(WIREGUARD_HEADER..).unwrap_or_default();
        let length = length.saturating_sub(WIREGUARD_HEADER);
        flow.overlay = flow.overlay.map(|overlay| Overlay { id: index, ..overlay });
        row.payload_length = length as u32;
        row.tcp_seq = sequence as u32;
        let mut hash = opaque_hash(key, index, sequence, ciphertext, length);
        hash.truncated |= header.is_none();
        set_hash(row, hash);
    }
}
