//! Where packets may have been translated and nothing tells.
//!
//! A service's address is held by nobody. What a pod sends to such an address, is seen to enter its node and neither
//! leaves it nor is answered, may have got another address there and be lost behind it: connection tracking forgets a
//! connection whose first packet is dropped before it leaves the node. Which point was the next is not known, nor that it
//! was there that they ended: beyond the last point that saw them they are not observable.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use lastseen_packet::observation::SipKey;

use crate::evidence::flows::{Conversation, Flows};
use crate::fabric::domain::SHARED;
use crate::fabric::network::Network;
use crate::input::Job;

/// Finds the conversations of which this is true. With interfaces named, a path ends at the last of them.
pub(crate) fn find(job: &Job, network: &Network<'_>, flows: &Flows) -> HashSet<u32> {
    if network.is_unmapped() || !network.captures_pods {
        return HashSet::new();
    }
    let mut known: HashSet<Conversation, SipKey> = HashSet::with_hasher(SipKey(job.key.0));
    known.extend(&flows.conversations);
    let is_answered = |one: &Conversation| known.contains(&one.reversed());
    let staying = staying(network, flows).into_iter().filter(|conversation| {
        let one = &flows.conversations[*conversation as usize];
        is_nobodys(network, one) && flows.later_tuples(*conversation).is_empty() && !is_answered(one)
    });
    staying.collect()
}

/// Conversations that were seen on their way into a pod's node and nowhere else.
fn staying(network: &Network<'_>, flows: &Flows) -> Vec<u32> {
    let mut stays = BTreeMap::new();
    for flow in flows.all.iter().filter(|flow| flow.segments > 0) {
        let is_entering = network.stations[usize::from(flow.point)].role.is_leaving_pod();
        *stays.entry(flow.conversation).or_insert(true) &= is_entering;
    }
    stays.into_iter().filter_map(|(conversation, stays)| stays.then_some(conversation)).collect()
}

fn is_nobodys(network: &Network<'_>, conversation: &Conversation) -> bool {
    let Conversation { domain, tuple } = conversation;
    // What leaves a fabric of several tenants is nobody's on the underlay, and seen to leave by no point.
    if *domain != SHARED {
        return false;
    }
    let is_of_many = tuple.destination.is_multicast() || tuple.destination == IpAddr::from([255; 4]);
    !is_of_many && network.owners(tuple.destination, (tuple.source, tuple.destination), *domain).is_empty()
}
