//! Where a filter hides what a translation made of packets.
//!
//! A filter that names addresses or ports matches packets before a translation and not after it, or the other way
//! round. Without the other tuple nothing proves the translation, and the packets seem to vanish on the node that did
//! it. Where one is likely, what vanishes altogether is not observable beyond the last point that saw it.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use lastseen_packet::observation::{FlowKey, SipKey};

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
    let Some(veil) = Veil::of(&job.filter) else { return };
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
        .filter(|(one, at)| match flows.later_tuples(*at) {
            [] => is_translated_back(one).is_some(),
            later => {
                // What goes to a service may be masqueraded once its destination is another.
                let is_to_service = network.holder(one.tuple.destination).is_none();
                later.iter().any(|tuple| veil.hides(tuple, is_to_service))
            }
        })
        .map(|(_, at)| at)
        .collect();
    flows.doubtful.extend(doubtful);
}

/// A filter that may hide packets once they are translated.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Veil {
    /// A packet with any of these at any of its ends passes. Empty: nobody knows what passes.
    ends: Vec<End>,
}

/// What a term of a filter asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Host(IpAddr),
    Port(u16),
}

impl Veil {
    /// None: the filter asks for protocols only.
    fn of(filter: &str) -> Option<Self> {
        names_ends(filter).then(|| Self { ends: ends(filter).unwrap_or_default() })
    }

    /// Whether a packet of a protocol that the filter asks for may not pass under this tuple, or under one with another
    /// source address if that `may_change`.
    fn hides(&self, tuple: &FlowKey, may_change: bool) -> bool {
        let has = |end: &End| match end {
            End::Host(address) => tuple.destination == *address || tuple.source == *address && !may_change,
            End::Port(port) => [tuple.source_port, tuple.destination_port].contains(port),
        };
        !self.ends.iter().any(has)
    }
}

/// The ends that a filter of the plainest kind asks for: `host 10.1.0.2`, `udp and (port 53 or port 5353)`.
fn ends(filter: &str) -> Option<Vec<End>> {
    let terms = match filter.split_once(" and ") {
        Some((protocol, terms)) if !names_ends(protocol) => terms,
        _ => filter,
    };
    let terms = terms.trim();
    let terms = terms.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')).unwrap_or(terms);
    let end = |term: &str| match term.split_whitespace().collect::<Vec<_>>()[..] {
        ["host", address] => address.parse().ok().map(End::Host),
        ["port", port] => port.parse().ok().map(End::Port),
        _ => None,
    };
    terms.split(" or ").map(end).collect()
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
    use super::*;

    #[test]
    fn a_plain_filter_hides_only_tuples_that_have_none_of_its_ends() {
        let tuple = |source_port, destination_port| FlowKey {
            source: [10, 1, 0, 2].into(),
            destination: [10, 2, 0, 2].into(),
            source_port,
            destination_port,
            ..FlowKey::UNSPECIFIED
        };
        for (filter, passing) in [
            ("port 53", true),
            ("udp and port 53", true),
            ("udp and (port 5353 or port 53)", true),
            ("host 10.2.0.2 or port 1", true),
            ("icmp and host 10.1.0.2", true),
            ("tcp and port 54", false),
            ("host 10.3.0.2", false),
            ("dst port 53", false),
            ("not port 1", false),
            ("host 10.1.0.2 and port 53", false),
            ("(port 53) or (port 54)", false),
        ] {
            let veil = Veil::of(filter).unwrap();
            assert_eq!(!veil.hides(&tuple(40_000, 53), false), passing, "{filter}");
            assert_eq!(!veil.hides(&tuple(53, 40_000), false), passing, "{filter}");
        }
        for (filter, passing) in [("host 10.2.0.2", true), ("host 10.1.0.2", false), ("port 53", true)] {
            let veil = Veil::of(filter).unwrap();
            assert_eq!(!veil.hides(&tuple(40_000, 53), true), passing, "{filter}, masqueraded");
        }
        assert_eq!(Veil::of("udp"), None);
    }

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
