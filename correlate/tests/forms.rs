//! Packets that look alike, or take another form on some hops.
#![allow(missing_docs)]

use crate::lab::*;
use lastseen_correlate::report::Verdict;
use lastseen_packet::observation::{Observation, gso, marks};

#[test]
fn of_identical_syn_acks_the_lost_one_is_found_and_delays_stay_short() {
    let mut lab = Lab::new(2);
    let mut packet = Packet::tcp(0, 1000, 0);
    packet.row.tcp_flags = 0x12;
    for (at, mask) in [(0, up_to(4)), (1, ALL), (3, ALL)] {
        lab.send((0, 1), &packet, T0 + at * SECOND, mask);
    }
    let outcome = lab.run();
    assert_sums(&outcome);
    assert_eq!(leg(&outcome), ("a eth0 → b eth0".to_owned(), 1));
    assert_eq!(outcome.lost[0].first_seen_nanos, T0);
    assert!(outcome.report.paths[0].hops[4].delay_p99_nanos.unwrap() < MILLI);
}

/// As IPv6 datagrams of one size are, whose payloads begin alike: nothing but their order tells them apart, and they come
/// faster than clocks agree.
#[test]
fn each_leg_of_a_stream_of_identical_packets_loses_what_its_points_differ_by() {
    let mut lab = Lab::new(2);
    let packet = Packet::udp(0, 100);
    for nth in 0..1_000 {
        let reach = match nth % 7 {
            2 => up_to(4),
            5 if nth % 3 == 0 => up_to(6),
            _ => ALL,
        };
        lab.send((0, 1), &packet, T0 + nth * 300 * MICRO, reach);
    }
    let outcome = lab.run();
    assert_sums(&outcome);
    let losses = &outcome.report.paths[0].losses;
    let legs: Vec<_> = losses.iter().map(|loss| (loss.from.interface.as_str(), loss.count)).collect();
    assert_eq!(legs, [("eth0", 143), ("flannel.1", 48)]);
    assert_eq!(outcome.report.totals.duplicated, 0);
}

#[test]
fn duplicates_are_counted_beside_and_hide_no_loss() {
    let mut lab = Lab::new(2);
    for id in 0..100 {
        let (packet, time) = (Packet::udp(id, 100), T0 + i64::from(id) * MILLI);
        lab.send((0, 1), &packet, time, ALL);
        if id % 10 == 0 {
            lab.send((0, 1), &packet, time + 50 * MICRO, ALL & !up_to(4));
        }
        // Of a duplicated packet one copy goes missing: the segment arrived all the same.
        if id % 10 == 5 {
            lab.send((0, 1), &packet, time + 5 * MILLI, up_to(6) & !up_to(4));
        }
    }
    let outcome = lab.run();
    assert_sums(&outcome);
    assert_eq!(outcome.report.totals.delivered, 100);
    assert_eq!(outcome.report.totals.duplicated, 20);
    assert_eq!(outcome.report.verdict, Verdict::Delivered);
}

#[test]
fn the_same_identity_minutes_later_is_another_segment() {
    let mut lab = Lab::new(2);
    let packet = Packet::udp(1, 100);
    lab.send((0, 1), &packet, T0, up_to(4));
    lab.send((0, 1), &packet, T0 + 8 * SECOND, ALL);
    let other = Packet::udp(2, 100);
    lab.send((0, 1), &other, T0, up_to(4));
    lab.send((0, 1), &other, T0 + 8 * SECOND, ALL & !up_to(4));
    let outcome = lab.run();
    assert_eq!(leg(&outcome), ("a eth0 → b eth0".to_owned(), 2));
    assert_eq!(outcome.report.totals.delivered, 2);
}

#[test]
fn super_packets_match_the_segments_they_become() {
    let mut lab = Lab::new(2);
    let (segments, size) = (20_u32, 1398_u32);
    let mut big = Packet::tcp(100, 5000, segments * size);
    (big.row.gso_type, big.row.gso_size) = (gso::TCPV4, size as u16);
    lab.send((0, 1), &big, T0, up_to(3));
    for at in 0..segments {
        let small = Packet::tcp(100 + at as u16, 5000 + at * size, size);
        let mask = if at == 7 { 0b1000 } else { 0b11_1000 };
        lab.send((0, 1), &small, T0 + i64::from(at) * MICRO, mask);
    }
    for (first, count) in [(0, 7), (8, 12)] {
        let mut merged = Packet::tcp(100 + first as u16, 5000 + first * size, count * size);
        (merged.row.gso_type, merged.row.gso_size) = (gso::TCPV4, size as u16);
        lab.send((0, 1), &merged, T0 + 30 * MICRO, 0b1100_0000);
    }
    let outcome = lab.run();
    assert_sums(&outcome);
    assert_eq!(outcome.report.totals.segments, 20);
    assert_eq!(leg(&outcome), ("a eth0 → b eth0".to_owned(), 1));
    assert_eq!(outcome.lost[0].tcp_seq, Some(5000 + 7 * size));
}

#[test]
fn fragments_on_some_hops_are_no_loss() {
    let mut lab = Lab::new(2);
    for id in 0..50_u32 {
        let time = T0 + i64::from(id) * MILLI;
        let whole = Packet::udp(id, 3000);
        // Connection tracking shows the bridges one whole packet; veths and the tunnel see three fragments.
        let arrives = id % 10 != 0;
        lab.send((0, 1), &whole, time, if arrives { 0b0100_0010 } else { 0b10 });
        let mut first = whole;
        (first.row.payload_length, first.row.ip_length) = (1392, 1420);
        first.row.marks |= marks::MORE_FRAGMENTS;
        lab.send((0, 1), &first, time, if arrives { 0b1011_1101 } else { 0b1101 });
        for (offset, length, more) in [(1400, 1400, marks::MORE_FRAGMENTS), (2800, 208, 0)] {
            let mut rest = first;
            rest.ports = (0, 0);
            (rest.row.fragment_offset, rest.row.payload_length) = (offset, length);
            rest.row.marks = marks::IPV4 | more;
            lab.send((0, 1), &rest, time, 0b1011_1101);
        }
    }
    let outcome = lab.run();
    assert_sums(&outcome);
    let path = outcome.report.paths.iter().find(|path| path.source.ends_with(":4000")).unwrap();
    assert_eq!((path.totals.segments, path.totals.delivered, path.totals.lost), (50, 45, 5));
    assert_eq!(path.losses[0].from.interface, "eth0");
}

#[test]
fn fragments_of_the_carrier_do_not_count() {
    let mut lab = Lab::new(2);
    for id in 0..20 {
        let (packet, time) = (Packet::udp(id, 1400), T0 + i64::from(id) * MILLI);
        lab.send((0, 1), &packet, time, ALL);
        let mut flow = packet.flow((0, 1), false);
        (flow.source, flow.destination) = (underlay(0), underlay(1));
        (flow.source_port, flow.destination_port) = (0, 0);
        let marks = marks::IPV4 | marks::OUTER_FRAGMENT;
        let rest = Observation { fragment_offset: 1480, ip_id: id as u16, marks, ..packet.row };
        lab.see(Lab::path(0, 1)[3], flow, rest, time);
    }
    let outcome = lab.run();
    assert_eq!((outcome.report.totals.segments, outcome.report.totals.delivered), (20, 20));
    assert_eq!(outcome.report.verdict, Verdict::Delivered);
}

#[test]
fn tenants_with_the_same_addresses_never_mix() {
    let mut lab = Lab::new(2);
    for node in 0..2 {
        let topology = &mut lab.job.nodes[node].topology;
        let mut second = topology.interfaces[2].clone();
        (second.index, second.name) = (30, "flannel.2".to_owned());
        second.overlay.as_mut().unwrap().id = 2;
        topology.interfaces.push(second);
    }
    for id in 0..100 {
        let time = T0 + i64::from(id) * MILLI;
        let mut packet = Packet::udp(id, 100);
        // Tenant 1 loses everything between the nodes; tenant 2 sends the same packets and loses nothing.
        lab.send((0, 1), &packet, time, 0b1000);
        packet.vni = 2;
        lab.send((0, 1), &packet, time, 0b1_1000);
    }
    let outcome = lab.run();
    assert_sums(&outcome);
    let lost: Vec<_> =
        outcome.report.paths.iter().map(|path| (path.overlay.unwrap().id, path.totals.lost)).collect();
    assert_eq!(lost[0], (1, 100));
    let second =
        outcome.report.paths.iter().find(|path| path.overlay.is_some_and(|overlay| overlay.id == 2)).unwrap();
    let reached = second.hops.iter().find(|hop| hop.node == "b" && hop.interface == "eth0").unwrap();
    assert_eq!((reached.seen, second.totals.lost), (100, 0));
}
