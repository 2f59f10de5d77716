//! How far into the payload an expression looks, and which packets cannot answer it.
//!
//! The same datagram may come whole at one point, cut by the snap length at the next, and as one of many in a
//! super-packet at a third. Where the bytes asked for are not those of the one datagram, there is no answer: taking
//! the first datagram's for all would show as a loss.

use lastseen_packet::observation::{gso, protocol};
use lastseen_packet::{Decoded, Gso};

use super::accessors::Accessor;

/// Headers of UDP and of ICMP, in bytes.
const HEADER: u32 = 8;
/// Without offload fields, a datagram longer than what an ordinary link takes may be a super-packet.
const ORDINARY_MTU: u32 = 1500;

/// Bytes from the start of the transport header that must be there, 0 if only the header is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reach {
    udp: u32,
    icmp: u32,
}

impl Reach {
    /// What all `accessors` need together.
    pub(super) fn of(accessors: &[Accessor<'_>]) -> Self {
        let mut reach = Self::default();
        for Accessor { protocol, bytes, .. } in accessors {
            let Some(end) = bytes.map(|(first, size)| first.saturating_add(size)).filter(|end| *end > HEADER)
            else {
                continue;
            };
            match *protocol {
                "udp" => reach.udp = reach.udp.max(end),
                "icmp" | "icmp6" => reach.icmp = reach.icmp.max(end),
                _ => {}
            }
        }
        reach
    }

    /// Whether the innermost packet of a frame lacks what is asked for.
    #[inline]
    pub(super) fn exceeds(self, decoded: &Decoded, offload: Gso) -> bool {
        if self == Self::default() {
            return false;
        }
        let Some(network) = &decoded.network else { return false };
        let start = network.offset + u32::from(network.header_length);
        let captured = (decoded.payload.offset + decoded.payload.captured).saturating_sub(start);
        let is_partial = decoded.payload.captured < decoded.payload.length || network.more_fragments;
        let is_short = |need: u32| need > captured && is_partial;
        match network.protocol {
            protocol::UDP if self.udp > 0 => {
                is_short(self.udp) || may_hold_several(offload, network.total_length, decoded.payload.length)
            }
            protocol::ICMP | protocol::ICMPV6 => is_short(self.icmp),
            _ => false,
        }
    }
}

fn may_hold_several(offload: Gso, total_length: u32, payload_length: u32) -> bool {
    match offload.kind {
        gso::UNKNOWN => total_length > ORDINARY_MTU,
        // The upper bits say ECN and tunnel.
        kind => kind & 0x1f == gso::UDP_L4 && payload_length > u32::from(offload.size),
    }
}
