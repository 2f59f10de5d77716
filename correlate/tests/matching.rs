//! What makes matching hard: identifications that wrap, super-packets, disorder, two address families at once.
#![allow(missing_docs)]

use std::net::{IpAddr, Ipv6Addr};

use crate::lab::*;
use lastseen_correlate::report::{LostPacket, PathReport};
use lastseen_correlate::topology::{Prefix, Topology};
use lastseen_correlate::{GUARD_NANOS, Outcome};
use lastseen_packet::observation::{FlowKey, Observation, gso};
use lastseen_packet::{Capture, DecodeConfig, Decoded, Gso, IdentityKey, LinkType, decode, observe};

fn subnet_v6(node: usize) -> IpAddr {
    Ipv6Addr::new(0xfd00, 244, node as u16, 0, 0, 0, 0, 0).into()
}

fn pod_v6(node: usize) -> IpAddr {
    Ipv6Addr::new(0xfd00, 244, node as u16, 0, 0, 0, 0, 10).into()
}

fn underlay_v6(node: usize) -> IpAddr {
    Ipv6Addr::new(0xfd00, 168, 0, 0, 0, 0, 0, node as u16 + 1).into()
}

/// `address` as `to` has it, where `of` has it for some node.
fn mapped(address: IpAddr, of: fn(usize) -> IpAddr, to: fn(usize) -> IpAddr) -> Option<IpAddr> {
    (0..2).find(|node| of(*node) == address).map(to)
}

/// Gives the underlay IPv6 addresses in place of its IPv4 ones.
fn carry_over_v6(topology: &mut Topology) {
    let moved = |address: &mut IpAddr| *address = mapped(*address, underlay, underlay_v6).unwrap_or(*address);
    for interface in &mut topology.interfaces {
        interface.addresses.iter_mut().for_each(|prefix| moved(&mut prefix.address));
        interface.overlay.iter_mut().filter_map(|overlay| overlay.local.as_mut()).for_each(moved);
    }
    topology.forwarding.iter_mut().filter_map(|entry| entry.remote.as_mut()).for_each(moved);
    topology.routes.iter_mut().for_each(|route| moved(&mut route.destination.address));
}

/// Gives pods, routes and neighbours an IPv6 address beside each IPv4 one.
fn add_v6(topology: &mut Topology) {
    let beside = |address| mapped(address, pod, pod_v6).or_else(|| mapped(address, subnet, subnet_v6));
    for interface in &mut topology.interfaces {
        let more: Vec<_> = interface.addresses.iter().filter_map(|prefix| beside(prefix.address)).collect();
        interface.addresses.extend(more.into_iter().map(|address| Prefix { address, length: 64 }));
    }
    for mut route in topology.routes.clone() {
        let Some(address) = beside(route.destination.address) else { continue };
        route.destination = Prefix { address, length: 64 };
        route.gateway = route.gateway.and_then(beside);
        topology.routes.push(route);
    }
    for mut neighbor in topology.neighbors.clone() {
        neighbor.address = beside(neighbor.address).expect("a subnet's");
        topology.neighbors.push(neighbor);
    }
}

fn legs(path: &PathReport) -> Vec<(String, u64)> {
    let name = |loss: &lastseen_correlate::report::Loss| {
        let to = loss.to.as_ref().expect("a next point");
        format!("{} {} → {} {}", loss.from.node, loss.from.interface, to.node, to.interface)
    };
    path.losses.iter().map(|loss| (name(loss), loss.count)).collect()
}

fn path_from<'o>(outcome: &'o Outcome, source: &str) -> &'o PathReport {
    let mut paths = outcome.report.paths.iter();
    paths.find(|path| path.source.starts_with(source)).unwrap_or_else(|| panic!("no path from {source}"))
}

#[test]
fn identifications_wrap_several_times_within_the_delay_bound() {
    let mut lab = Lab::new(2);
    // Three times 65,536 within less than the bound, and nothing else tells one datagram from the next.
    const { assert!(2 * 65_536 * 25 * MICRO < GUARD_NANOS) };
    let (count, is_lost) = (140_000_u32, |n: u32| n % 97 == 5);
    for n in 0..count {
        let mut packet = Packet::udp(n % 65_536, 100);
        packet.row.transport_hash = 1;
        lab.send((0, 1), &packet, T0 + i64::from(n) * 25 * MICRO, if is_lost(n) { up_to(5) } else { ALL });
    }
    let outcome = lab.run();
    assert_sums(&outcome);
    let lost: Vec<_> = outcome.lost.iter().map(|packet| packet.first_seen_nanos).collect();
    let truly: Vec<_> = (0..count).filter(|n| is_lost(*n)).map(|n| T0 + i64::from(n) * 25 * MICRO).collect();
    assert_eq!(leg(&outcome), ("b eth0 → b flannel.1".to_owned(), truly.len() as u64));
    assert!(lost == truly, "other packets of the same identification were blamed");
}

/// An Ethernet frame with a UDP datagram of pods 0 and 1.
fn udp_frame(ip_id: u16, payload: &[u8]) -> Vec<u8> {
    let length = |headers: usize| (payload.len() + headers) as u16;
    let mut frame = vec![0; 12];
    frame.extend([8, 0, 0x45, 0]);
    frame.extend(length(28).to_be_bytes());
    frame.extend(ip_id.to_be_bytes());
    frame.extend([0x40, 0, 64, 17, 0, 0, 10, 244, 0, 10, 10, 244, 1, 10]);
    frame.extend([4000_u16.to_be_bytes(), 53_u16.to_be_bytes(), length(8).to_be_bytes(), [0; 2]].concat());
    frame.extend(payload);
    frame
}

/// The rows an agent makes of a frame.
fn rows(lab: &Lab, frame: &[u8], gso: Gso) -> Vec<Observation> {
    let mut decoded = Decoded::default();
    decode(&DecodeConfig::default(), LinkType::Ethernet, frame, frame.len() as u32, &mut decoded)
        .expect("valid");
    let mut rows = Vec::new();
    let capture = Capture { time_nanos: 0, gso };
    observe(&decoded, frame, capture, &lab.job.key, &mut |_, row| rows.push(row)).expect("IP");
    rows
}

#[test]
fn the_datagrams_of_udp_super_packets_are_lost_one_by_one() {
    let mut lab = Lab::new(2);
    let (size, in_each) = (1_000_usize, 8_u16);
    for burst in 0..50_u16 {
        let (ip_id, time) = (burst * in_each, T0 + i64::from(burst) * MILLI);
        let payload: Vec<u8> = (0..size * usize::from(in_each)).map(|at| (at / size) as u8).collect();
        let whole = rows(&lab, &udp_frame(ip_id, &payload), Gso { kind: gso::UDP_L4, size: size as u16 });
        assert_eq!(whole.len(), usize::from(in_each));
        let packet = |row| Packet { row, ..Packet::udp(0, 0) };
        for row in whole {
            lab.send((0, 1), &packet(row), time, up_to(3));
        }
        for (at, datagram) in payload.chunks(size).enumerate() {
            let [row] = rows(&lab, &udp_frame(ip_id + at as u16, datagram), Gso::default())[..] else {
                panic!("one row")
            };
            let is_lost = (usize::from(burst) + at) % 10 == 0;
            lab.send((0, 1), &packet(row), time, if is_lost { 0b1000 } else { ALL & !up_to(3) });
        }
    }
    let outcome = lab.run();
    assert_eq!(outcome.report.totals.segments, 400);
    assert_eq!(leg(&outcome), ("a eth0 → b eth0".to_owned(), 40));
}

#[test]
fn disorder_and_copies_between_the_nodes_hide_no_loss_and_make_none() {
    let mut lab = Lab::new(2);
    for n in 0..2_000_u32 {
        let (packet, time) = (Packet::tcp(n as u16, n * 100, 100), T0 + i64::from(n) * 500 * MICRO);
        lab.send((0, 1), &packet, time, up_to(4));
        if n % 11 == 0 {
            continue;
        }
        // Up to 80 ms late in no order, and every seventh twice.
        let late = i64::from(n.wrapping_mul(0x9e37_79b9) >> 16) % 80 * MILLI;
        for copy in 0..if n % 7 == 0 { 2 } else { 1 } {
            lab.send((0, 1), &packet, time + late + copy * 3 * MILLI, ALL & !up_to(4));
        }
    }
    let outcome = lab.run();
    assert_sums(&outcome);
    let lost = (0..2_000).filter(|n| n % 11 == 0).count() as u64;
    let doubled = (0..2_000).filter(|n| n % 11 != 0 && n % 7 == 0).count() as u64;
    assert_eq!(leg(&outcome), ("a eth0 → b eth0".to_owned(), lost));
    let totals = outcome.report.totals;
    assert_eq!((totals.delivered, totals.duplicated), (2_000 - lost, doubled));
}

#[test]
fn a_tunnel_over_ipv6_is_followed_like_one_over_ipv4() {
    for end in [3, 4, 5, 6] {
        let mut lab = Lab::new(2);
        lab.job.nodes.iter_mut().for_each(|node| carry_over_v6(&mut node.topology));
        for n in 0..100 {
            let packet = Packet::udp(n, 100);
            let reach = if n % 10 == 0 { end } else { HOPS };
            for (hop, point) in Lab::path(0, 1).into_iter().enumerate().take(reach) {
                let mut flow = packet.flow((0, 1), hop == 3 || hop == 4);
                if let Some(overlay) = &mut flow.overlay {
                    (overlay.source, overlay.destination) = (underlay_v6(0), underlay_v6(1));
                }
                lab.see(point, flow, packet.row, T0 + i64::from(n) * MILLI + hop as i64 * 10 * MICRO);
            }
        }
        let outcome = lab.run();
        let names = ["", "", "a flannel.1", "a eth0", "b eth0", "b flannel.1", "b cni0"];
        assert_eq!(leg(&outcome), (format!("{} → {}", names[end - 1], names[end]), 10));
        assert_eq!(outcome.report.paths[0].hops.len(), HOPS);
    }
}

#[test]
fn a_black_hole_in_a_tunnel_over_ipv6_names_its_leg_from_the_topology() {
    let mut lab = Lab::new(2);
    lab.job.nodes.iter_mut().for_each(|node| carry_over_v6(&mut node.topology));
    for n in 0..50 {
        lab.send((0, 1), &Packet::udp(n, 100), T0 + i64::from(n) * MILLI, up_to(3));
    }
    assert_eq!(leg(&lab.run()), ("a flannel.1 → a eth0".to_owned(), 50));
}

#[test]
fn both_families_between_the_same_pods_are_told_apart() {
    let mut lab = Lab::new(2);
    lab.job.nodes.iter_mut().for_each(|node| add_v6(&mut node.topology));
    for n in 0..300_u32 {
        let time = T0 + i64::from(n) * MILLI;
        // Same ports, payload and hash; IPv6 has no identification, so its packets are all alike.
        let mut packet = Packet::udp(n, 100);
        packet.row.transport_hash = 1;
        lab.send((0, 1), &packet, time, if n % 20 == 0 { up_to(3) } else { ALL });
        let row = Observation { ip_id: 0, marks: 0, ip_length: 148, ..packet.row };
        let reach = if n % 30 == 0 { 6 } else { HOPS };
        for (hop, point) in Lab::path(0, 1).into_iter().enumerate().take(reach) {
            let flow = packet.flow((0, 1), hop == 3 || hop == 4);
            let flow = FlowKey { source: pod_v6(0), destination: pod_v6(1), ..flow };
            lab.see(point, flow, row, time + hop as i64 * 10 * MICRO);
        }
    }
    let outcome = lab.run();
    assert_sums(&outcome);
    assert_eq!(legs(path_from(&outcome, "10.244.0.10")), [("a flannel.1 → a eth0".to_owned(), 15)]);
    assert_eq!(legs(path_from(&outcome, "[fd00:f4::a]")), [("b flannel.1 → b cni0".to_owned(), 10)]);
}

/// A lab whose nodes have two tunnels.
fn two_tenants() -> Lab {
    let mut lab = Lab::new(2);
    for node in 0..2 {
        let topology = &mut lab.job.nodes[node].topology;
        let mut second = topology.interfaces[2].clone();
        (second.index, second.name) = (30, "flannel.2".to_owned());
        second.overlay.iter_mut().for_each(|overlay| overlay.id = 2);
        topology.interfaces.push(second);
    }
    lab
}

#[test]
fn the_same_packets_of_two_tenants_are_lost_each_on_its_own_leg() {
    let mut lab = two_tenants();
    for n in 0..100 {
        let time = T0 + i64::from(n) * MILLI;
        for vni in [1, 2] {
            let packet = Packet { vni, ..Packet::tcp(n as u16, n * 100, 100) };
            let is_lost = n % (3 + 4 * vni) == 0;
            lab.send((0, 1), &packet, time, if is_lost { 0b1000 } else { 0b1_1000 });
        }
    }
    let outcome = lab.run();
    let of =
        |vni| outcome.report.paths.iter().find(|path| path.overlay.is_some_and(|overlay| overlay.id == vni));
    let between = |vni| {
        let mut legs = legs(of(vni).expect("a path")).into_iter();
        legs.find(|(leg, _)| leg == "a eth0 → b eth0").map(|(_, count)| count)
    };
    assert_eq!((between(1), between(2)), (Some(15), Some(10)));
}

#[test]
fn retransmissions_are_lost_beside_what_they_repeat() {
    let mut lab = Lab::new(2);
    // Each segment is sent three times with its own identification; of every fifth the first two are lost.
    for n in 0..200_u32 {
        for attempt in 0..3_u32 {
            let packet = Packet::tcp((n * 3 + attempt) as u16, n * 1_400, 1_400);
            let time = T0 + i64::from(n) * MILLI + i64::from(attempt) * 200 * MILLI;
            lab.send((0, 1), &packet, time, if n % 5 == 0 && attempt < 2 { up_to(4) } else { ALL });
        }
    }
    let outcome = lab.run();
    assert_eq!(leg(&outcome), ("a eth0 → b eth0".to_owned(), 80));
    assert_eq!((outcome.report.totals.segments, outcome.report.totals.delivered), (600, 520));
    assert!(outcome.lost.iter().all(|packet| packet.ip_id.is_some_and(|id| id % 3 != 2)));
}

#[test]
fn packets_that_were_lost_at_one_time_are_listed_in_an_order_of_their_own() {
    let burst = |key: u8| {
        let mut lab = Lab::new(3);
        lab.job.key = IdentityKey([key; 16]);
        for n in 0..40_u16 {
            let segment = Packet::tcp(500 - n, u32::from(n) * 1_400, 1_400);
            lab.send((0, 1 + usize::from(n % 2)), &segment, T0 + SECOND, up_to(4));
            lab.send(
                (0, 1),
                &Packet::udp(u32::from(n), 100),
                T0 + SECOND,
                if n < 20 { up_to(2) } else { ALL },
            );
        }
        lab
    };
    let lab = burst(1);
    let listed = lab.run().lost;
    let what = |packet: &LostPacket| {
        let (host, _) = packet.destination.split_once(':').expect("a port");
        (host.to_owned(), packet.protocol.clone(), packet.tcp_seq, packet.ip_id)
    };
    let natural = listed.iter().is_sorted_by_key(what);
    assert!(listed.len() == 60 && natural, "{:?}", listed.iter().map(what).collect::<Vec<_>>());
    let mut permuted = lab.batches_of(3);
    permuted.reverse();
    assert_eq!(run(lab.job.clone(), permuted).lost, listed, "from batches in another order");
    assert_eq!(burst(2).run().lost, listed, "of another capture");
}

#[test]
fn tunnels_that_no_node_knows_are_listed_alike_from_batches_in_any_order() {
    let mut lab = two_tenants();
    for vni in [9, 7, 8] {
        for n in 0..3 {
            let packet = Packet { vni, ..Packet::udp(n, 100) };
            lab.send((0, 1), &packet, T0 + SECOND, 0b1_1000);
        }
    }
    let straight = run(lab.job.clone(), lab.batches_of(1));
    let mut batches = lab.batches_of(1);
    batches.reverse();
    assert_eq!(straight.lost.len(), 9, "nobody takes them out of their tunnels");
    assert_eq!(format!("{:?}", run(lab.job.clone(), batches)), format!("{straight:?}"));
}
