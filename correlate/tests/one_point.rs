//! What was seen at one point only, and what nobody can follow further, is never called delivered.
#![allow(missing_docs)]

use crate::lab::*;
use lastseen_correlate::Outcome;
use lastseen_correlate::report::{PathReport, SegmentTotals, Verdict};

/// Points of a node: into and out of its veth, into its bridge.
const VETH_IN: usize = 0;
const VETH_OUT: usize = 1;
const BRIDGE_IN: usize = 2;

/// Ten packets to an address nobody has, at `points` of the first node.
fn stray(lab: &mut Lab, points: &[usize]) {
    for id in 0..10 {
        let packet = Packet { ports: (5353, 5353), ..Packet::udp(id, 100) };
        let mut flow = packet.flow((0, 1), false);
        (flow.source, flow.destination) = ("203.0.113.9".parse().unwrap(), "224.0.0.251".parse().unwrap());
        for &point in points {
            lab.see(point, flow, packet.row, T0 + i64::from(id) * MILLI);
        }
    }
}

fn clean(lab: &mut Lab) {
    for id in 0..100 {
        lab.send((0, 1), &Packet::udp(id, 100), T0 + i64::from(id) * MILLI, ALL);
    }
}

fn path_from<'o>(outcome: &'o Outcome, port: &str) -> &'o PathReport {
    outcome.report.paths.iter().find(|path| path.source.ends_with(port)).unwrap()
}

fn has_note(outcome: &Outcome, words: &str) -> bool {
    outcome.report.notes.iter().any(|note| note.contains(words))
}

#[test]
fn packets_of_unknown_order_are_listed_and_not_judged() {
    let mut lab = Lab::new(2);
    // Flooded: several points of one role saw them.
    stray(&mut lab, &[VETH_OUT, POINTS + VETH_OUT]);
    let alone = lab.run();
    assert_eq!(
        (alone.report.verdict, alone.report.totals),
        (Verdict::Inconclusive, SegmentTotals::default())
    );
    assert!(has_note(&alone, "captured at one point only"), "{:?}", alone.report.notes);
    clean(&mut lab);
    let beside = lab.run();
    assert_sums(&beside);
    assert_eq!((beside.report.verdict, beside.report.totals.segments), (Verdict::Delivered, 100));
    let path = path_from(&beside, ":5353");
    assert_eq!((path.totals, path.hops.len(), path.hops[0].seen), (SegmentTotals::default(), 1, 10));
    assert!(has_note(&beside, "10 segments were seen at one point only"), "{:?}", beside.report.notes);
}

#[test]
fn packets_whose_points_have_an_order_arrive_at_the_last() {
    let mut lab = Lab::new(2);
    stray(&mut lab, &[VETH_IN, BRIDGE_IN]);
    let outcome = lab.run();
    assert_eq!((outcome.report.totals.delivered, outcome.report.verdict), (10, Verdict::Delivered));
}

#[test]
fn one_point_between_two_known_nodes_is_not_observable_at_either() {
    for at in [0, HOPS - 1] {
        let mut lab = Lab::new(2);
        clean(&mut lab);
        let point = Lab::path(0, 1)[at];
        let mut job = lab.job.clone();
        job.points = vec![lab.job.points[point].clone()];
        let batches = lab.batches().into_iter().filter(|(of, ..)| *of == point);
        let outcome = run(job, batches.map(|(_, slice, rows)| (0, slice, rows)).collect());
        assert_sums(&outcome);
        assert_eq!((outcome.report.totals.not_observable, outcome.report.totals.delivered), (100, 0), "{at}");
        assert_eq!(outcome.report.verdict, Verdict::Inconclusive);
    }
}

/// Two tunnels, and no route that says which of them leads to the other node's pods.
fn without_a_tenant() -> Lab {
    let mut lab = Lab::new(2);
    for node in &mut lab.job.nodes {
        let topology = &mut node.topology;
        let mut second = topology.interfaces[2].clone();
        (second.index, second.name) = (30, "flannel.2".to_owned());
        second.overlay.as_mut().unwrap().id = 2;
        topology.interfaces.push(second);
        topology.routes.retain(|route| route.output_index != Some(3));
        let mut default = topology.routes[1];
        default.destination = "0.0.0.0/0".parse().unwrap();
        topology.routes.push(default);
    }
    lab
}

#[test]
fn packets_to_a_pod_of_no_known_tenant_are_not_observable_beyond_their_bridge() {
    let mut lab = without_a_tenant();
    for id in 0..100 {
        lab.send((0, 1), &Packet::udp(id, 100), T0 + i64::from(id) * MILLI, up_to(2));
    }
    let outcome = lab.run();
    assert_sums(&outcome);
    let totals = outcome.report.totals;
    assert_eq!((totals.not_observable, totals.delivered), (100, 0));
    assert_eq!(outcome.report.verdict, Verdict::Inconclusive);
    assert!(has_note(&outcome, "a cni0: some packets to pods"), "{:?}", outcome.report.notes);
}

#[test]
fn packets_that_leave_a_fabric_of_tenants_arrive_at_the_last_certain_point() {
    let mut lab = without_a_tenant();
    for id in 0..100 {
        let packet = Packet::udp(id, 100);
        let mut flow = packet.flow((0, 1), false);
        flow.destination = "198.51.100.7".parse().unwrap();
        for point in [VETH_IN, BRIDGE_IN] {
            lab.see(point, flow, packet.row, T0 + i64::from(id) * MILLI);
        }
    }
    let outcome = lab.run();
    assert_eq!((outcome.report.totals.delivered, outcome.report.verdict), (100, Verdict::Delivered));
}
