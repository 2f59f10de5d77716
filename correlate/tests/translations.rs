//! Packets that get another tuple on their way.
#![allow(missing_docs)]

mod lab;

use std::net::IpAddr;

use lab::*;
use lastseen_correlate::report::{PathReport, Verdict};
use lastseen_correlate::{Outcome, Translation};
use lastseen_packet::observation::{FlowKey, protocol};
use proptest::collection::vec;
use proptest::prelude::*;

const SERVICE: &str = "10.96.0.10";

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A tuple of each hop of a path.
type Tuples<'t> = &'t dyn Fn(usize, FlowKey) -> FlowKey;

/// A service: its address at the pod's veth, the backend's from hop `at` on.
fn to_service(at: usize) -> impl Fn(usize, FlowKey) -> FlowKey {
    move |hop, flow| {
        let (destination, destination_port) =
            if hop < at { (address(SERVICE), 53) } else { (flow.destination, 5353) };
        FlowKey { destination, destination_port, ..flow }
    }
}

/// What the pods answer: the backend's address up to hop `at`, then the service's.
fn from_service(at: usize) -> impl Fn(usize, FlowKey) -> FlowKey {
    move |hop, flow| {
        let (source, port) = if hop < at { (flow.source, 5353) } else { (address(SERVICE), 53) };
        FlowKey { source, source_port: port, destination_port: 40_000, ..flow }
    }
}

/// Sends a packet that has the tuple of `tuples` at each hop of `mask`.
fn send(lab: &mut Lab, ends: (usize, usize), packet: &Packet, time: i64, mask: u32, tuples: Tuples<'_>) {
    for (hop, point) in Lab::path(ends.0, ends.1).into_iter().enumerate() {
        if mask & 1 << hop != 0 {
            let flow = tuples(hop, packet.flow(ends, hop == 3 || hop == 4));
            let delay = hop as i64 * 10 * MICRO + if hop >= 4 { 200 * MICRO } else { 0 };
            lab.see(point, flow, packet.row, time + delay);
        }
    }
}

fn datagram(id: u32) -> Packet {
    Packet { ports: (40_000, 53), ..Packet::udp(id, 100) }
}

/// `count` datagrams, of which every `nth` gets no further than hop `end`.
fn datagrams(lab: &mut Lab, count: u32, nth: u32, end: usize, tuples: Tuples<'_>) {
    for id in 1..=count {
        let mask = if nth != 0 && id % nth == 0 { up_to(end) } else { ALL };
        send(lab, (0, 1), &datagram(id), T0 + i64::from(id) * MILLI, mask, tuples);
    }
}

fn only(outcome: &Outcome) -> &PathReport {
    assert_sums(outcome);
    let used: Vec<_> = outcome.report.paths.iter().filter(|path| path.totals.segments > 0).collect();
    assert_eq!(used.len(), 1, "{used:#?}");
    used[0]
}

fn tuples_of(path: &PathReport) -> Vec<(String, String, Option<String>)> {
    let later =
        path.translations.iter().map(|one| (one.source.clone(), one.destination.clone(), one.node.clone()));
    [(path.source.clone(), path.destination.clone(), None)].into_iter().chain(later).collect()
}

fn named(source: &str, destination: &str, node: Option<&str>) -> (String, String, Option<String>) {
    (source.to_owned(), destination.to_owned(), node.map(ToOwned::to_owned))
}

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

/// A flow that has nothing to do with any other, but may look like it.
#[derive(Clone, Debug)]
struct Stranger {
    ends: (usize, usize),
    protocol: u8,
    ports: (u16, u16),
    first: u16,
    count: u16,
    payload: u32,
    has_id: bool,
    mask: u32,
}

fn stranger() -> impl Strategy<Value = Stranger> {
    let tuple = (
        (0..4_usize, 0..4_usize),
        prop_oneof![Just(protocol::TCP), Just(protocol::UDP), Just(protocol::ICMP)],
        (prop_oneof![Just(40_000_u16), Just(40_001), Just(5353)], prop_oneof![Just(53_u16), Just(40_000)]),
    );
    let packets = (0..3_000_u16, 1..60_u16, prop_oneof![Just(0_u32), Just(64)], any::<bool>());
    // Any part of the way, so that some begin where others end.
    let part = (0..HOPS, 1..=HOPS).prop_map(|(from, length)| (up_to(length) << from) & ALL);
    (tuple, packets, part).prop_map(|((ends, protocol, ports), (first, count, payload, has_id), mask)| {
        Stranger { ends, protocol, ports, first, count, payload, has_id, mask }
    })
}

/// Pods, a service and a node.
fn host(index: usize) -> IpAddr {
    [pod(0), pod(1), address(SERVICE), underlay(0)][index]
}

impl Stranger {
    /// Sends at the same pace as all strangers, with the same payload; only its counters are its own.
    fn send(&self, lab: &mut Lab, index: u16) {
        let first = index * 4_000 + self.first + 1;
        for number in 0..self.count {
            let mut packet = match self.protocol {
                protocol::TCP => {
                    let seq = (u32::from(first) << 16).wrapping_add(u32::from(number) * self.payload);
                    Packet::tcp(first + number, seq, self.payload)
                }
                _ => {
                    Packet { protocol: self.protocol, ..Packet::udp(u32::from(first + number), self.payload) }
                }
            };
            packet.row.transport_hash = 5;
            packet.row.ip_id = if self.has_id { packet.row.ip_id } else { 0 };
            let (source, destination) = (host(self.ends.0), host(self.ends.1));
            let (source_port, destination_port) = self.ports;
            let tuples = move |_: usize, flow: FlowKey| FlowKey {
                source,
                destination,
                source_port,
                destination_port,
                ..flow
            };
            send(lab, (0, 1), &packet, T0 + i64::from(number) * MILLI, self.mask, &tuples);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn strangers_are_never_joined(strangers in vec(stranger(), 2..12)) {
        let mut lab = Lab::new(2);
        for (index, one) in strangers.iter().enumerate() {
            one.send(&mut lab, index as u16);
        }
        let outcome = lab.run();
        assert_sums(&outcome);
        for path in &outcome.report.paths {
            prop_assert_eq!(&path.translations, &vec![]);
        }
    }

    #[test]
    fn a_translation_changes_nothing_but_names(
        masks in vec(1..256_u32, 0..80),
        at in 1..HOPS,
        is_back in any::<bool>(),
    ) {
        let lab_of = |tuples: Tuples<'_>| {
            let mut lab = Lab::new(2);
            let whole = std::iter::repeat_n(ALL, 90);
            for (id, mask) in (1..).zip(masks.iter().copied().chain(whole)) {
                send(&mut lab, (0, 1), &datagram(id), T0 + i64::from(id) * MILLI, mask, tuples);
            }
            lab.run()
        };
        let translated = if is_back { lab_of(&from_service(at)) } else { lab_of(&to_service(at)) };
        let plain = lab_of(&|_, flow| flow);
        let (translated, plain) = (only(&translated), only(&plain));
        prop_assert_eq!(translated.totals, plain.totals);
        prop_assert_eq!(&translated.hops, &plain.hops);
        prop_assert_eq!(translated.translations.len(), 1);
        let losses = |path: &PathReport| {
            path.losses.iter().map(|loss| (loss.from.clone(), loss.to.clone(), loss.count)).collect::<Vec<_>>()
        };
        prop_assert_eq!(losses(translated), losses(plain));
    }
}
