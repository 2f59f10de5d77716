//! Nodes with two underlay interfaces.
#![allow(missing_docs)]

use std::net::{IpAddr, Ipv4Addr};

use crate::lab::*;
use lastseen_correlate::Outcome;
use lastseen_correlate::input::Direction;
use lastseen_correlate::report::Verdict;
use lastseen_correlate::topology::{Interface, Prefix};
use lastseen_packet::observation::FlowKey;

const NIC: usize = 3;
const SECOND_INDEX: u32 = 9;
/// Points of `eth1`, in and out, of the first node and the second.
const OF_SECOND: [[usize; 2]; 2] = [[2 * POINTS, 2 * POINTS + 1], [2 * POINTS + 2, 2 * POINTS + 3]];

fn second_underlay(node: usize) -> IpAddr {
    Ipv4Addr::new(192, 168, 1, node as u8 + 1).into()
}

/// Two nodes whose `eth1` are on a network of their own.
fn two_underlays() -> Lab {
    let mut lab = Lab::new(2);
    for node in 0..2 {
        let interfaces = &mut lab.job.nodes[node].topology.interfaces;
        let addresses = vec![Prefix { address: second_underlay(node), length: 24 }];
        let nic = interfaces[NIC].clone();
        interfaces.push(Interface { index: SECOND_INDEX, name: "eth1".to_owned(), addresses, ..nic });
        for direction in [Direction::In, Direction::Out] {
            let mut point = lab.job.points[node * POINTS + 2 * NIC].clone();
            (point.interface, point.index) = ("eth1".to_owned(), SECOND_INDEX);
            point.direction = Some(direction);
            lab.job.points.push(point);
        }
    }
    lab
}

/// The tunnel ends at loopback addresses and is bound to no interface.
fn at_loopback(lab: &mut Lab) {
    for node in 0..2 {
        let interfaces = &mut lab.job.nodes[node].topology.interfaces;
        let end = underlay(node);
        interfaces[NIC].addresses =
            vec![Prefix { address: Ipv4Addr::new(192, 168, 7, node as u8).into(), length: 24 }];
        let overlay = interfaces[2].overlay.as_mut().expect("a tunnel");
        overlay.underlay_index = None;
        interfaces.push(Interface {
            index: 1,
            name: "lo".to_owned(),
            kind: lastseen_correlate::input::InterfaceKind::Loopback,
            addresses: vec![Prefix { address: end, length: 32 }],
            ..Interface::default()
        });
    }
}

/// As [`Lab::send`], with `eth1` in place of `eth0`.
fn send_by_second(lab: &mut Lab, packet: &Packet, time: i64, hops: u32) {
    lab.send((0, 1), packet, time, hops & !(1 << 3 | 1 << 4));
    for (hop, point) in [(3, OF_SECOND[0][1]), (4, OF_SECOND[1][0])] {
        if hops & 1 << hop != 0 {
            let delay = if hop == 3 { 30 * MICRO } else { 240 * MICRO };
            lab.see(point, packet.flow((0, 1), true), packet.row, time + delay);
        }
    }
}

fn states(outcome: &Outcome) -> (u64, u64, u64) {
    assert_sums(outcome);
    let totals = outcome.report.totals;
    (totals.delivered, totals.lost, totals.not_observable)
}

#[test]
fn packets_addressed_to_the_second_underlay_are_expected_there() {
    for arriving in [90, 0] {
        let mut lab = two_underlays();
        lab.job.nodes[0].topology.forwarding[0].remote = Some(second_underlay(1));
        for id in 0..100 {
            let hops = if id < arriving { ALL } else { up_to(4) };
            send_by_second(&mut lab, &Packet::udp(id, 100), T0 + i64::from(id) * MILLI, hops);
        }
        let outcome = lab.run();
        assert_eq!(states(&outcome), (arriving.into(), (100 - arriving).into(), 0));
        assert_eq!(leg(&outcome), ("a eth1 → b eth1".to_owned(), (100 - arriving).into()));
    }
}

#[test]
fn flows_between_two_pods_may_take_different_underlays() {
    let mut lab = two_underlays();
    at_loopback(&mut lab);
    let other = |id| Packet { ports: (4001, 53), ..Packet::udp(1000 + id, 100) };
    for id in 0..100 {
        let time = T0 + i64::from(id) * MILLI;
        lab.send((0, 1), &Packet::udp(id, 100), time, ALL);
        send_by_second(&mut lab, &other(id), time, up_to(4));
    }
    let outcome = lab.run();
    assert_eq!(states(&outcome), (100, 100, 0));
    assert_eq!(leg(&outcome), ("a eth1 → b eth1".to_owned(), 100));
}

#[test]
fn what_every_node_sends_to_a_group_does_not_come_back_to_it() {
    for (source, [leaving, arriving]) in [("fe80::1", [7, 6]), ("fe80::1", [3, 2]), ("::", [2, 1])] {
        let mut lab = Lab::new(2);
        let report = Packet { protocol: 58, ..Packet::udp(0, 100) };
        let flow = FlowKey {
            source: source.parse().expect("an address"),
            destination: "ff02::16".parse().expect("an address"),
            source_port: 0,
            destination_port: 0,
            ..report.flow((0, 1), false)
        };
        for time in [T0 + SECOND, T0 + 3 * SECOND] {
            lab.see(leaving, flow, report.row, time);
        }
        lab.see(arriving, flow, report.row, T0 + 2 * SECOND);
        let outcome = lab.run();
        assert_eq!(states(&outcome), (0, 0, 0), "{source} at {leaving} and {arriving}");
        assert_ne!(outcome.report.verdict, Verdict::Lost);
    }
}
