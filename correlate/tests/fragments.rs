//! Carriers of a tunnel that come in fragments: a point saw a packet whose carrier it saw all of.
#![allow(missing_docs)]

use std::net::{IpAddr, Ipv6Addr};

use crate::lab::*;
use lastseen_correlate::report::Verdict;
use lastseen_packet::observation::{FlowKey, Observation, marks};

/// Places of `a eth0 out` and `b eth0 in` on the path.
const SENDER: usize = 3;
const RECEIVER: usize = 4;

/// How carriers are cut: bytes of the first fragment, of the datagram, and whether over IPv6.
#[derive(Clone, Copy)]
struct Cut {
    first: u32,
    whole: u32,
    is_v6: bool,
}

const CUT: Cut = Cut { first: 1376, whole: 1450, is_v6: false };

impl Cut {
    fn carrier(flow: FlowKey) -> FlowKey {
        let overlay = flow.overlay.expect("a tunnel");
        let (source, destination) = (overlay.source, overlay.destination);
        FlowKey { overlay: None, source, destination, source_port: 0, destination_port: 0, protocol: 17 }
    }

    fn flow(self, packet: &Packet) -> FlowKey {
        let mut flow = packet.flow((0, 1), true);
        if let (Some(overlay), true) = (&mut flow.overlay, self.is_v6) {
            (overlay.source, overlay.destination) = (underlay_v6(0), underlay_v6(1));
        }
        flow
    }

    /// What is the same on every fragment.
    fn base(self, packet: &Packet, id: u32) -> Observation {
        let outer = if self.is_v6 { 0 } else { marks::OUTER_IPV4 };
        let mut row = packet.row;
        row.marks |= outer;
        (row.outer_ip_id, row.outer_ip_id_high) = (id as u16, (id >> 16) as u16);
        row
    }

    fn first(self, lab: &mut Lab, packet: &Packet, id: u32, at: usize, time: i64) {
        let row = Observation { outer_fragment_length: self.first as u16, ..self.base(packet, id) };
        lab.see(Lab::path(0, 1)[at], self.flow(packet), row, time);
    }

    /// The bytes `start..end` of the carrier.
    fn later(self, lab: &mut Lab, packet: &Packet, id: u32, at: usize, (start, end): (u32, u32), time: i64) {
        let more = if end < self.whole { marks::MORE_FRAGMENTS } else { 0 };
        let version = if self.is_v6 { 0 } else { marks::IPV4 | marks::OUTER_IPV4 };
        let row = Observation {
            ip_id: id as u16,
            outer_ip_id: id as u16,
            outer_ip_id_high: if self.is_v6 { (id >> 16) as u16 } else { 0 },
            fragment_offset: start as u16,
            payload_length: end - start,
            ip_length: end - start + 20,
            marks: marks::OUTER_FRAGMENT | more | version,
            ..Observation::default()
        };
        lab.see(Lab::path(0, 1)[at], Self::carrier(self.flow(packet)), row, time);
    }

    fn rest(self, lab: &mut Lab, packet: &Packet, id: u32, at: usize, time: i64) {
        self.later(lab, packet, id, at, (self.first, self.whole), time);
    }
}

fn underlay_v6(node: usize) -> IpAddr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, node as u16 + 1).into()
}

/// The packet at all points but the underlay's.
fn bare(lab: &mut Lab, packet: &Packet, time: i64, arrives: bool) {
    lab.send((0, 1), packet, time, if arrives { 0b1110_0111 } else { 0b111 });
}

#[test]
fn a_later_fragment_that_the_underlay_lost_is_lost_between_the_nodes() {
    let mut lab = Lab::new(2);
    for id in 0..100 {
        let (packet, time, arrives) = (Packet::udp(id, 1372), time_of(id), id % 7 != 3);
        bare(&mut lab, &packet, time, arrives);
        CUT.first(&mut lab, &packet, id, SENDER, time + 30 * MICRO);
        CUT.rest(&mut lab, &packet, id, SENDER, time + 31 * MICRO);
        CUT.first(&mut lab, &packet, id, RECEIVER, time + 230 * MICRO);
        if arrives {
            CUT.rest(&mut lab, &packet, id, RECEIVER, time + 231 * MICRO);
        }
    }
    let outcome = lab.run();
    assert_sums(&outcome);
    assert_eq!(leg(&outcome), ("a eth0 → b eth0".to_owned(), 14));
    assert_eq!(outcome.report.totals.delivered, 86);
    let note = "b eth0 in: 14 packets did not come with all of their fragments and count as not seen";
    assert!(outcome.report.notes.iter().any(|line| line == note), "{:?}", outcome.report.notes);
}

#[test]
fn a_fragment_that_never_left_the_sender_is_lost_before_its_nic() {
    let mut lab = Lab::new(2);
    for id in 0..50 {
        let (packet, time, leaves) = (Packet::udp(id, 1372), time_of(id), id % 5 != 0);
        bare(&mut lab, &packet, time, leaves);
        for at in [SENDER, RECEIVER] {
            CUT.first(&mut lab, &packet, id, at, time + 100 * at as i64 * MICRO);
            if leaves {
                CUT.rest(&mut lab, &packet, id, at, time + 100 * at as i64 * MICRO);
            }
        }
    }
    assert_eq!(leg(&lab.run()), ("a flannel.1 → a eth0".to_owned(), 10));
}

#[test]
fn what_is_lost_behind_the_reassembly_is_not_blamed_on_the_underlay() {
    let mut lab = Lab::new(2);
    for id in 0..50 {
        let (packet, time) = (Packet::udp(id, 1372), time_of(id));
        bare(&mut lab, &packet, time, id % 5 != 0);
        for at in [SENDER, RECEIVER] {
            CUT.first(&mut lab, &packet, id, at, time + 100 * at as i64 * MICRO);
            CUT.rest(&mut lab, &packet, id, at, time + 100 * at as i64 * MICRO);
        }
    }
    assert_eq!(leg(&lab.run()), ("b eth0 → b flannel.1".to_owned(), 10));
}

#[test]
fn a_router_may_cut_what_the_sender_sent_whole_and_cut_it_again() {
    let mut lab = Lab::new(2);
    for id in 0..60 {
        let (packet, time, arrives) = (Packet::udp(id, 1372), time_of(id), id % 6 != 0);
        bare(&mut lab, &packet, time, arrives);
        let row = CUT.base(&packet, id);
        lab.see(Lab::path(0, 1)[SENDER], CUT.flow(&packet), row, time + 30 * MICRO);
        let cut = Cut { first: 800, ..CUT };
        cut.first(&mut lab, &packet, id, RECEIVER, time + 230 * MICRO);
        // Each time another one of three is missing.
        for (index, bytes) in [(800, 1000), (1000, 1200), (1200, 1450)].into_iter().enumerate() {
            if arrives || id as usize / 6 % 3 != index {
                cut.later(&mut lab, &packet, id, RECEIVER, bytes, time + 231 * MICRO);
            }
        }
    }
    let outcome = lab.run();
    assert_eq!(leg(&outcome), ("a eth0 → b eth0".to_owned(), 10));
    assert_eq!(outcome.report.totals.delivered, 50);
}

#[test]
fn a_late_fragment_delays_its_packet_and_loses_nothing() {
    let mut lab = Lab::new(2);
    for id in 0..50 {
        let (packet, time) = (Packet::udp(id, 1372), time_of(10 * id));
        lab.send((0, 1), &packet, time, 0b111);
        lab.send((0, 1), &packet, time + 800 * MILLI, 0b1110_0000);
        CUT.first(&mut lab, &packet, id, SENDER, time + 30 * MICRO);
        CUT.rest(&mut lab, &packet, id, SENDER, time + 31 * MICRO);
        CUT.first(&mut lab, &packet, id, RECEIVER, time + 230 * MICRO);
        CUT.rest(&mut lab, &packet, id, RECEIVER, time + 800 * MILLI);
    }
    let outcome = lab.run();
    assert_eq!((outcome.report.totals.delivered, outcome.report.verdict), (50, Verdict::Delivered));
    let delays: Vec<_> =
        outcome.report.paths[0].hops.iter().map(|hop| hop.delay_p50_nanos.unwrap_or(0)).collect();
    assert!(delays[RECEIVER] > 700 * MILLI && delays[RECEIVER + 1] < MILLI, "{delays:?}");
}

#[test]
fn identifications_that_wrap_do_not_lend_each_other_fragments() {
    let mut lab = Lab::new(2);
    // Every identification twice, half a second apart, with one of the two incomplete.
    for index in 0..200 {
        let (packet, id, time) = (Packet::udp(index, 1372), index % 100, time_of(index * 5));
        let arrives = (index + index / 100) % 2 == 0;
        bare(&mut lab, &packet, time, arrives);
        for at in [SENDER, RECEIVER] {
            CUT.first(&mut lab, &packet, id, at, time + 100 * at as i64 * MICRO);
            if arrives || at == SENDER {
                CUT.rest(&mut lab, &packet, id, at, time + 100 * at as i64 * MICRO + MICRO);
            }
        }
    }
    let outcome = lab.run();
    assert_eq!(leg(&outcome), ("a eth0 → b eth0".to_owned(), 100));
    let lost: Vec<_> = outcome.lost.iter().filter_map(|packet| packet.ip_id).collect();
    let expected: Vec<_> = (0..200_u16).filter(|index| (index + index / 100) % 2 != 0).collect();
    assert_eq!(lost, expected);
}

#[test]
fn over_ipv6_the_whole_identification_counts() {
    let mut lab = Lab::new(2);
    let cut = Cut { is_v6: true, ..CUT };
    for index in 0..40 {
        // The low halves are all alike, and packets overlap in time.
        let (packet, id, time) =
            (Packet::udp(index, 1372), index << 16 | 9, T0 + i64::from(index) * 10 * MICRO);
        let arrives = index % 4 != 0;
        bare(&mut lab, &packet, time, arrives);
        for at in [SENDER, RECEIVER] {
            cut.first(&mut lab, &packet, id, at, time + 100 * at as i64 * MICRO);
            if arrives || at == SENDER {
                cut.rest(&mut lab, &packet, id, at, time + 100 * at as i64 * MICRO + 15 * MICRO);
            }
        }
    }
    let outcome = lab.run();
    assert_eq!(leg(&outcome), ("a eth0 → b eth0".to_owned(), 10));
    let lost: Vec<_> = outcome.lost.iter().filter_map(|packet| packet.ip_id).collect();
    assert_eq!(lost, (0..10).map(|at| at * 4).collect::<Vec<_>>());
}

#[test]
fn fragments_that_the_network_doubled_are_two_whole_packets() {
    let mut lab = Lab::new(2);
    for id in 0..30 {
        let (packet, time) = (Packet::udp(id, 1372), time_of(id));
        bare(&mut lab, &packet, time, true);
        CUT.first(&mut lab, &packet, id, SENDER, time + 30 * MICRO);
        CUT.rest(&mut lab, &packet, id, SENDER, time + 31 * MICRO);
        for copy in 0..2 {
            CUT.first(&mut lab, &packet, id, RECEIVER, time + (230 + copy) * MICRO);
            CUT.rest(&mut lab, &packet, id, RECEIVER, time + (232 + copy) * MICRO);
        }
    }
    let totals = lab.run().report.totals;
    assert_eq!((totals.segments, totals.delivered, totals.duplicated, totals.lost), (30, 30, 30, 0));
}

/// `tcpdump udp port 8472` leaves every fragment out but the first.
#[test]
fn a_file_without_any_later_fragment_says_nothing_of_them() {
    let mut lab = Lab::new(2);
    lab.job.points.iter_mut().for_each(|point| point.gso_known = false);
    for id in 0..50 {
        let (packet, time, arrives) = (Packet::udp(id, 1372), time_of(id), id % 10 != 0);
        bare(&mut lab, &packet, time, arrives);
        CUT.first(&mut lab, &packet, id, SENDER, time + 30 * MICRO);
        CUT.rest(&mut lab, &packet, id, SENDER, time + 31 * MICRO);
        CUT.first(&mut lab, &packet, id, RECEIVER, time + 230 * MICRO);
    }
    assert_eq!(leg(&lab.run()), ("b eth0 → b flannel.1".to_owned(), 5));
}

#[test]
fn a_fragment_inside_a_carrier_in_fragments_needs_both_whole() {
    let mut lab = Lab::new(2);
    for id in 0..40 {
        let (time, arrives) = (time_of(id), id % 8 != 0);
        let mut first = Packet::udp(id, 1392);
        first.row.marks |= marks::MORE_FRAGMENTS;
        let mut rest = first;
        rest.ports = (0, 0);
        (rest.row.fragment_offset, rest.row.payload_length, rest.row.marks) = (1400, 1300, marks::IPV4);
        for (packet, outer, arrives) in [(first, 2 * id, true), (rest, 2 * id + 1, arrives)] {
            bare(&mut lab, &packet, time, arrives);
            for at in [SENDER, RECEIVER] {
                CUT.first(&mut lab, &packet, outer, at, time + 100 * at as i64 * MICRO);
                if arrives || at == SENDER {
                    CUT.rest(&mut lab, &packet, outer, at, time + 100 * at as i64 * MICRO);
                }
            }
        }
    }
    let outcome = lab.run();
    assert_eq!(leg(&outcome), ("a eth0 → b eth0".to_owned(), 5));
    assert_eq!(outcome.report.totals.delivered, 35);
}
