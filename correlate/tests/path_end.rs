//! Where a path ends when the receiving pod's own interface is not captured.
#![allow(missing_docs)]

use crate::lab::*;
use lastseen_correlate::Outcome;
use lastseen_correlate::input::CaptureState;
use lastseen_correlate::report::Verdict;
use lastseen_correlate::topology::Topology;

/// Points of the receiving node's veth.
const RECEIVING_VETH: [usize; 2] = [POINTS, POINTS + 1];

/// Sends 100 datagrams, every tenth no further than the sender's underlay device, and captures without `left_out`.
fn run_without(lab: &Lab, left_out: impl Fn(usize) -> bool) -> Outcome {
    let mut traffic = lab.clone();
    for id in 0..100 {
        let mask = if id % 10 == 0 { up_to(4) } else { ALL };
        traffic.send((0, 1), &Packet::udp(id, 100), T0 + i64::from(id) * MILLI, mask);
    }
    let kept: Vec<usize> = (0..lab.job.points.len()).filter(|&point| !left_out(point)).collect();
    let mut job = lab.job.clone();
    job.points = kept.iter().map(|&point| lab.job.points[point].clone()).collect();
    let batches = traffic.batches().into_iter().filter_map(|(point, slice, columns)| {
        Some((kept.iter().position(|&other| other == point)?, slice, columns))
    });
    let outcome = run(job, batches.collect());
    assert_sums(&outcome);
    outcome
}

fn counts(outcome: &Outcome) -> (u64, u64, u64) {
    let totals = outcome.report.totals;
    (totals.delivered, totals.lost, totals.not_observable)
}

/// A second pod on the receiving node, whose veth is captured.
fn with_neighbour(mut lab: Lab) -> Lab {
    let mut veth = lab.job.nodes[1].topology.interfaces[0].clone();
    (veth.index, veth.name, veth.peer_index) = (6, "veth2".to_owned(), None);
    lab.job.nodes[1].topology.interfaces.push(veth);
    for point in RECEIVING_VETH {
        let mut point = lab.job.points[point].clone();
        (point.interface, point.index) = ("veth2".to_owned(), 6);
        lab.job.points.push(point);
    }
    lab
}

#[test]
fn a_veth_beyond_the_limit_leaves_its_packets_not_observable() {
    let outcome = run_without(&with_neighbour(Lab::new(2)), |point| RECEIVING_VETH.contains(&point));
    assert_eq!((counts(&outcome), outcome.report.verdict), ((0, 10, 90), Verdict::Lost));
    assert!(
        outcome.report.notes.iter().any(|note| note.contains("b cni0") && note.contains("--interfaces")),
        "{:?}",
        outcome.report.notes
    );
}

#[test]
fn a_pod_that_the_snapshot_does_not_have_yet_is_somewhere_behind_the_bridge() {
    for has_neighbour in [false, true] {
        let mut lab = Lab::new(2);
        lab.job.nodes[1].topology.interfaces.retain(|i| i.is_host() && i.name != "veth");
        let lab = if has_neighbour { with_second_only(lab) } else { lab };
        let outcome = run_without(&lab, |point| RECEIVING_VETH.contains(&point));
        assert_eq!(counts(&outcome), (0, 10, 90));
    }
}

fn with_second_only(mut lab: Lab) -> Lab {
    let with = with_neighbour(Lab::new(2));
    lab.job.nodes[1].topology.interfaces.push(with.job.nodes[1].topology.interfaces.last().unwrap().clone());
    lab.job.points = with.job.points;
    lab
}

#[test]
fn named_interfaces_are_judged_to_the_last_of_them() {
    let is_veth = |point: usize| point.is_multiple_of(POINTS) || point % POINTS == 1;
    let is_nic = |point: usize| point % POINTS >= 6;
    for left_out in [&is_veth as &dyn Fn(usize) -> bool, &|point| !is_nic(point)] {
        let mut lab = Lab::new(2);
        assert_eq!(counts(&run_without(&lab, left_out)), (0, 10, 90), "auto meant the veths too");
        lab.job.named_interfaces = true;
        let outcome = run_without(&lab, left_out);
        assert_eq!(counts(&outcome), (90, 10, 0), "{:?}", outcome.report.notes);
        assert!(!outcome.report.notes.iter().any(|note| note.contains("not captured")));
    }
}

#[test]
fn the_named_interface_of_one_pod_asks_nothing_of_the_others() {
    let mut lab = with_neighbour(Lab::new(2));
    lab.job.named_interfaces = true;
    let is_nic_or_veth2 = |point: usize| point % POINTS >= 6 || point >= 2 * POINTS;
    let outcome = run_without(&lab, |point| !is_nic_or_veth2(point));
    assert_eq!(counts(&outcome), (90, 10, 0), "{:?}", outcome.report.notes);
    lab.job.named_interfaces = false;
    assert_eq!(counts(&run_without(&lab, |point| !is_nic_or_veth2(point))), (0, 10, 90));
}

#[test]
fn a_node_that_could_not_be_armed_hides_what_became_of_its_packets() {
    let mut lab = Lab::new(2);
    lab.job.nodes[1].state = CaptureState::Failed;
    let outcome = run_without(&lab, |point| point >= POINTS);
    assert_eq!((counts(&outcome), outcome.report.verdict), ((0, 0, 100), Verdict::Inconclusive));
    let notes = outcome.report.notes.join("\n");
    assert!(notes.contains("b did not complete") && !notes.contains("--interfaces"), "{notes}");
}

#[test]
fn a_node_is_its_own_end() {
    let mut lab = Lab::new(2);
    let node_address = lab.job.nodes[1].topology.interfaces[1].addresses[0].address;
    for id in 0..10 {
        let packet = Packet::udp(id, 100);
        for (hop, point) in Lab::path(0, 1).into_iter().enumerate().take(6) {
            let mut flow = packet.flow((0, 1), hop == 3 || hop == 4);
            flow.destination = node_address;
            lab.see(point, flow, packet.row, T0 + i64::from(id) * MILLI + hop as i64 * 10 * MICRO);
        }
    }
    assert_eq!(counts(&lab.run()), (10, 0, 0));
}

#[test]
fn a_node_without_a_snapshot_has_its_pods_somewhere() {
    let mut lab = Lab::new(2);
    lab.job.nodes[1].topology = Topology::default();
    let outcome = run_without(&lab, |point| RECEIVING_VETH.contains(&point));
    assert_eq!(counts(&outcome), (0, 10, 90));
    assert_eq!(counts(&run_without(&lab, |_| false)), (90, 10, 0));
}
