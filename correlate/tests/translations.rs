//! Addresses that are replaced on the way: what packets prove of it.
#![allow(missing_docs)]

use crate::lab::*;
use crate::service::*;
use lastseen_correlate::Outcome;
use lastseen_correlate::report::Verdict;
use lastseen_packet::observation::FlowKey;

#[test]
fn a_service_is_one_path_wherever_its_address_is_replaced() {
    for at in [1, 2] {
        let mut lab = Lab::new(2);
        datagrams(&mut lab, 100, 0, 0, &to_service(at));
        let outcome = lab.run();
        let path = only(&outcome);
        assert_eq!(outcome.report.verdict, Verdict::Delivered, "{:?}", outcome.report.notes);
        assert_eq!((path.hops.len(), path.totals.delivered), (8, 100));
        assert!(path.hops.iter().all(|hop| hop.seen == 100));
        assert_eq!(
            tuples_of(path),
            [
                named("10.244.0.10:40000", "10.96.0.10:53", None),
                named("10.244.0.10:40000", "10.244.1.10:5353", Some("a"))
            ]
        );
    }
}

#[test]
fn a_loss_beyond_a_translation_is_on_its_leg() {
    let legs = [(2, "a cni0 → a flannel.1"), (4, "a eth0 → b eth0"), (6, "b flannel.1 → b cni0")];
    for (end, wanted) in legs {
        let mut lab = Lab::new(2);
        datagrams(&mut lab, 200, 10, end, &to_service(1));
        let outcome = lab.run();
        assert_eq!(leg(&outcome), (wanted.to_owned(), 20));
        assert_eq!(only(&outcome).totals.segments, 200);
        assert_eq!(outcome.lost[0].destination, "10.96.0.10:53");
    }
}

#[test]
fn a_total_black_hole_beyond_a_translation_is_on_its_leg() {
    let mut lab = Lab::new(2);
    datagrams(&mut lab, 100, 1, 5, &to_service(1));
    let outcome = lab.run();
    assert_eq!(leg(&outcome), ("b eth0 → b flannel.1".to_owned(), 100));
}

#[test]
fn destination_and_source_are_replaced_on_one_path() {
    let node = FlowKey { source: subnet(0), source_port: 1024, ..FlowKey::UNSPECIFIED };
    let both = |first: usize, second: usize| {
        move |hop: usize, flow: FlowKey| {
            let flow = to_service(first)(hop, flow);
            let FlowKey { source, source_port, .. } = node;
            if hop < second { flow } else { FlowKey { source, source_port, ..flow } }
        }
    };
    for (first, wanted) in [(1, 3), (2, 2)] {
        let mut lab = Lab::new(2);
        datagrams(&mut lab, 100, 10, 6, &both(first, 2));
        let outcome = lab.run();
        assert_eq!(leg(&outcome), ("b flannel.1 → b cni0".to_owned(), 10));
        let tuples = tuples_of(only(&outcome));
        assert_eq!(tuples.len(), wanted, "{tuples:?}");
        assert_eq!(tuples[wanted - 1], named("10.244.0.0:1024", "10.244.1.10:5353", Some("a")));
    }
}

#[test]
fn masqueraded_packets_are_followed_to_another_node() {
    let mut lab = Lab::new(2);
    // From the pod by its veth, cni0 and eth0 into the eth0 of the other node, which is the destination.
    let way = [(0, false), (2, false), (7, true), (POINTS + 6, true)];
    for id in 1..=100 {
        let packet = datagram(id);
        let reach = if id % 5 == 0 { 3 } else { 4 };
        for (hop, &(point, is_masqueraded)) in way.iter().enumerate().take(reach) {
            let flow = FlowKey { destination: underlay(1), ..packet.flow((0, 1), false) };
            let masqueraded = FlowKey { source: underlay(0), ..flow };
            let time = T0 + i64::from(id) * MILLI + hop as i64 * 10 * MICRO;
            lab.see(point, if is_masqueraded { masqueraded } else { flow }, packet.row, time);
        }
    }
    let outcome = lab.run();
    assert_eq!(leg(&outcome), ("a eth0 → b eth0".to_owned(), 20));
    let path = only(&outcome);
    assert_eq!(path.totals.delivered, 80);
    let wanted = [
        named("10.244.0.10:40000", "192.168.0.2:53", None),
        named("192.168.0.1:40000", "192.168.0.2:53", Some("a")),
    ];
    assert_eq!(tuples_of(path), wanted);
}

#[test]
fn answers_from_another_node_take_the_way_of_the_tuple_they_have() {
    let mut lab = Lab::new(2);
    // Out of the other node's eth0 to the address of this one, and from there to the pod.
    let way = [(POINTS + 7, true), (6, true), (3, false), (1, false)];
    for id in 1..=100 {
        let packet = datagram(id);
        let reach = if id % 5 == 0 { 2 } else { 4 };
        for (hop, &(point, is_masqueraded)) in way.iter().enumerate().take(reach) {
            let flow = packet.flow((1, 0), false);
            let flow = FlowKey { source: underlay(1), source_port: 53, destination_port: 40_000, ..flow };
            let masqueraded = FlowKey { destination: underlay(0), ..flow };
            let time = T0 + i64::from(id) * MILLI + hop as i64 * 10 * MICRO;
            lab.see(point, if is_masqueraded { masqueraded } else { flow }, packet.row, time);
        }
    }
    let outcome = lab.run();
    assert_eq!(leg(&outcome), ("a eth0 → a cni0".to_owned(), 20));
    let path = only(&outcome);
    let hops: Vec<_> = path.hops.iter().map(|hop| format!("{} {}", hop.node, hop.interface)).collect();
    assert_eq!(hops, ["b eth0", "a eth0", "a cni0", "a veth"]);
}

#[test]
fn answers_follow_what_they_answer() {
    let mut lab = Lab::new(2);
    datagrams(&mut lab, 20, 0, 0, &to_service(1));
    // Two empty datagrams with one identity prove nothing by themselves.
    for id in 0..2 {
        let mut empty = Packet::udp(0, 0);
        empty.row.transport_hash = 7;
        send(&mut lab, (1, 0), &empty, T0 + SECOND + id * 500 * MILLI, ALL, &from_service(6));
    }
    let outcome = lab.run();
    assert_sums(&outcome);
    assert_eq!(outcome.report.verdict, Verdict::Delivered, "{:#?}", outcome.report);
    assert_eq!((outcome.report.paths.len(), outcome.report.totals.delivered), (2, 22));
    let back = &outcome.report.paths[1];
    assert_eq!(
        tuples_of(back),
        [
            named("10.244.1.10:5353", "10.244.0.10:40000", None),
            named("10.96.0.10:53", "10.244.0.10:40000", Some("a"))
        ]
    );
}

#[test]
fn too_little_to_prove_a_translation_is_no_loss() {
    let mut lab = Lab::new(2);
    let mut empty = Packet::udp(0, 0);
    empty.row.transport_hash = 7;
    send(&mut lab, (0, 1), &empty, T0 + SECOND, ALL, &to_service(1));
    send(&mut lab, (1, 0), &empty, T0 + 2 * SECOND, ALL, &from_service(6));
    let outcome = lab.run();
    assert_sums(&outcome);
    let totals = outcome.report.totals;
    assert_eq!((totals.lost, outcome.report.verdict), (0, Verdict::Inconclusive), "{:#?}", outcome.report);
    assert!(outcome.report.paths.iter().all(|path| path.translations.is_empty()));
    assert!(
        outcome.report.notes.iter().any(|note| note.contains("translated")),
        "{:?}",
        outcome.report.notes
    );
}

#[test]
fn a_tuple_that_leads_to_two_backends_in_turn_loses_nothing() {
    let mut lab = Lab::new(3);
    for id in 1..=100 {
        let backend = if id <= 50 { 1 } else { 2 };
        send(&mut lab, (0, backend), &datagram(id), T0 + i64::from(id) * MILLI, ALL, &to_service(1));
    }
    let outcome = lab.run();
    assert_sums(&outcome);
    assert_eq!(outcome.report.totals.lost, 0, "{:#?}", outcome.report);
    assert!(outcome.report.paths.iter().all(|path| path.translations.is_empty()));
}

/// Two pods that send the same datagrams without IP-ID to a service, masqueraded with a port for each. The second is on
/// node `second`.
fn look_alikes(second: usize) -> Outcome {
    let mut lab = Lab::new(3);
    for id in 1..=100 {
        for sender in 0..2 {
            let node = sender * second;
            let mut packet = datagram(id);
            packet.row.ip_id = 0;
            let tuples = move |hop: usize, flow: FlowKey| {
                let flow = to_service(2)(hop, flow);
                let pod = address(["10.244.0.10", "10.244.0.11"][sender]);
                let (source, source_port) =
                    if hop < 2 { (pod, 40_000) } else { (subnet(node), 1024 + sender as u16) };
                FlowKey { source, source_port, ..flow }
            };
            send(&mut lab, (node, 2), &packet, T0 + i64::from(id) * MILLI, ALL, &tuples);
        }
    }
    let outcome = lab.run();
    assert_sums(&outcome);
    assert_eq!(outcome.report.totals.lost, 0, "{:#?}", outcome.report);
    outcome
}

#[test]
fn senders_that_look_alike_are_told_apart_by_the_node_that_translates() {
    let outcome = look_alikes(1);
    assert_eq!(outcome.report.paths.len(), 2);
    for path in &outcome.report.paths {
        let node = &path.hops[0].node;
        let source = if node == "a" { "10.244.0.0:1024" } else { "10.244.1.0:1025" };
        assert_eq!(tuples_of(path)[1], named(source, "10.244.2.10:5353", Some(node)));
        assert_eq!(path.totals.delivered, 100);
    }
}

#[test]
fn senders_that_look_alike_on_one_node_are_not_told_apart_by_guessing() {
    let outcome = look_alikes(0);
    assert_eq!(outcome.report.paths.len(), 4);
    assert!(outcome.report.paths.iter().all(|path| path.translations.is_empty()));
}
