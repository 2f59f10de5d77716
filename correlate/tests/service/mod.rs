//! Packets to a service of the lab's fabric and back, whose addresses change on the way.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::net::IpAddr;

use lastseen_correlate::Outcome;
use lastseen_correlate::report::PathReport;
use lastseen_packet::observation::FlowKey;

use crate::lab::*;

pub const SERVICE: &str = "10.96.0.10";

pub fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A tuple of each hop of a path.
pub type Tuples<'t> = &'t dyn Fn(usize, FlowKey) -> FlowKey;

/// A service: its address at the pod's veth, the backend's from hop `at` on.
pub fn to_service(at: usize) -> impl Fn(usize, FlowKey) -> FlowKey {
    move |hop, flow| {
        let (destination, destination_port) =
            if hop < at { (address(SERVICE), 53) } else { (flow.destination, 5353) };
        FlowKey { destination, destination_port, ..flow }
    }
}

/// What the pods answer: the backend's address up to hop `at`, then the service's.
pub fn from_service(at: usize) -> impl Fn(usize, FlowKey) -> FlowKey {
    move |hop, flow| {
        let (source, port) = if hop < at { (flow.source, 5353) } else { (address(SERVICE), 53) };
        FlowKey { source, source_port: port, destination_port: 40_000, ..flow }
    }
}

/// Sends a packet that has the tuple of `tuples` at each hop of `mask`.
pub fn send(lab: &mut Lab, ends: (usize, usize), packet: &Packet, time: i64, mask: u32, tuples: Tuples<'_>) {
    for (hop, point) in Lab::path(ends.0, ends.1).into_iter().enumerate() {
        if mask & 1 << hop != 0 {
            let flow = tuples(hop, packet.flow(ends, hop == 3 || hop == 4));
            let delay = hop as i64 * 10 * MICRO + if hop >= 4 { 200 * MICRO } else { 0 };
            lab.see(point, flow, packet.row, time + delay);
        }
    }
}

pub fn datagram(id: u32) -> Packet {
    Packet { ports: (40_000, 53), ..Packet::udp(id, 100) }
}

/// `count` datagrams, of which every `nth` gets no further than hop `end`.
pub fn datagrams(lab: &mut Lab, count: u32, nth: u32, end: usize, tuples: Tuples<'_>) {
    for id in 1..=count {
        let mask = if nth != 0 && id % nth == 0 { up_to(end) } else { ALL };
        send(lab, (0, 1), &datagram(id), T0 + i64::from(id) * MILLI, mask, tuples);
    }
}

pub fn only(outcome: &Outcome) -> &PathReport {
    assert_sums(outcome);
    let used: Vec<_> = outcome.report.paths.iter().filter(|path| path.totals.segments > 0).collect();
    assert_eq!(used.len(), 1, "{used:#?}");
    used[0]
}

pub fn tuples_of(path: &PathReport) -> Vec<(String, String, Option<String>)> {
    let later =
        path.translations.iter().map(|one| (one.source.clone(), one.destination.clone(), one.node.clone()));
    [(path.source.clone(), path.destination.clone(), None)].into_iter().chain(later).collect()
}

pub fn named(source: &str, destination: &str, node: Option<&str>) -> (String, String, Option<String>) {
    (source.to_owned(), destination.to_owned(), node.map(ToOwned::to_owned))
}
