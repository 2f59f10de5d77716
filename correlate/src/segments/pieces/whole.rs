//! The name of datagrams over IPv6 that came in fragments.
//!
//! Over IPv6 only fragments have an identification, and whoever put a datagram together and cuts it again draws another
//! one (`br_ip6_fragment` and `ip6_fragment` of the kernel behind connection tracking). So a datagram of which all
//! fragments came goes by the name that it has as one packet.

use lastseen_packet::observation::{FlowKey, Observation, marks, protocol};
use lastseen_packet::{HASHED_BYTES, IdentityKey, k0};

use super::piece::Piece;
use crate::evidence::sighting::Sighting;

impl Piece {
    /// A first fragment over IPv6 whose datagram came up to byte `end`, and of which the next one begins at `next`: from
    /// now on the whole packet. Not where it shows less than what names the whole, as that of TCP does.
    pub(super) fn complete(&mut self, protocol: u8, next: u32, end: u32) {
        let shows_name = protocol != protocol::TCP && self.payload_length as usize >= HASHED_BYTES;
        if self.marks & marks::IPV4 == 0 && shows_name {
            self.payload_length = end.saturating_sub(next.saturating_sub(self.payload_length));
            self.marks &= !marks::MORE_FRAGMENTS;
        }
    }

    /// Names the sighting of a first fragment that [became](Self::complete) the whole packet.
    pub(super) fn name(&self, flow: &FlowKey, key: IdentityKey, sighting: &mut Sighting) {
        if sighting.is_datagram() && self.marks & marks::MORE_FRAGMENTS == 0 {
            let (payload_length, transport_hash) = (self.payload_length, self.transport_hash);
            let whole = Observation { payload_length, transport_hash, ..Observation::default() };
            sighting.become_whole(k0(&key, flow, &whole), payload_length);
        }
    }
}
