//! A filter that follows translations: a packet passes if any of the tuples matches that its connection has on this
//! node.

use std::collections::HashMap;

use lastseen_packet::observation::{FlowKey, SipKey, protocol};
use lastseen_packet::{Decoded, tuple};

use super::{Tracker, Translation};
use crate::clock;
use crate::filter::{Filter, SHOWN_BYTES, plain};

/// How often what the kernel told is read while nothing asks for it.
const TICK_NANOS: i64 = 50_000_000;

/// One worker's view of the translations.
#[derive(Debug)]
pub struct Translated {
    tracker: Tracker,
    /// Translations that were taken from the tracker.
    known: usize,
    /// When it was last asked, on `CLOCK_REALTIME`: it knows the connection of every packet that was stamped before.
    asked_nanos: i64,
    aliases: HashMap<FlowKey, Vec<FlowKey>, SipKey>,
    scratch: Vec<u8>,
}

impl Translated {
    /// Nothing yet. Tuples are hashed with `key`.
    pub fn new(tracker: Tracker, key: [u8; 16]) -> Self {
        let aliases = HashMap::with_hasher(SipKey(key));
        Self { tracker, known: 0, asked_nanos: i64::MIN, aliases, scratch: Vec::with_capacity(SHOWN_BYTES) }
    }

    /// Keeps the kernel's queue short.
    pub fn tick(&mut self) {
        let now = clock::realtime_nanos();
        if now.saturating_sub(self.asked_nanos) >= TICK_NANOS || now < self.asked_nanos {
            self.ask(now);
        }
    }

    /// Whether a packet that `filter` does not match matches under another tuple of its connection.
    #[inline]
    pub fn matches(&mut self, filter: &Filter, decoded: &Decoded, frame: &[u8], time_nanos: i64) -> bool {
        if time_nanos >= self.asked_nanos {
            self.ask(clock::realtime_nanos());
        }
        let Self { aliases, scratch, .. } = self;
        let aliases = tuple(decoded).and_then(|tuple| aliases.get(&tuple));
        aliases.is_some_and(|aliases| {
            aliases.iter().any(|alias| {
                show(decoded, frame, alias, scratch).is_some_and(|()| filter.matches_packet(scratch))
            })
        })
    }

    fn ask(&mut self, now: i64) {
        self.asked_nanos = now;
        let new = self.tracker.since(self.known);
        self.known += new.len();
        for translation in &new {
            add(&mut self.aliases, translation);
        }
    }
}

/// Makes every tuple of a connection an alias of the others that go the same way. Destinations are translated before
/// sources, so there is one between.
fn add(aliases: &mut HashMap<FlowKey, Vec<FlowKey>, SipKey>, translation: &Translation) {
    let Translation { original, reply } = *translation;
    let Some(sent) = reply.reversed() else { return };
    let routed = FlowKey { source: original.source, source_port: original.source_port, ..sent };
    let there = [original, routed, sent];
    let back = there.map(|tuple| tuple.reversed());
    alias(aliases, &there);
    if let [Some(one), Some(two), Some(three)] = back {
        alias(aliases, &[one, two, three]);
    }
}

fn alias(aliases: &mut HashMap<FlowKey, Vec<FlowKey>, SipKey>, tuples: &[FlowKey; 3]) {
    for tuple in tuples {
        let known = aliases.entry(*tuple).or_default();
        for other in tuples {
            if other != tuple && !known.contains(other) {
                known.push(*other);
            }
        }
    }
}

/// Writes the innermost packet into `packet` as it is under another tuple. Checksums are left as they are: no filter
/// asks for them. Absent if the frame ends before the ports.
fn show(decoded: &Decoded, frame: &[u8], tuple: &FlowKey, packet: &mut Vec<u8>) -> Option<()> {
    let network = decoded.network.as_ref()?;
    let ip = frame.get(network.offset as usize..)?;
    let mut buffer = [0; SHOWN_BYTES];
    let (ip, header_length) = plain(network, ip, &mut buffer);
    packet.clear();
    packet.extend_from_slice(&ip[..ip.len().min(SHOWN_BYTES)]);
    match (tuple.source, tuple.destination) {
        (std::net::IpAddr::V4(source), std::net::IpAddr::V4(destination)) => {
            packet.get_mut(12..16)?.copy_from_slice(&source.octets());
            packet.get_mut(16..20)?.copy_from_slice(&destination.octets());
        }
        (std::net::IpAddr::V6(source), std::net::IpAddr::V6(destination)) => {
            packet.get_mut(8..24)?.copy_from_slice(&source.octets());
            packet.get_mut(24..40)?.copy_from_slice(&destination.octets());
        }
        _ => return None,
    }
    if matches!(network.protocol, protocol::TCP | protocol::UDP | protocol::SCTP) {
        let ports = packet.get_mut(header_length..)?.first_chunk_mut::<4>()?;
        let ([source, destination], [s, d]) =
            (ports.as_chunks_mut::<2>().0, [tuple.source_port, tuple.destination_port])
        else {
            return None;
        };
        (*source, *destination) = (s.to_be_bytes(), d.to_be_bytes());
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use lastseen_packet::{DecodeConfig, LinkType, decode};

    use super::*;

    fn tuple_of(source: [u8; 4], destination: [u8; 4], ports: (u16, u16)) -> FlowKey {
        FlowKey {
            source: source.into(),
            destination: destination.into(),
            protocol: protocol::UDP,
            source_port: ports.0,
            destination_port: ports.1,
            ..FlowKey::UNSPECIFIED
        }
    }

    fn packet(tuple: &FlowKey) -> Vec<u8> {
        let octets = |address| match address {
            std::net::IpAddr::V4(v4) => v4.octets(),
            std::net::IpAddr::V6(_) => unreachable!(),
        };
        let mut bytes = vec![0x45, 0, 0, 32, 0, 7, 0, 0, 64, 17, 0, 0];
        bytes.extend([octets(tuple.source), octets(tuple.destination)].concat());
        bytes.extend([tuple.source_port, tuple.destination_port, 12, 0].map(u16::to_be_bytes).concat());
        bytes.extend([1, 2, 3, 4]);
        bytes
    }

    /// Whether a packet passes under any of its other tuples.
    fn passes(aliases: &HashMap<FlowKey, Vec<FlowKey>, SipKey>, filter: &str, packet: &[u8]) -> bool {
        let filter = Filter::compile(filter).unwrap();
        let (mut decoded, mut scratch) = (Decoded::default(), Vec::new());
        decode(&DecodeConfig::default(), LinkType::Raw, packet, packet.len() as u32, &mut decoded).unwrap();
        let others = aliases.get(&tuple(&decoded).unwrap());
        others.into_iter().flatten().any(|alias| {
            show(&decoded, packet, alias, &mut scratch).is_some() && filter.matches_packet(&scratch)
        })
    }

    #[test]
    fn packets_pass_under_every_tuple_of_their_connection() {
        let (pod, vip, backend, node) = ([10, 1, 0, 2], [10, 96, 0, 1], [10, 2, 0, 2], [10, 1, 0, 0]);
        let original = tuple_of(pod, vip, (40_000, 53));
        let reply = tuple_of(backend, node, (5_353, 61_000));
        let mut aliases = HashMap::with_hasher(SipKey([0; 16]));
        add(&mut aliases, &Translation { original, reply });
        let sent = packet(&tuple_of(node, backend, (61_000, 5_353)));
        for (filter, expected) in [
            ("host 10.1.0.2", true),
            ("host 10.96.0.1 and udp port 53", true),
            ("src host 10.1.0.2 and dst host 10.2.0.2", true),
            ("dst host 10.1.0.2", false),
            ("host 10.9.9.9", false),
        ] {
            assert_eq!(passes(&aliases, filter, &sent), expected, "{filter}");
        }
        assert!(passes(&aliases, "dst host 10.1.0.2 and src port 53", &packet(&reply)), "the answer");
        let other = packet(&tuple_of(node, backend, (61_001, 5_353)));
        assert!(!passes(&aliases, "host 10.1.0.2", &other), "of another connection");
    }
}
