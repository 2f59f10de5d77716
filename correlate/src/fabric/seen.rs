//! What was seen of the packets between two addresses, and of each tuple of those that were translated.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lastseen_packet::observation::FlowKey;

use crate::evidence::flows::{Conversation, Flow, Flows, bare};
use crate::fabric::domain::{Domain, is_opaque};
use crate::path::Seen;

/// Domain and addresses of a conversation without translation.
pub(crate) type Ends = (Domain, IpAddr, IpAddr);
/// The tuples of a conversation, in order.
pub(crate) type Tuples = Vec<(FlowKey, Seen)>;

pub(crate) fn ends_of(conversation: &Conversation) -> Ends {
    (conversation.domain, conversation.tuple.source, conversation.tuple.destination)
}

/// What was seen of the packets between two addresses, those that were translated left out.
pub(crate) fn seen_by_ends(flows: &Flows) -> BTreeMap<Ends, Seen> {
    let mut by_ends: BTreeMap<Ends, Seen> = BTreeMap::new();
    for flow in flows.all.iter().filter(|flow| flows.later_tuples(flow.conversation).is_empty()) {
        let conversation = &flows.conversations[flow.conversation as usize];
        add(by_ends.entry(ends_of(conversation)).or_default(), flow);
    }
    by_ends.values_mut().for_each(settle);
    by_ends
}

/// What was seen of each conversation between the ends that `divides` names, those that were translated left out.
pub(crate) fn seen_by_conversation(flows: &Flows, divides: impl Fn(&Ends) -> bool) -> BTreeMap<u32, Seen> {
    let mut by_conversation: BTreeMap<u32, Seen> = BTreeMap::new();
    for flow in flows.all.iter().filter(|flow| flows.later_tuples(flow.conversation).is_empty()) {
        if divides(&ends_of(&flows.conversations[flow.conversation as usize])) {
            add(by_conversation.entry(flow.conversation).or_default(), flow);
        }
    }
    by_conversation.values_mut().for_each(settle);
    by_conversation
}

/// Every translated conversation with its domain and what was seen of each of its tuples.
pub(crate) fn seen_by_tuple(flows: &Flows) -> Vec<(u32, Domain, Tuples)> {
    let unseen = |chain: Vec<FlowKey>| chain.into_iter().map(|tuple| (tuple, Seen::default())).collect();
    let mut all: BTreeMap<u32, Tuples> =
        flows.translated().map(|(conversation, chain)| (conversation, unseen(chain))).collect();
    if all.is_empty() {
        return Vec::new();
    }
    for flow in &flows.all {
        let tuple = bare(&flow.key);
        let tuples = all.get_mut(&flow.conversation);
        if let Some((_, seen)) = tuples.and_then(|all| all.iter_mut().find(|(known, _)| *known == tuple)) {
            add(seen, flow);
        }
    }
    let settled = |(conversation, mut tuples): (u32, Tuples)| {
        for (_, seen) in &mut tuples {
            settle(seen);
        }
        (conversation, flows.conversations[conversation as usize].domain, tuples)
    };
    all.into_iter().map(settled).collect()
}

fn add(seen: &mut Seen, flow: &Flow) {
    if flow.segments > 0 {
        seen.points.push(usize::from(flow.point));
        seen.carriers.extend(flow.key.overlay.filter(|overlay| !is_opaque(overlay.kind)));
    }
}

fn settle(seen: &mut Seen) {
    seen.points.sort_unstable();
    seen.points.dedup();
}
