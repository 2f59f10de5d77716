//! Datagrams that some hop saw in fragments and another saw whole.
//!
//! With connection tracking a bridge shows one whole packet between hops that show its fragments, so both must have
//! one identity: that of the datagram. It applies to the packets between two addresses whose identification some hop
//! saw on a fragment, and to nothing else.

use std::collections::HashSet;
use std::net::IpAddr;

use lastseen_packet::observation::SipKey;
use lastseen_packet::{IdentityKey, datagram_key};

use crate::evidence::flows::Flows;
use crate::evidence::sighting::Sighting;
use crate::fabric::domain::Domain;

/// What names a datagram: domain, addresses, protocol, identification.
type Datagram = (Domain, IpAddr, IpAddr, u8, u16);

/// Datagrams that were seen in fragments.
#[derive(Debug)]
pub(crate) struct Fragmented {
    datagrams: HashSet<Datagram, SipKey>,
    key: IdentityKey,
}

impl Fragmented {
    /// From the flow and identification of every fragment. Identifications of IPv6 are on fragments only, so they tell
    /// nothing about whole packets.
    pub(crate) fn new(fragments: &HashSet<(u32, u16), SipKey>, flows: &Flows, key: IdentityKey) -> Self {
        let mut datagrams = HashSet::with_hasher(SipKey(key.0));
        let named = fragments.iter().map(|&(flow, ip_id)| datagram(flows, flow, ip_id));
        datagrams.extend(named.filter(|(_, source, ..)| source.is_ipv4()));
        Self { datagrams, key }
    }

    /// Gives the whole packets among `sightings`, which name their flow, the identity of their datagram.
    pub(crate) fn unify(&self, flows: &Flows, sightings: &mut [Sighting]) {
        if self.datagrams.is_empty() {
            return;
        }
        for sighting in sightings.iter_mut().filter(|sighting| !sighting.is_datagram()) {
            let datagram = datagram(flows, sighting.owner, sighting.ip_id);
            if self.datagrams.contains(&datagram) {
                sighting.become_datagram(datagram_key(&self.key, datagram.3, sighting.ip_id));
            }
        }
    }
}

fn datagram(flows: &Flows, flow: u32, ip_id: u16) -> Datagram {
    let conversation = &flows.conversations[flows.all[flow as usize].conversation as usize];
    let tuple = &conversation.tuple;
    (conversation.domain, tuple.source, tuple.destination, tuple.protocol, ip_id)
}
