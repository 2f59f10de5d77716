//! Packets that are fragments themselves, inside the tunnel: a point saw a packet that it saw all of.
#![allow(missing_docs)]

use std::net::{IpAddr, Ipv6Addr};

use crate::lab::*;
use lastseen_correlate::Correlator;
use lastseen_correlate::topology::{Neighbor, Prefix, Route};
use lastseen_packet::observation::{ColumnsBuilder, FlowKey, marks};
use lastseen_packet::{Sampler, Threshold};

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
