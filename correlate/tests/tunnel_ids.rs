//! Two nodes that disagree on a tunnel id, whatever their snapshots say and whenever they were taken.
#![allow(missing_docs)]

use crate::lab::*;
use lastseen_correlate::Outcome;
use lastseen_correlate::report::{Cause, Loss};
use lastseen_correlate::topology::Topology;

/// What a misconfigured node uses instead of 1.
const WRONG: u32 = 77;
/// Interface index of a tunnel device that was made anew.
const NEW_INDEX: u32 = 30;
/// Where the tunnel device is among the interfaces of a node.
const OVERLAY: usize = 2;

/// Sends `count` datagrams from pod to pod with `vni` up to hop `end`, the first at `millis`.
fn send(lab: &mut Lab, ends: (usize, usize), vni: u32, millis: u32, count: u32, end: usize) {
    for id in millis..millis + count {
        let packet = Packet { vni, ..Packet::udp(id, 100) };
        lab.send(ends, &packet, T0 + i64::from(id) * MILLI, up_to(end));
    }
}

/// The node's tunnel device was made anew after its snapshot: the points know the new index.
fn outdate(lab: &mut Lab, node: usize) {
    for point in [4, 5] {
        lab.job.points[node * POINTS + point].index = NEW_INDEX;
    }
}

/// The node's tunnel device was being made anew when the snapshot was taken: it and all that led into it are missing.
fn catch_between(lab: &mut Lab, node: usize) {
    outdate(lab, node);
    let topology = &mut lab.job.nodes[node].topology;
    let overlay = topology.interfaces.remove(OVERLAY).index;
    topology.routes.retain(|route| route.output_index != Some(overlay));
    topology.neighbors.retain(|neighbor| neighbor.index != overlay);
    topology.forwarding.retain(|entry| entry.index != overlay);
}

/// The node's snapshot never came.
fn forget(lab: &mut Lab, node: usize) {
    lab.job.nodes[node].topology = Topology::default();
}

fn set_id(lab: &mut Lab, node: usize, id: u32) {
    lab.job.nodes[node].topology.interfaces[OVERLAY].overlay.as_mut().unwrap().id = id;
}

/// The only loss on the way from the pod of `from`, as `from → to`, count and cause.
fn loss_from(outcome: &Outcome, from: usize) -> (String, u64, Cause) {
    let start = format!("{}:", pod(from));
    let paths = outcome.report.paths.iter().filter(|path| path.source.starts_with(&start));
    let losses: Vec<&Loss> = paths.flat_map(|path| &path.losses).collect();
    let [loss] = losses[..] else { panic!("not one loss: {losses:#?}") };
    let to = loss.to.as_ref().unwrap();
    let leg = format!("{} {} → {} {}", loss.from.node, loss.from.interface, to.node, to.interface);
    (leg, loss.count, loss.cause.clone().unwrap())
}

fn assert_mismatch(outcome: &Outcome, from: usize, leg: &str, text: &str) {
    assert_sums(outcome);
    let (found, count, cause) = loss_from(outcome, from);
    assert_eq!(
        (found.as_str(), count, cause.code.as_ref(), cause.text.as_str()),
        (leg, 100, "vni_mismatch", text)
    );
}

#[test]
fn current_snapshots_name_both_ids() {
    for (wrong, vni, text) in
        [(1, 1, "sent with vni 1, b has vni 77"), (0, WRONG, "sent with vni 77, b has vni 1")]
    {
        let mut lab = Lab::new(3);
        set_id(&mut lab, wrong, WRONG);
        send(&mut lab, (0, 1), vni, 0, 100, 5);
        assert_mismatch(&lab.run(), 0, "b eth0 → b flannel.1", text);
    }
}

#[test]
fn an_outdated_snapshot_of_the_sender_changes_nothing() {
    let mut lab = Lab::new(3);
    outdate(&mut lab, 0);
    send(&mut lab, (0, 1), WRONG, 0, 100, 5);
    send(&mut lab, (0, 2), WRONG, 200, 100, 5);
    send(&mut lab, (2, 1), 1, 400, 100, HOPS);
    let outcome = lab.run();
    assert_eq!(outcome.report.paths.len(), 3);
    assert_eq!((outcome.report.totals.lost, outcome.report.totals.delivered), (200, 100));
    let path = outcome.report.paths.iter().find(|path| path.destination.starts_with("10.244.1.")).unwrap();
    let hops: Vec<_> =
        path.hops.iter().map(|hop| (hop.node.as_str(), hop.interface.as_str(), hop.seen)).collect();
    assert_eq!(
        hops[2..6],
        [("a", "flannel.1", 100), ("a", "eth0", 100), ("b", "eth0", 100), ("b", "flannel.1", 0)]
    );
    let mut alone = Lab::new(3);
    outdate(&mut alone, 0);
    send(&mut alone, (0, 1), WRONG, 0, 100, 5);
    assert_mismatch(&alone.run(), 0, "b eth0 → b flannel.1", "sent with vni 77, b has vni 1");
}

#[test]
fn an_outdated_snapshot_of_the_receiver_is_overruled_by_what_it_sends() {
    let mut lab = Lab::new(3);
    outdate(&mut lab, 1);
    send(&mut lab, (0, 1), 1, 0, 100, 5);
    let (leg, count, _) = loss_from(&lab.run(), 0);
    assert_eq!((leg.as_str(), count), ("b eth0 → b flannel.1", 100));
    send(&mut lab, (1, 0), WRONG, 0, 100, 5);
    let outcome = lab.run();
    assert_mismatch(&outcome, 0, "b eth0 → b flannel.1", "sent with vni 1, b has vni 77");
    assert_mismatch(&outcome, 1, "a eth0 → a flannel.1", "sent with vni 77, a has vni 1");
}

#[test]
fn an_id_that_changes_within_the_window_splits_no_conversation() {
    for snapshot in [1, WRONG] {
        let mut lab = Lab::new(3);
        set_id(&mut lab, 0, snapshot);
        send(&mut lab, (0, 1), 1, 0, 100, HOPS);
        send(&mut lab, (0, 1), WRONG, 100, 100, 5);
        let outcome = lab.run();
        assert_mismatch(&outcome, 0, "b eth0 → b flannel.1", "sent with vni 77, b has vni 1");
        assert_eq!((outcome.report.paths.len(), outcome.report.totals.delivered), (1, 100));
    }
}

#[test]
fn the_snapshot_of_one_node_is_enough() {
    for missing in 0..2 {
        let mut lab = Lab::new(2);
        forget(&mut lab, missing);
        send(&mut lab, (0, 1), WRONG, 0, 100, 5);
        let (leg, count, _) = loss_from(&lab.run(), 0);
        assert_eq!((leg.as_str(), count), ("b eth0 → b flannel.1", 100), "without that of node {missing}");
        send(&mut lab, (1, 0), 1, 0, 100, 5);
        let outcome = lab.run();
        assert_mismatch(&outcome, 0, "b eth0 → b flannel.1", "sent with vni 77, b has vni 1");
        assert_mismatch(&outcome, 1, "a eth0 → a flannel.1", "sent with vni 1, a has vni 77");
    }
}

#[test]
fn packets_alone_are_enough() {
    let mut lab = Lab::new(2);
    for node in &mut lab.job.nodes {
        node.topology = Topology::default();
    }
    send(&mut lab, (0, 1), WRONG, 0, 100, 5);
    send(&mut lab, (1, 0), 1, 0, 100, 5);
    let outcome = lab.run();
    assert_mismatch(&outcome, 0, "b eth0 → b flannel.1", "sent with vni 77, b has vni 1");
    assert_mismatch(&outcome, 1, "a eth0 → a flannel.1", "sent with vni 1, a has vni 77");
}

#[test]
fn a_snapshot_between_two_devices_changes_nothing() {
    for node in 0..2 {
        let mut lab = Lab::new(3);
        catch_between(&mut lab, node);
        let (there, back) = if node == 0 { (WRONG, 1) } else { (1, WRONG) };
        send(&mut lab, (0, 1), there, 0, 100, 5);
        send(&mut lab, (1, 0), back, 0, 100, 5);
        let outcome = lab.run();
        let text =
            |id: u32, receiver: &str, other: u32| format!("sent with vni {id}, {receiver} has vni {other}");
        assert_mismatch(&outcome, 0, "b eth0 → b flannel.1", &text(there, "b", back));
        assert_mismatch(&outcome, 1, "a eth0 → a flannel.1", &text(back, "a", there));
    }
}

#[test]
fn clean_traffic_is_clean_whatever_the_snapshots_say() {
    for node in 0..2 {
        for break_it in [outdate, catch_between, forget] {
            let mut lab = Lab::new(2);
            break_it(&mut lab, node);
            send(&mut lab, (0, 1), WRONG, 0, 100, HOPS);
            send(&mut lab, (1, 0), WRONG, 0, 100, HOPS);
            let outcome = lab.run();
            assert_sums(&outcome);
            assert_eq!(outcome.report.totals.delivered, 200, "{:#?}", outcome.report.paths);
            assert!(
                outcome.report.paths.iter().all(|path| path.hops.len() == HOPS),
                "{:#?}",
                outcome.report.paths
            );
        }
    }
}

#[test]
fn a_tenant_that_the_receiver_does_not_have_ends_at_its_underlay_device() {
    let mut lab = Lab::new(2);
    let topology = &mut lab.job.nodes[0].topology;
    let mut second = topology.interfaces[OVERLAY].clone();
    (second.index, second.name) = (NEW_INDEX, "flannel.2".to_owned());
    second.overlay.as_mut().unwrap().id = 2;
    topology.interfaces.push(second);
    for id in 0..100 {
        let time = T0 + i64::from(id) * MILLI;
        let packet = Packet::udp(id, 100);
        lab.send((0, 1), &packet, time, 0b1111_1000);
        lab.send((0, 1), &Packet { vni: 2, ..packet }, time, 0b1_1000);
    }
    let outcome = lab.run();
    assert_sums(&outcome);
    let of =
        |id: u32| outcome.report.paths.iter().find(|path| path.overlay.is_some_and(|o| o.id == id)).unwrap();
    assert_eq!((of(1).totals.delivered, of(2).totals.lost), (100, 100));
    let loss = &of(2).losses[0];
    assert_eq!(
        (loss.from.interface.as_str(), loss.to.as_ref().unwrap().interface.as_str()),
        ("eth0", "flannel.1")
    );
    assert_eq!(loss.cause.as_ref().unwrap().text, "sent with vni 2, b has vni 1");
}

#[test]
fn a_receiver_without_any_tunnel_device_loses_them_behind_its_underlay_device() {
    let mut lab = Lab::new(2);
    catch_between(&mut lab, 1);
    lab.job.points.retain(|point| point.node != 1 || point.interface != "flannel.1");
    let mut batches = Lab::new(2);
    send(&mut batches, (0, 1), WRONG, 0, 100, 5);
    let rows = batches.batches().into_iter().filter(|(point, ..)| !(12..14).contains(point));
    let outcome = run(
        lab.job.clone(),
        rows.map(|(at, slice, rows)| (if at > 13 { at - 2 } else { at }, slice, rows)).collect(),
    );
    assert_eq!(leg(&outcome), ("b eth0 → b cni0".to_owned(), 100));
}
