//! Nodes that only pass packets on, from one network to another.
#![allow(missing_docs)]

use crate::lab::*;
use lastseen_correlate::Outcome;
use lastseen_correlate::report::Verdict;
use lastseen_correlate::topology::{Interface, InterfaceKind};

/// Points of a node: into and out of its underlay device.
const INTO: usize = 6;
const OUT: usize = 7;
/// Index of a second underlay device.
const SECOND: u32 = 30;

/// A node between two networks that loses every `nth` of a hundred packets.
fn routed(nth: u32) -> Outcome {
    let mut lab = Lab::new(1);
    lab.job.nodes[0].topology.interfaces.push(Interface {
        index: SECOND,
        name: "eth1".to_owned(),
        kind: InterfaceKind::Physical,
        mtu: 1500,
        up: true,
        running: true,
        ..Interface::default()
    });
    let out = &mut lab.job.points[OUT];
    (out.index, out.interface) = (SECOND, "eth1".to_owned());
    for id in 0..100 {
        let packet = Packet::udp(id, 100);
        let mut flow = packet.flow((0, 0), false);
        (flow.source, flow.destination) = ("203.0.113.9".parse().unwrap(), "198.51.100.7".parse().unwrap());
        let time = T0 + i64::from(id) * MILLI;
        lab.see(INTO, flow, packet.row, time);
        if id % nth != 0 {
            lab.see(OUT, flow, packet.row, time + 10 * MICRO);
        }
    }
    lab.run()
}

#[test]
fn what_a_router_loses_between_two_networks_is_lost_between_its_devices() {
    let outcome = routed(10);
    assert_sums(&outcome);
    assert_eq!((outcome.report.verdict, outcome.report.totals.lost), (Verdict::Lost, 10));
    assert_eq!(leg(&outcome), ("a eth0 → a eth1".to_owned(), 10));
}

#[test]
fn what_a_router_passes_on_has_arrived_at_its_far_device() {
    let outcome = routed(1_000);
    assert_eq!((outcome.report.totals.lost, outcome.report.totals.delivered), (1, 99));
}
