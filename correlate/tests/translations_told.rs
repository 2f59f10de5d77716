//! Addresses that are replaced on the way: what connection tracking proves of it, and what is said where nothing does.
#![allow(missing_docs)]

use std::net::IpAddr;

use crate::lab::*;
use crate::service::*;
use lastseen_correlate::report::Verdict;
use lastseen_correlate::{Outcome, Translation};
use lastseen_packet::observation::FlowKey;

#[test]
fn connection_tracking_proves_what_packets_cannot() {
    let mut lab = Lab::new(2);
    let empty = Packet { ports: (40_000, 53), ..Packet::udp(0, 0) };
    send(&mut lab, (0, 1), &empty, T0 + SECOND, ALL, &to_service(1));
    send(&mut lab, (1, 0), &empty, T0 + 2 * SECOND, ALL, &from_service(6));
    let flow = empty.flow((0, 1), false);
    let original = to_service(1)(0, flow);
    let reply =
        FlowKey { source: pod(1), destination: pod(0), source_port: 5353, destination_port: 40_000, ..flow };
    lab.job.nodes[0].translations = vec![Translation { original, reply }];
    let outcome = lab.run();
    assert_sums(&outcome);
    assert_eq!(
        (outcome.report.totals.delivered, outcome.report.paths.len()),
        (2, 2),
        "{:#?}",
        outcome.report
    );
}

/// What node `a` tells of the datagrams to the service: `to` is their destination beyond, `from` their source.
fn told(from: (IpAddr, u16), to: (IpAddr, u16)) -> Translation {
    let original = to_service(1)(0, datagram(1).flow((0, 1), false));
    let reply = FlowKey {
        source: to.0,
        source_port: to.1,
        destination: from.0,
        destination_port: from.1,
        ..original
    };
    Translation { original, reply }
}

/// A hundred datagrams to the service of which the node's bridge is the last to see any.
fn vanishing(translations: Vec<Translation>) -> Outcome {
    let mut lab = Lab::new(3);
    lab.job.nodes[0].translations = translations;
    datagrams(&mut lab, 100, 1, 2, &to_service(2));
    lab.run()
}

fn states(outcome: &Outcome) -> (u64, u64, u64, Verdict) {
    let totals = only(outcome).totals;
    (totals.delivered, totals.lost, totals.not_observable, outcome.report.verdict)
}

#[test]
fn connection_tracking_names_the_tuple_that_nothing_was_seen_of() {
    let outcome = vanishing(vec![told((pod(0), 40_000), (pod(1), 5353))]);
    assert_eq!(leg(&outcome), ("a cni0 → a flannel.1".to_owned(), 100));
    let path = only(&outcome);
    assert_eq!((path.hops.len(), path.hops[7].node.as_str()), (8, "b"));
    let service = named("10.244.0.10:40000", "10.96.0.10:53", None);
    assert_eq!(tuples_of(path), [service.clone(), named("10.244.0.10:40000", "10.244.1.10:5353", Some("a"))]);
    let outcome = vanishing(vec![told((subnet(0), 1024), (pod(1), 5353))]);
    assert_eq!(leg(&outcome), ("a cni0 → a flannel.1".to_owned(), 100));
    assert_eq!(tuples_of(only(&outcome)), [service, named("10.244.0.0:1024", "10.244.1.10:5353", Some("a"))]);
}

#[test]
fn what_a_node_takes_itself_behind_a_service_is_delivered_to_it() {
    let outcome = vanishing(vec![told((pod(0), 40_000), (underlay(0), 6443))]);
    assert_eq!((states(&outcome), only(&outcome).hops.len()), ((100, 0, 0, Verdict::Delivered), 2));
}

#[test]
fn what_may_have_been_translated_and_left_no_trace_is_not_observable() {
    let backends = [1, 2].map(|node| told((pod(0), 40_000), (pod(node), 5353)));
    let nobodys = told((pod(0), 40_000), (address("172.31.0.1"), 5353));
    for translations in [Vec::new(), backends.to_vec(), vec![nobodys]] {
        let outcome = vanishing(translations);
        assert_eq!(states(&outcome), (0, 0, 100, Verdict::Inconclusive), "{:#?}", outcome.report);
        let is_said = |note: &String| note.contains("last seen at cni0") && note.contains("translated");
        assert!(outcome.report.notes.iter().any(is_said), "{:?}", outcome.report.notes);
    }
}

#[test]
fn what_a_service_answers_was_delivered_to_it() {
    let mut lab = Lab::new(2);
    datagrams(&mut lab, 100, 1, 2, &to_service(2));
    let answer = Packet { ports: (53, 40_000), ..Packet::udp(7, 20) };
    send(&mut lab, (1, 0), &answer, T0 + SECOND, ALL & !up_to(6), &from_service(6));
    let outcome = lab.run();
    assert_eq!((outcome.report.totals.delivered, outcome.report.totals.not_observable), (101, 0));
}

#[test]
fn answers_that_vanish_once_they_are_translated_back_are_lost_there() {
    let mut lab = Lab::new(2);
    lab.job.nodes[0].translations = vec![told((subnet(0), 1024), (pod(1), 5353))];
    let answers = |_: usize, flow: FlowKey| FlowKey {
        source: pod(1),
        source_port: 5353,
        destination: subnet(0),
        destination_port: 1024,
        ..flow
    };
    for id in 1..=100 {
        send(&mut lab, (1, 0), &datagram(id), T0 + i64::from(id) * MILLI, up_to(6), &answers);
    }
    let outcome = lab.run();
    assert_eq!(leg(&outcome), ("a flannel.1 → a cni0".to_owned(), 100));
    assert_eq!(tuples_of(only(&outcome))[1], named("10.96.0.10:53", "10.244.0.10:40000", Some("a")));
}

#[test]
fn one_segment_of_tcp_proves_a_translation() {
    let mut lab = Lab::new(2);
    let packet = Packet { ports: (40_000, 80), ..Packet::tcp(77, 0x5eed_0001, 0) };
    send(&mut lab, (0, 1), &packet, T0 + SECOND, up_to(6), &to_service(1));
    let outcome = lab.run();
    assert_eq!(leg(&outcome), ("b flannel.1 → b cni0".to_owned(), 1));
}

#[test]
fn what_goes_to_a_service_behind_a_filter_is_not_observable_beyond_the_last_point() {
    for end in [1, 2] {
        let mut lab = Lab::new(2);
        lab.job.filter = format!("host {SERVICE}");
        datagrams(&mut lab, 100, 1, end, &to_service(8));
        let outcome = lab.run();
        let path = only(&outcome);
        assert_eq!((path.totals.not_observable, path.totals.lost), (100, 0), "{:?}", outcome.report.notes);
    }
}

/// Keeps what `host` of the pod of node `a` matches.
fn filtered(lab: &mut Lab, tuples: Tuples<'_>, ends: (usize, usize), kept: IpAddr) {
    for id in 1..=100 {
        let packet = datagram(id);
        let is_kept = |hop: &usize| {
            let flow = tuples(*hop, packet.flow(ends, false));
            flow.source == kept || flow.destination == kept
        };
        let mask = (0..HOPS).filter(is_kept).fold(0, |mask, hop| mask | 1 << hop);
        send(lab, ends, &packet, T0 + i64::from(id) * MILLI, mask, tuples);
    }
}

#[test]
fn a_filter_that_ends_at_a_translation_loses_nothing() {
    let masqueraded = |hop: usize, flow: FlowKey| {
        let flow = to_service(1)(hop, flow);
        if hop < 2 { flow } else { FlowKey { source: subnet(0), ..flow } }
    };
    let cases: [(Tuples<'_>, Tuples<'_>, usize); 2] =
        [(&masqueraded, &from_service(5), 0), (&to_service(1), &from_service(6), 1)];
    for (there, back, kept) in cases {
        let mut lab = Lab::new(2);
        lab.job.filter = format!("host {}", pod(kept));
        filtered(&mut lab, there, (0, 1), pod(kept));
        filtered(&mut lab, back, (1, 0), pod(kept));
        let outcome = lab.run();
        assert_sums(&outcome);
        assert_eq!(outcome.report.totals.lost, 0, "{:#?}", outcome.report);
        assert!(outcome.report.totals.not_observable >= 100);
        assert_eq!(outcome.report.verdict, Verdict::Inconclusive);
    }
}

#[test]
fn a_filter_hides_no_loss_where_nothing_is_translated() {
    let mut lab = Lab::new(2);
    lab.job.filter = format!("host {}", pod(0));
    datagrams(&mut lab, 100, 1, 2, &|_, flow| flow);
    assert_eq!(leg(&lab.run()), ("a cni0 → a flannel.1".to_owned(), 100));
}
