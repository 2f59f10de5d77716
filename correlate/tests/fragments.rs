//! Packets in fragments, of their own or of the tunnel's carrier: a point saw one that it saw all of.
#![allow(missing_docs)]

mod lab;

use std::net::{IpAddr, Ipv6Addr};

use lab::*;
use lastseen_correlate::Correlator;
use lastseen_correlate::report::Verdict;
use lastseen_correlate::topology::{Neighbor, Prefix, Route};
use lastseen_packet::observation::{ColumnsBuilder, FlowKey, Observation, marks};
use lastseen_packet::{Sampler, Threshold};

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

fn time_of(index: u32) -> i64 {
    T0 + i64::from(index) * MILLI
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
fn a_later_fragment_of_the_packet_itself_is_lost_where_it_was_last_seen() {
    let mut lab = Lab::new(2);
    for id in 0..50 {
        let (time, arrives) = (time_of(id), id % 10 != 0);
        let mut first = Packet::udp(id, 1392);
        first.row.marks |= marks::MORE_FRAGMENTS;
        lab.send((0, 1), &first, time, ALL);
        let mut rest = first;
        rest.ports = (0, 0);
        (rest.row.fragment_offset, rest.row.payload_length, rest.row.marks) = (1400, 600, marks::IPV4);
        lab.send((0, 1), &rest, time, if arrives { ALL } else { up_to(6) });
    }
    let outcome = lab.run();
    assert_sums(&outcome);
    assert_eq!(leg(&outcome), ("b flannel.1 → b cni0".to_owned(), 5));
    assert_eq!(outcome.report.totals.delivered, 45);
}

/// An address of the pods' or of a node's end of their network, over IPv6.
fn v6(address: IpAddr) -> IpAddr {
    let IpAddr::V4(v4) = address else { return address };
    let [_, _, node, host] = v4.octets();
    Ipv6Addr::new(0xfd10, 0, 0, u16::from(node), 0, 0, 0, u16::from(host)).into()
}

fn is_of_pods(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.octets()[..2] == [10, 244])
}

/// A lab whose pods speak IPv6 as well.
fn dual_stack() -> Lab {
    let mut lab = Lab::new(2);
    let of_v6 = |mut prefix: Prefix| {
        prefix.address = v6(prefix.address);
        prefix.length = if prefix.length == 32 { 128 } else { 64 };
        prefix
    };
    for node in &mut lab.job.nodes {
        let tables = &mut node.topology;
        for interface in &mut tables.interfaces {
            let own: Vec<_> =
                interface.addresses.iter().filter(|one| is_of_pods(one.address)).copied().collect();
            interface.addresses.extend(own.into_iter().map(of_v6));
        }
        let routes: Vec<_> =
            tables.routes.iter().filter(|one| is_of_pods(one.destination.address)).copied().collect();
        tables.routes.extend(routes.into_iter().map(|route| Route {
            destination: of_v6(route.destination),
            gateway: route.gateway.map(v6),
            ..route
        }));
        let neighbors: Vec<_> =
            tables.neighbors.iter().filter(|one| is_of_pods(one.address)).copied().collect();
        tables
            .neighbors
            .extend(neighbors.into_iter().map(|one| Neighbor { address: v6(one.address), ..one }));
    }
    lab
}

/// Who has seen a datagram of 2,992 bytes over IPv6 at a hop of the lab whose nodes track connections: fragments as the
/// pod sent them, the bridge the whole, everyone else fragments with identifications that the nodes drew.
fn see_tracked(lab: &mut Lab, id: u32, payload: u32, time: i64, reach: usize) {
    let mut whole = Packet::udp(id, payload);
    (whole.row.marks, whole.row.ip_id, whole.row.ip_length) = (0, 0, payload + 48);
    for (hop, point) in Lab::path(0, 1).into_iter().enumerate().take(reach) {
        let mut flow = whole.flow((0, 1), hop == 3 || hop == 4);
        (flow.source, flow.destination) = (v6(flow.source), v6(flow.destination));
        let time = time + hop as i64 * 100 * MICRO;
        if hop == 1 {
            lab.see(point, flow, whole.row, time);
            continue;
        }
        let (mut first, mut rest) = (whole.row, whole.row);
        let drawn = id.wrapping_mul(40_503) as u16 ^ [1, 0, 2, 2, 2, 2, 3, 3][hop];
        (first.ip_id, rest.ip_id) = (drawn, drawn);
        first.marks = marks::MORE_FRAGMENTS;
        (first.ip_length, first.payload_length) = (1400 + 48, 1392);
        (rest.fragment_offset, rest.payload_length, rest.transport_hash) = (1400, payload - 1392, 0);
        rest.ip_length = rest.payload_length + 48;
        lab.see(point, flow, first, time);
        lab.see(point, FlowKey { source_port: 0, destination_port: 0, ..flow }, rest, time + MICRO);
    }
}

#[test]
fn over_ipv6_a_node_that_tracks_connections_draws_another_identification() {
    let mut lab = dual_stack();
    for id in 0..200 {
        // The first 32 bytes and the length of some are alike.
        let reach = if id % 20 == 7 { 5 } else { HOPS };
        see_tracked(&mut lab, id / 2, 2_992, time_of(id * 10), reach);
    }
    let outcome = lab.run();
    assert_sums(&outcome);
    assert_eq!(leg(&outcome), ("b eth0 → b flannel.1".to_owned(), 10));
    let totals = outcome.report.totals;
    assert_eq!((totals.segments, totals.delivered, totals.duplicated), (200, 190, 0));
    assert!(outcome.lost.iter().all(|lost| lost.ip_length == 3_040), "{:?}", outcome.lost);
}

/// Whole packets are selected by their name, and fragments are known by it once they are together.
#[test]
fn over_ipv6_fragments_are_selected_as_their_whole_is() {
    let mut lab = dual_stack();
    for id in 0..400 {
        see_tracked(&mut lab, id, 2_992, time_of(id * 10), if id % 5 == 0 { 6 } else { HOPS });
    }
    let mut correlator = Correlator::new(lab.job.clone()).unwrap();
    let sampler = Sampler::new(lab.job.key, Threshold::one_in(3));
    for (point, slice, columns) in lab.batches() {
        let mut kept = ColumnsBuilder::new(64, [1; 16]);
        for row in (0..columns.len()).map(|index| columns.row(index)) {
            let flow = &columns.flows[row.flow as usize];
            if sampler.keeps(flow, &row) {
                kept.push(flow, row);
            }
        }
        correlator.selected_by(slice, sampler.threshold());
        correlator.add(point, slice, 0, kept.columns()).unwrap();
    }
    let outcome = correlator.finish().unwrap();
    assert_sums(&outcome);
    assert_eq!(leg(&outcome).0, "b flannel.1 → b cni0");
    let totals = outcome.report.totals;
    assert!((90..180).contains(&totals.segments) && (15..40).contains(&totals.lost), "{totals:?}");
    assert_eq!(totals.segments, totals.lost + totals.delivered, "{totals:?}");
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

/// A datagram of 2,000 bytes in two fragments, seen at the hops of `mask`.
fn in_two(lab: &mut Lab, id: u32, time: i64, mask: u32) {
    let mut first = Packet::udp(id, 1392);
    first.row.marks |= marks::MORE_FRAGMENTS;
    let mut rest = first;
    rest.ports = (0, 0);
    (rest.row.fragment_offset, rest.row.payload_length, rest.row.marks) = (1400, 600, marks::IPV4);
    for fragment in [first, rest] {
        lab.send((0, 1), &fragment, time, mask);
    }
}

#[test]
fn a_datagram_whose_identification_comes_round_does_not_arrive_for_one_that_was_lost() {
    let mut lab = Lab::new(2);
    in_two(&mut lab, 7, T0, up_to(4));
    in_two(&mut lab, 7, T0 + SECOND, ALL);
    for id in 100..150 {
        in_two(&mut lab, id, time_of(20 * id), ALL);
    }
    let outcome = lab.run();
    assert_eq!(leg(&outcome), ("a eth0 → b eth0".to_owned(), 1));
    assert_eq!(outcome.lost[0].first_seen_nanos, T0);
    assert_eq!(outcome.report.totals.segments, 52);
}

#[test]
fn datagrams_that_the_network_doubled_are_counted_twice() {
    let mut lab = Lab::new(2);
    for id in 0..20 {
        in_two(&mut lab, id, time_of(20 * id), ALL);
        in_two(&mut lab, id, time_of(20 * id) + MILLI, ALL & !up_to(4));
    }
    let totals = lab.run().report.totals;
    assert_eq!((totals.segments, totals.delivered, totals.duplicated, totals.lost), (20, 20, 20, 0));
}
