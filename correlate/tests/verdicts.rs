//! What a report says of packets whose fate is known.
#![allow(missing_docs)]

mod lab;

use lab::*;
use lastseen_correlate::input::{CaptureState, Direction};
use lastseen_correlate::report::Verdict;
use lastseen_correlate::topology::RouteType;
use lastseen_correlate::{Outcome, Slice, SliceCounters, ViewOptions};
use lastseen_packet::observation::{Observation, gso, marks};

/// Sends `count` datagrams, of which every `nth` gets no further than hop `end`.
fn udp(lab: &mut Lab, count: u32, nth: u32, end: usize) {
    for id in 0..count {
        let mask = if nth != 0 && id % nth == 0 { up_to(end) } else { ALL };
        lab.send((0, 1), &Packet::udp(id, 100), T0 + i64::from(id) * MILLI, mask);
    }
}

#[test]
fn clean_traffic_is_delivered_over_the_whole_path() {
    let mut lab = Lab::new(3);
    udp(&mut lab, 1000, 0, 0);
    let outcome = lab.run();
    assert_sums(&outcome);
    assert_eq!(outcome.report.verdict, Verdict::Delivered);
    let path = &outcome.report.paths[0];
    assert_eq!(path.totals.delivered, 1000);
    assert_eq!((path.source.as_str(), path.destination.as_str()), ("10.244.0.10:4000", "10.244.1.10:53"));
    let hops: Vec<_> =
        path.hops.iter().map(|h| (h.node.as_str(), h.interface.as_str(), h.view.as_str(), h.seen)).collect();
    assert_eq!(
        hops,
        [
            ("a", "veth", "inner", 1000),
            ("a", "cni0", "inner", 1000),
            ("a", "flannel.1", "inner", 1000),
            ("a", "eth0", "vxlan 1", 1000),
            ("b", "eth0", "vxlan 1", 1000),
            ("b", "flannel.1", "inner", 1000),
            ("b", "cni0", "inner", 1000),
            ("b", "veth", "inner", 1000),
        ]
    );
    let delay = path.hops[4].delay_p50_nanos.expect("a delay") as f64;
    assert!((delay / 210_000.0 - 1.0).abs() < 0.03, "{delay}");
    assert_eq!(outcome.flows.len(), 8);
    assert!(
        outcome.flows.iter().all(|flow| flow.packet_delta_count == 1000 && flow.octet_delta_count == 128_000)
    );
}

#[test]
fn a_loss_is_named_on_every_leg() {
    let legs = [
        "a veth → a cni0",
        "a cni0 → a flannel.1",
        "a flannel.1 → a eth0",
        "a eth0 → b eth0",
        "b eth0 → b flannel.1",
        "b flannel.1 → b cni0",
        "b cni0 → b veth",
    ];
    for (at, wanted) in legs.into_iter().enumerate() {
        let mut lab = Lab::new(3);
        udp(&mut lab, 1000, 20, at + 1);
        let outcome = lab.run();
        assert_sums(&outcome);
        assert_eq!(outcome.report.verdict, Verdict::Lost);
        assert_eq!(leg(&outcome), (wanted.to_owned(), 50));
        let loss = &outcome.report.paths[0].losses[0];
        assert_eq!(loss.total, 1000);
        assert!(loss.confidence > 0.95, "{}", loss.confidence);
        assert_eq!(outcome.lost.len(), 50);
        assert_eq!(outcome.lost[1].ip_id, Some(20));
        assert_eq!(outcome.lost[1].trajectory.len(), at + 1);
    }
}

#[test]
fn a_total_black_hole_names_its_leg_from_the_topology_alone() {
    for (end, wanted) in [
        (1, "a veth → a cni0"),
        (3, "a flannel.1 → a eth0"),
        (4, "a eth0 → b eth0"),
        (5, "b eth0 → b flannel.1"),
        (7, "b cni0 → b veth"),
    ] {
        let mut lab = Lab::new(3);
        udp(&mut lab, 100, 1, end);
        let outcome = lab.run();
        assert_sums(&outcome);
        assert_eq!(leg(&outcome), (wanted.to_owned(), 100));
        assert_eq!(outcome.report.paths[0].losses[0].pattern.as_ref().unwrap().kind, "all");
    }
}

#[test]
fn a_missing_forwarding_entry_is_named_as_the_cause() {
    let mut lab = Lab::new(3);
    lab.job.nodes[0].topology.forwarding.retain(|entry| entry.remote != Some(underlay(1)));
    udp(&mut lab, 100, 1, 3);
    let outcome = lab.run();
    assert_eq!(leg(&outcome).0, "a flannel.1 → a eth0");
    let cause = outcome.report.paths[0].losses[0].cause.clone().unwrap();
    assert_eq!(cause.code, "fdb_missing");
    assert_eq!(cause.evidence, ["no FDB entry for 02:00:00:00:01:03 (next hop 10.244.1.0) on flannel.1"]);
}

#[test]
fn a_missing_neighbour_and_a_missing_route_still_lead_into_the_tunnel() {
    let mut lab = Lab::new(3);
    lab.job.nodes[0].topology.neighbors.clear();
    udp(&mut lab, 100, 1, 2);
    let outcome = lab.run();
    assert_eq!(leg(&outcome).0, "a cni0 → a flannel.1");
    assert_eq!(outcome.report.paths[0].losses[0].cause.as_ref().unwrap().code, "neighbor_missing");
    lab.job.nodes[0].topology.routes.retain(|route| route.destination.address != subnet(1));
    let outcome = lab.run();
    assert_eq!(leg(&outcome).0, "a cni0 → a flannel.1");
    assert_eq!(outcome.report.paths[0].losses[0].cause.as_ref().unwrap().code, "no_route");
}

#[test]
fn a_blackhole_route_on_the_receiver_is_named() {
    let mut lab = Lab::new(2);
    let mut hole = lab.job.nodes[1].topology.routes[0];
    hole.destination = "10.244.1.10/32".parse().unwrap();
    (hole.kind, hole.output_index) = (RouteType::Blackhole, None);
    lab.job.nodes[1].topology.routes.push(hole);
    udp(&mut lab, 100, 1, 6);
    let outcome = lab.run();
    assert_eq!(leg(&outcome).0, "b flannel.1 → b cni0");
    assert_eq!(outcome.report.paths[0].losses[0].cause.as_ref().unwrap().code, "route_drops");
}

#[test]
fn a_tunnel_id_mismatch_is_one_tenant_and_named() {
    let mut lab = Lab::new(3);
    lab.job.nodes[1].topology.interfaces[2].overlay.as_mut().unwrap().id = 2;
    udp(&mut lab, 100, 1, 5);
    let outcome = lab.run();
    assert_eq!(leg(&outcome), ("b eth0 → b flannel.1".to_owned(), 100));
    assert_eq!(outcome.report.paths[0].losses[0].cause.as_ref().unwrap().code, "vni_mismatch");
}

#[test]
fn an_mtu_black_hole_shows_its_size_threshold() {
    let mut lab = Lab::new(2);
    for id in 0..1000 {
        let large = id % 27 == 0;
        let packet = Packet::udp(id, if large { 1422 } else { 1000 });
        lab.send((0, 1), &packet, T0 + i64::from(id) * MILLI, if large { up_to(4) } else { ALL });
    }
    let outcome = lab.run();
    assert_eq!(leg(&outcome), ("a eth0 → b eth0".to_owned(), 38));
    let loss = &outcome.report.paths[0].losses[0];
    let pattern = loss.pattern.as_ref().unwrap();
    assert_eq!(
        (pattern.kind.as_ref(), pattern.text.as_str()),
        ("size", "all 38 are 1,450 bytes or longer; every shorter one arrived")
    );
    assert_eq!(loss.cause.as_ref().unwrap().code, "mtu_black_hole");
}

#[test]
fn only_the_protocol_that_is_filtered_is_lost() {
    let mut lab = Lab::new(2);
    for id in 0..50 {
        let time = T0 + i64::from(id) * MILLI;
        lab.send((0, 1), &Packet::udp(id, 100), time, up_to(6));
        lab.send((0, 1), &Packet::tcp(id as u16, id * 100, 100), time, ALL);
    }
    let outcome = lab.run();
    let pattern = outcome.report.paths[0].losses[0].pattern.clone().unwrap();
    assert_eq!(
        (pattern.kind.as_ref(), pattern.text.as_str()),
        ("protocol", "all 50 are udp; none of 50 of other protocols was lost")
    );
}

#[test]
fn drops_at_every_later_point_are_never_loss() {
    let mut lab = Lab::new(2);
    udp(&mut lab, 1000, 10, 4);
    let counters = SliceCounters { received: 900, kernel_drops: 100, ..SliceCounters::default() };
    for point in 8..16 {
        lab.slices.insert(point, vec![Slice { counters, ..whole(0) }]);
    }
    let outcome = lab.run();
    assert_sums(&outcome);
    assert_eq!(outcome.report.totals.not_observable, 100);
    assert_eq!(outcome.report.verdict, Verdict::Inconclusive);
    let hop = &outcome.report.paths[0].hops[4];
    assert!((hop.blind_ratio - 0.1).abs() < 1e-6, "{}", hop.blind_ratio);
}

#[test]
fn a_node_that_never_captured_is_not_a_place_where_packets_arrived() {
    let mut lab = Lab::new(2);
    udp(&mut lab, 1000, 1, 4);
    lab.job.points.truncate(POINTS);
    let clean = lab.run();
    assert_eq!((clean.report.totals.not_observable, clean.report.totals.lost), (1000, 0));
    assert_eq!(clean.report.verdict, Verdict::Inconclusive);
    assert_sums(&clean);
}

#[test]
fn a_failed_node_leaves_the_verdict_open_even_where_nothing_was_lost() {
    let mut lab = Lab::new(3);
    udp(&mut lab, 1000, 0, 0);
    lab.job.nodes[2].state = CaptureState::Failed;
    let outcome = lab.run();
    assert_eq!((outcome.report.totals.delivered, outcome.report.verdict), (1000, Verdict::Inconclusive));
    let view = outcome.report.filtered(&ViewOptions { min_loss_ratio: Some(0.5), ..ViewOptions::default() });
    assert_eq!(view.verdict, Verdict::Inconclusive);
}

#[test]
fn packets_that_were_cut_too_short_are_missed_and_not_lost() {
    let mut lab = Lab::new(2);
    udp(&mut lab, 1000, 10, 4);
    let counters = SliceCounters { received: 1000, unreadable: 100, ..SliceCounters::default() };
    for point in 8..16 {
        lab.slices.insert(point, vec![Slice { counters, ..whole(0) }]);
    }
    let outcome = lab.run();
    assert_eq!((outcome.report.totals.not_observable, outcome.report.totals.lost), (100, 0));
    let notes = |outcome: &Outcome| outcome.report.notes.join("\n");
    assert!(notes(&outcome).contains("malformed; give a larger --snaplen"), "{}", notes(&outcome));
    assert!(!notes(&outcome).contains("payload term"), "{}", notes(&outcome));
    lab.job.filter = "port 53 and udp [8:2] = 7".to_owned();
    let notes = notes(&lab.run());
    assert!(notes.contains("super-frames; give a larger --snaplen or drop the payload term"), "{notes}");
}

#[test]
fn what_a_node_set_aside_reaches_the_report() {
    let mut lab = Lab::new(2);
    udp(&mut lab, 1000, 0, 0);
    let counters = SliceCounters {
        received: 1015,
        own_connections: 4,
        undecoded: 5,
        unreadable: 6,
        ..Default::default()
    };
    for point in [8, 9] {
        lab.slices.insert(point, vec![Slice { counters, ..whole(0) }]);
    }
    let nodes = lab.run().report.nodes;
    let found = nodes.iter().map(|node| (node.own_connections, node.undecoded, node.unreadable));
    assert_eq!(found.collect::<Vec<_>>(), [(0, 0, 0), (8, 10, 12)]);
}

#[test]
fn a_cut_hash_is_no_sighting_of_another_packet() {
    let mut lab = Lab::new(2);
    for id in 0..1000 {
        let time = T0 + i64::from(id) * MILLI;
        let mut packet = Packet::udp(id, 100);
        lab.send((0, 1), &packet, time, 0b0000_0111);
        packet.row.transport_hash ^= 1;
        packet.row.marks |= marks::HASH_TRUNCATED;
        lab.send((0, 1), &packet, time, 0b1111_1000);
    }
    let totals = lab.run().report.totals;
    assert_eq!((totals.segments, totals.not_observable, totals.lost), (1000, 1000, 0));
}

#[test]
fn one_point_that_could_see_testifies_for_the_blind_ones() {
    let mut lab = Lab::new(2);
    udp(&mut lab, 1000, 10, 4);
    let counters = SliceCounters { received: 900, kernel_drops: 100, ..SliceCounters::default() };
    lab.slices.insert(Lab::path(0, 1)[4], vec![Slice { counters, ..whole(0) }]);
    let outcome = lab.run();
    assert_eq!(leg(&outcome), ("a eth0 → b flannel.1".to_owned(), 100));
}

#[test]
fn a_node_that_stops_capturing_hides_and_does_not_lose() {
    let mut lab = Lab::new(2);
    udp(&mut lab, 1000, 2, 4);
    for point in 8..16 {
        lab.slices.insert(point, vec![Slice { end_nanos: T0 + SECOND / 2, ..whole(1000) }]);
    }
    let outcome = lab.run();
    assert_sums(&outcome);
    let totals = outcome.report.totals;
    assert!(totals.not_observable >= 250 && totals.lost <= 250, "{totals:?}");
    assert_eq!(totals.not_observable + totals.lost, 500);
    assert!(
        outcome.report.notes.iter().any(|note| note.contains("not captured for 9.500 s")),
        "{:?}",
        outcome.report.notes
    );
}

#[test]
fn a_miss_at_a_middle_point_is_no_loss() {
    let mut lab = Lab::new(2);
    for id in 0..100 {
        let mask = if id % 3 == 0 { ALL & !(1 << 4) } else { ALL };
        lab.send((0, 1), &Packet::udp(id, 100), T0 + i64::from(id) * MILLI, mask);
    }
    let outcome = lab.run();
    assert_eq!(outcome.report.totals.delivered, 100);
    assert_eq!(outcome.report.paths[0].hops[4].seen, 66);
}

#[test]
fn a_point_that_saw_none_between_points_that_did_is_bypassed() {
    let mut lab = Lab::new(2);
    for id in 0..100 {
        let mask = if id % 10 == 0 { up_to(4) } else { ALL & !(1 << 6) };
        lab.send((0, 1), &Packet::udp(id, 100), T0 + i64::from(id) * MILLI, mask);
    }
    let outcome = lab.run();
    assert_sums(&outcome);
    assert_eq!(leg(&outcome), ("a eth0 → b eth0".to_owned(), 10));
    assert!(outcome.report.paths[0].hops[6].bypassed);
    assert_eq!(outcome.report.totals.bypassed, 100);
}

#[test]
fn only_segments_first_seen_in_the_window_are_judged() {
    let mut lab = Lab::new(2);
    let times = [T0 - 1, T0, T1 - 1, T1, T1 + SECOND];
    for (id, time) in times.into_iter().enumerate() {
        lab.send((0, 1), &Packet::udp(id as u32, 100), time, up_to(4));
    }
    let outcome = lab.run();
    assert_eq!((outcome.report.totals.segments, outcome.report.totals.lost), (2, 2));
}

#[test]
fn a_segment_last_seen_as_recording_ends_is_in_flight() {
    let mut lab = Lab::new(2);
    let packet = Packet::udp(1, 100);
    lab.send((0, 1), &packet, T1 - 1, up_to(2));
    lab.see(Lab::path(0, 1)[2], packet.flow((0, 1), false), packet.row, T1 + 3 * SECOND + SECOND / 2);
    let outcome = lab.run();
    assert_sums(&outcome);
    assert_eq!(outcome.report.totals.in_flight, 1);
}

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
fn packets_a_router_makes_begin_where_they_are_first_seen() {
    let mut lab = Lab::new(2);
    // An ICMP error that the bridge address of `b` sends to the pod of `a`.
    for id in 0..10 {
        let packet = Packet::udp(id, 64);
        for (hop, point) in Lab::path(1, 0).into_iter().enumerate().skip(2) {
            let mut flow = packet.flow((1, 0), hop == 3 || hop == 4);
            (flow.source, flow.protocol) = ("10.244.1.1".parse().unwrap(), 1);
            lab.see(point, flow, packet.row, T0 + i64::from(id) * MILLI + hop as i64 * 10 * MICRO);
        }
    }
    let outcome = lab.run();
    assert_eq!(outcome.report.totals.delivered, 10);
    assert_eq!(outcome.report.paths[0].hops.len(), 6);
    assert_eq!(outcome.report.paths[0].protocol, "icmp");
}

#[test]
fn pods_of_one_node_need_no_bridge_device() {
    let mut lab = Lab::new(1);
    let mut second = lab.job.nodes[0].topology.interfaces[0].clone();
    (second.index, second.name, second.peer_index) = (6, "veth2".to_owned(), None);
    let mut forwarding = lab.job.nodes[0].topology.clone();
    forwarding.interfaces.push(second);
    let mac = "02:00:00:00:00:66".parse().unwrap();
    forwarding.forwarding.push(lastseen_correlate::topology::ForwardingEntry {
        mac,
        index: 6,
        remote: None,
        vlan: 0,
    });
    forwarding.neighbors.push(lastseen_correlate::topology::Neighbor {
        address: "10.244.0.11".parse().unwrap(),
        mac: Some(mac),
        index: 4,
        is_unresolved: false,
    });
    lab.job.nodes[0].topology = forwarding;
    let mut point = lab.job.points[1].clone();
    (point.interface, point.index, point.direction) = ("veth2".to_owned(), 6, Some(Direction::Out));
    lab.job.points.push(point);
    for id in 0..100 {
        let packet = Packet::udp(id, 100);
        let mut flow = packet.flow((0, 0), false);
        flow.destination = "10.244.0.11".parse().unwrap();
        lab.see(0, flow, packet.row, T0 + i64::from(id) * MILLI);
        if id % 4 != 0 {
            lab.see(8, flow, packet.row, T0 + i64::from(id) * MILLI + 10 * MICRO);
        }
    }
    let outcome = lab.run();
    assert_eq!(outcome.report.paths[0].hops.len(), 2);
    assert_eq!(leg(&outcome), ("a veth → a veth2".to_owned(), 25));
}

#[test]
fn packets_that_leave_the_fabric_end_at_the_last_certain_point() {
    let mut lab = Lab::new(2);
    let mut default = lab.job.nodes[0].topology.routes[1];
    default.destination = "0.0.0.0/0".parse().unwrap();
    lab.job.nodes[0].topology.routes.push(default);
    for id in 0..100 {
        let packet = Packet::udp(id, 100);
        let mut flow = packet.flow((0, 1), false);
        flow.destination = "198.51.100.7".parse().unwrap();
        let time = T0 + i64::from(id) * MILLI;
        lab.see(0, flow, packet.row, time);
        lab.see(2, flow, packet.row, time + 10 * MICRO);
        // Masqueraded: under another tuple beyond.
        flow.source = underlay(0);
        lab.see(7, flow, packet.row, time + 20 * MICRO);
    }
    let outcome = lab.run();
    assert_eq!(outcome.report.totals.lost, 0);
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

#[test]
fn one_point_compares_nothing_and_no_packet_says_why() {
    let mut lab = Lab::new(1);
    lab.job.points.truncate(1);
    let nothing = lab.run();
    assert_eq!(nothing.report.verdict, Verdict::Inconclusive);
    assert!(nothing.report.notes[0].contains("no packet passed"), "{:?}", nothing.report.notes);
    lab.send((0, 0), &Packet::udp(1, 100), T0, 1);
    let alone = lab.run();
    assert_eq!(alone.report.verdict, Verdict::Inconclusive);
    assert!(alone.report.notes[0].contains("one point only"), "{:?}", alone.report.notes);
}

#[test]
fn views_choose_paths_and_thresholds_without_touching_the_report() {
    let mut lab = Lab::new(3);
    udp(&mut lab, 1000, 100, 4);
    lab.send((1, 2), &Packet::udp(5, 100), T0, ALL);
    let report = lab.run().report;
    let view = |from: Option<&str>, to: Option<&str>, min_loss_ratio| {
        report.filtered(&ViewOptions {
            from: from.map(str::to_owned),
            to: to.map(str::to_owned),
            min_loss_ratio,
        })
    };
    assert_eq!(view(None, None, None), report);
    assert_eq!(view(Some("a"), None, None).totals.segments, 1000);
    assert_eq!(view(Some("10.244.1.10"), Some("c"), None).totals.segments, 1);
    assert_eq!(view(Some("b"), None, None).verdict, Verdict::Delivered);
    assert_eq!(view(None, None, Some(0.01)).verdict, Verdict::Lost);
    assert_eq!(view(None, None, Some(0.02)).verdict, Verdict::Delivered);
    assert_eq!(view(Some("c"), None, None).verdict, Verdict::Inconclusive);
}

#[test]
fn flow_records_tell_retransmissions_from_late_segments() {
    let mut lab = Lab::new(2);
    for (ip_id, seq, at) in [(1, 0, 0), (2, 2000, 1), (3, 1000, 2), (4, 0, 3), (5, 3000, 4)] {
        lab.send((0, 1), &Packet::tcp(ip_id, seq, 1000), T0 + at * MILLI, ALL);
    }
    let outcome = lab.run();
    for flow in &outcome.flows {
        assert_eq!((flow.retransmissions, flow.out_of_order, flow.segments), (1, 1, 5));
        assert_eq!((flow.minimum_ttl, flow.tcp_control_bits), (64, 0x10));
        assert!(flow.flow_start_nanos >= T0 && flow.flow_end_nanos <= T0 + 5 * MILLI);
    }
}

#[test]
fn a_veth_that_carries_the_tunnel_is_the_underlay_whatever_it_was_classified_as() {
    use lastseen_correlate::input::InterfaceKind;
    let mut lab = Lab::new(3);
    for node in 0..3 {
        lab.job.nodes[node].topology.interfaces[3].kind = InterfaceKind::PodVeth;
        for point in [6, 7] {
            lab.job.points[node * POINTS + point].kind = InterfaceKind::PodVeth;
        }
    }
    udp(&mut lab, 100, 10, 4);
    let outcome = lab.run();
    assert_eq!(leg(&outcome), ("a eth0 → b eth0".to_owned(), 10));
    assert_eq!(outcome.report.paths[0].hops[3].kind, InterfaceKind::Physical);
}

#[test]
fn points_that_the_user_did_not_name_are_not_on_the_path() {
    let mut lab = Lab::new(2);
    lab.job.points = [7, 14].map(|point| lab.job.points[point].clone()).to_vec();
    let mut correlator = lastseen_correlate::Correlator::new(lab.job.clone()).unwrap();
    for id in 0..100 {
        let packet = Packet::udp(id, 100);
        for (point, arrives) in [(0, true), (1, id % 10 != 0)] {
            let mut columns = lastseen_packet::observation::Columns::default();
            columns.flows.push(packet.flow((0, 1), true));
            let time_nanos = T0 + i64::from(id) * MILLI + point as i64 * MICRO;
            if arrives {
                columns.push(&Observation { time_nanos, ..packet.row });
            }
            correlator.add(point, whole(u64::from(arrives)), 0, &columns).unwrap();
        }
    }
    let outcome = correlator.finish().unwrap();
    assert_eq!(leg(&outcome), ("a eth0 → b eth0".to_owned(), 10));
    assert_eq!(outcome.report.paths[0].hops.len(), 2);
}
