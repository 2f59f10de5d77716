//! What a report says of packets whose fate is known.
#![allow(missing_docs)]

use crate::lab::*;
use lastseen_correlate::ViewOptions;
use lastseen_correlate::input::Direction;
use lastseen_correlate::report::Verdict;
use lastseen_correlate::topology::RouteType;
use lastseen_packet::observation::Observation;

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
