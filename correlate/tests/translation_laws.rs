//! Addresses that are replaced on the way: what holds for all packets.
#![allow(missing_docs)]

use std::net::IpAddr;

use crate::lab::*;
use crate::service::*;
use lastseen_correlate::report::PathReport;
use lastseen_packet::observation::{FlowKey, protocol};
use proptest::collection::vec;
use proptest::prelude::*;

/// A flow that has nothing to do with any other, but may look like it.
#[derive(Clone, Debug)]
struct Stranger {
    ends: (usize, usize),
    protocol: u8,
    ports: (u16, u16),
    first: u16,
    count: u16,
    payload: u32,
    has_id: bool,
    mask: u32,
}

fn stranger() -> impl Strategy<Value = Stranger> {
    let tuple = (
        (0..4_usize, 0..4_usize),
        prop_oneof![Just(protocol::TCP), Just(protocol::UDP), Just(protocol::ICMP)],
        (prop_oneof![Just(40_000_u16), Just(40_001), Just(5353)], prop_oneof![Just(53_u16), Just(40_000)]),
    );
    let packets = (0..3_000_u16, 1..60_u16, prop_oneof![Just(0_u32), Just(64)], any::<bool>());
    // Any part of the way, so that some begin where others end.
    let part = (0..HOPS, 1..=HOPS).prop_map(|(from, length)| (up_to(length) << from) & ALL);
    (tuple, packets, part).prop_map(|((ends, protocol, ports), (first, count, payload, has_id), mask)| {
        Stranger { ends, protocol, ports, first, count, payload, has_id, mask }
    })
}

/// Pods, a service and a node.
fn host(index: usize) -> IpAddr {
    [pod(0), pod(1), address(SERVICE), underlay(0)][index]
}

impl Stranger {
    /// Sends at the same pace as all strangers, with the same payload; only its counters are its own.
    fn send(&self, lab: &mut Lab, index: u16) {
        let first = index * 4_000 + self.first + 1;
        for number in 0..self.count {
            let mut packet = match self.protocol {
                protocol::TCP => {
                    let seq = (u32::from(first) << 16).wrapping_add(u32::from(number) * self.payload);
                    Packet::tcp(first + number, seq, self.payload)
                }
                _ => {
                    Packet { protocol: self.protocol, ..Packet::udp(u32::from(first + number), self.payload) }
                }
            };
            packet.row.transport_hash = 5;
            packet.row.ip_id = if self.has_id { packet.row.ip_id } else { 0 };
            let (source, destination) = (host(self.ends.0), host(self.ends.1));
            let (source_port, destination_port) = self.ports;
            let tuples = move |_: usize, flow: FlowKey| FlowKey {
                source,
                destination,
                source_port,
                destination_port,
                ..flow
            };
            send(lab, (0, 1), &packet, T0 + i64::from(number) * MILLI, self.mask, &tuples);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn strangers_are_never_joined(strangers in vec(stranger(), 2..12)) {
        let mut lab = Lab::new(2);
        for (index, one) in strangers.iter().enumerate() {
            one.send(&mut lab, index as u16);
        }
        let outcome = lab.run();
        assert_sums(&outcome);
        for path in &outcome.report.paths {
            prop_assert_eq!(&path.translations, &vec![]);
        }
    }

    #[test]
    fn a_translation_changes_nothing_but_names(
        masks in vec(1..256_u32, 0..80),
        at in 1..HOPS,
        is_back in any::<bool>(),
    ) {
        let lab_of = |tuples: Tuples<'_>| {
            let mut lab = Lab::new(2);
            let whole = std::iter::repeat_n(ALL, 90);
            for (id, mask) in (1..).zip(masks.iter().copied().chain(whole)) {
                send(&mut lab, (0, 1), &datagram(id), T0 + i64::from(id) * MILLI, mask, tuples);
            }
            lab.run()
        };
        let translated = if is_back { lab_of(&from_service(at)) } else { lab_of(&to_service(at)) };
        let plain = lab_of(&|_, flow| flow);
        let (translated, plain) = (only(&translated), only(&plain));
        prop_assert_eq!(translated.totals, plain.totals);
        prop_assert_eq!(&translated.hops, &plain.hops);
        prop_assert_eq!(translated.translations.len(), 1);
        let losses = |path: &PathReport| {
            path.losses.iter().map(|loss| (loss.from.clone(), loss.to.clone(), loss.count)).collect::<Vec<_>>()
        };
        prop_assert_eq!(losses(translated), losses(plain));
    }
}
