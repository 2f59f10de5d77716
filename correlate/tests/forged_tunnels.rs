//! Packets that look like those of a tunnel and are not: what a pod sends must not move a tenant's border.
#![allow(missing_docs)]

use std::net::IpAddr;

use crate::lab::*;
use lastseen_correlate::report::{FlowRecord, PathReport};
use lastseen_correlate::{FLOW_ROWS, Outcome};

/// The other tenant, which only node `c` has.
const OTHER: u32 = 2;
/// An id nobody has.
const STRANGE: u32 = 77;
/// Where the tunnel device is among the interfaces of a node.
const OVERLAY: usize = 2;
/// Points of a node: into the veth and the bridge, out of the tunnel and the underlay device, into the latter.
const VETH: usize = 0;
const BRIDGE: usize = 2;
const ENCAPSULATION: usize = 5;
const OUT: usize = 7;
const IN: usize = 6;

/// Nodes `a` and `b` have tenant 1, `c` has the other, and neither knows of the other's nodes.
fn two_tenants() -> Lab {
    let mut lab = Lab::new(3);
    for node in 0..3 {
        let peers: &[usize] = if node == 2 { &[0, 1] } else { &[2] };
        let topology = &mut lab.job.nodes[node].topology;
        for &peer in peers {
            topology.forwarding.retain(|entry| entry.remote != Some(underlay(peer)));
        }
    }
    lab.job.nodes[2].topology.interfaces[OVERLAY].overlay.as_mut().unwrap().id = OTHER;
    lab
}

/// Sends 100 packets of tenant 1 from `a` to `b`, and 100 between the same addresses of the other tenant that come
/// to `c` from a node without an agent.
fn both_tenants_send(lab: &mut Lab) {
    for id in 0..100 {
        let (packet, time) = (Packet::udp(id, 100), T0 + i64::from(id) * MILLI);
        lab.send((0, 1), &packet, time, ALL);
        let mut flow = Packet { vni: OTHER, ..packet }.flow((0, 1), true);
        let overlay = flow.overlay.as_mut().unwrap();
        (overlay.source, overlay.destination) = (underlay(9), underlay(2));
        lab.see(2 * POINTS + IN, flow, packet.row, time);
    }
}

/// The pod of `a` sends tunnel packets with `id` to `to`, seen at `points`, from `source` where it has left the node.
fn forge(lab: &mut Lab, id: u32, to: usize, points: &[usize], source: IpAddr) {
    let packet = Packet { vni: id, ports: (4001, 53), ..Packet::udp(500, 100) };
    for &point in points {
        let mut flow = packet.flow((0, 1), point != ENCAPSULATION);
        flow.destination = "10.244.1.99".parse().unwrap();
        if let Some(overlay) = &mut flow.overlay {
            overlay.destination = underlay(to);
            overlay.source = if point == VETH || point == BRIDGE { pod(0) } else { source };
        }
        lab.see(point, flow, packet.row, T0 + 500 * MILLI);
    }
}

/// Paths of what both tenants send, in one of their tunnels.
fn of_tunnel(outcome: &Outcome, id: u32) -> Vec<&PathReport> {
    let sent = outcome.report.paths.iter().filter(|path| path.source.ends_with(":4000"));
    sent.filter(|path| path.overlay.is_some_and(|overlay| overlay.id == id)).collect()
}

/// Each tenant's packets are on a path of their own.
fn assert_apart(lab: &Lab) {
    let outcome = lab.run();
    let paths = [1, OTHER].map(|id| of_tunnel(&outcome, id));
    assert_eq!(paths.each_ref().map(Vec::len), [1, 1], "{:#?}", outcome.report.paths);
    let nodes: Vec<_> = paths[1][0].hops.iter().map(|hop| hop.node.as_str()).collect();
    assert_eq!((paths[0][0].totals.delivered, nodes), (100, vec!["c"]));
    assert_eq!(outcome.report.totals.duplicated, 0);
}

#[test]
fn a_pod_that_sends_to_the_tunnel_port_joins_no_tenants() {
    let whole = [VETH, BRIDGE, OUT, POINTS + IN];
    // Masqueraded; as the pod sent it; where the pod's interfaces are not captured; where only the receiver is.
    for (points, source) in [
        (&whole[..], underlay(0)),
        (&whole[..], pod(0)),
        (&whole[2..], underlay(0)),
        (&whole[3..], underlay(0)),
        (&whole[3..], pod(0)),
    ] {
        let mut lab = two_tenants();
        both_tenants_send(&mut lab);
        assert_apart(&lab);
        forge(&mut lab, OTHER, 1, points, source);
        assert_apart(&lab);
    }
}

#[test]
fn an_id_nobody_has_brings_no_tenants_together() {
    // Even from a node whose own tunnel device made the packets.
    for points in
        [&[OUT, POINTS + IN][..], &[VETH, BRIDGE, OUT, POINTS + IN], &[ENCAPSULATION, OUT, POINTS + IN]]
    {
        let mut lab = two_tenants();
        both_tenants_send(&mut lab);
        for to in [1, 2] {
            forge(&mut lab, STRANGE, to, points, underlay(0));
        }
        assert_apart(&lab);
    }
}

#[test]
fn what_a_pod_forges_is_no_evidence_of_its_nodes_tunnels() {
    let mut lab = Lab::new(2);
    for id in 0..100 {
        lab.send((0, 1), &Packet::udp(id, 100), T0 + i64::from(id) * MILLI, up_to(5));
    }
    let cause = |lab: &Lab| lab.run().report.paths[0].losses[0].cause.clone().unwrap().code;
    assert_eq!(cause(&lab), "tunnel_input_dropped");
    // The pod of `b` sends what its own tunnel device sends, in a tunnel of another id.
    let packet = Packet::udp(500, 100);
    lab.send((1, 0), &packet, T0, ALL);
    let forged = Packet { vni: STRANGE, ..packet };
    for point in [VETH, BRIDGE, OUT] {
        lab.see(POINTS + point, forged.flow((1, 0), true), packet.row, T0);
    }
    assert_eq!(cause(&lab), "tunnel_input_dropped");
}

/// Work that grows with the square of the ids would take 10^10 steps.
#[test]
fn any_number_of_ids_ends() {
    let mut lab = Lab::new(2);
    let mut packet = Packet::udp(1, 100);
    lab.see(ENCAPSULATION, packet.flow((0, 1), false), packet.row, T0);
    for id in 0..200_000 {
        packet.vni = 1 + id;
        lab.see(OUT, packet.flow((0, 1), true), packet.row, T0);
    }
    let outcome = lab.run();
    assert_sums(&outcome);
    let flows = |record: &FlowRecord| record.aggregate.map_or(1, |aggregate| aggregate.flows);
    assert_eq!(outcome.flows.iter().map(flows).sum::<u64>(), 200_001);
    assert!(outcome.flows.len() <= FLOW_ROWS, "{} rows", outcome.flows.len());
    assert!(outcome.report.notes.iter().any(|note| note.contains("200,001 flow records are more than")));
}
