//! Where a filter hides what a translation made of packets.
//!
//! A filter that names addresses or ports matches packets before a translation and not after it, or the other way
//! round. Without the other tuple nothing proves the translation, and the packets seem to vanish on the node that did
//! it. Where one is likely, what vanishes altogether is not observable beyond the last point that saw it.

use std::collections::{HashMap, HashSet};

use lastseen_packet::observation::SipKey;

use crate::evidence::flows::{Conversation, Flows};
use crate::fabric::network::{Network, Role};
use crate::input::Job;

/// Words of a filter that are the same on both sides of a translation.
const INVARIANT: [&str; 18] = [
    "tcp", "udp", "icmp", "icmp6", "sctp", "ip", "ip6", "ah", "esp", "proto", "and", "or", "not", "&&", "||",
    "!", "(", ")",
];

/// Adds the conversations of which a filter may hide the rest.
pub(crate) fn add(job: &Job, network: &Network<'_>, flows: &mut Flows) {
    if !network.hides_translations {
        return;
    }
    let appearing = appearing(network, flows);
    let mut known = HashMap::with_hasher(SipKey(job.key.0));
    known.extend(flows.conversations.iter().zip(0..).map(|(one, at)| (*one, at)));
    let is_translated_back = |conversation: &Conversation| {
        let tuple = conversation.tuple.reversed()?;
        known.get(&Conversation { tuple, ..*conversation }).filter(|answer| appearing.contains(answer))
    };
    let doubtful: Vec<u32> = flows
        .conversations
        .iter()
        .zip(0..)
        .filter(|(one, at)| !flows.later_tuples(*at).is_empty() || is_translated_back(one).is_some())
        .map(|(_, at)| at)
        .collect();
    flows.doubtful.extend(doubtful);
}

/// True for a filter that asks for anything but protocols.
pub(crate) fn names_ends(filter: &str) -> bool {
    let spaced = filter.replace('(', " ( ").replace(')', " ) ").replace('!', " ! ");
    spaced.split_whitespace().any(|word| !INVARIANT.contains(&word))
}

/// Conversations that begin inside the source's node, at none of its pods: a translation made them.
fn appearing(network: &Network<'_>, flows: &Flows) -> HashSet<u32> {
    let (mut sending, mut sent) = (HashSet::new(), HashSet::new());
    for flow in flows.all.iter().filter(|flow| flow.segments > 0) {
        let station = network.stations[usize::from(flow.point)];
        match station.role {
            Role::InsideOut | Role::PodIn => drop(sent.insert(flow.conversation)),
            role if role.is_sending() && network.captures_pods => {
                sending.insert(flow.conversation);
            }
            _ => {}
        }
    }
    // A node's own packets come from no pod either.
    let is_hosts = |one: &u32| network.holder(flows.conversations[*one as usize].tuple.source).is_some();
    sending.retain(|one| !sent.contains(one) && !is_hosts(one));
    sending
}

#[cfg(test)]
mod tests {
    use super::names_ends;

    #[test]
    fn only_protocols_are_the_same_beyond_a_translation() {
        for filter in ["", "tcp", "udp or (icmp and not ip6)", "!tcp", "ip proto tcp"] {
            assert!(!names_ends(filter), "{filter}");
        }
        for filter in ["host 10.1.0.2", "tcp port 80", "10.1.0.2", "net 10.0.0.0/8", "src host a"] {
            assert!(names_ends(filter), "{filter}");
        }
    }
}
