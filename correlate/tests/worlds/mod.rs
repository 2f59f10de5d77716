//! Packets of every kind, and the runs that are made of them.
#![allow(missing_docs, unreachable_pub)]

use lastseen_correlate::input::InterfaceKind;
use lastseen_correlate::topology::Topology;
use lastseen_correlate::{Correlator, DropEvent, Outcome, Slice, Translation};
use lastseen_packet::observation::{ColumnsBuilder, FlowKey, Observation, gso, marks};
use lastseen_packet::{Sampler, Threshold, k0};
use proptest::prelude::*;

use crate::lab::*;

/// What becomes of a packet on its way.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Tcp,
    Udp,
    /// The first three hops show two as one.
    Merged,
    /// Cut into two fragments by its sender, and whole at the bridges.
    Inner,
    /// Its carrier is cut into two fragments.
    Outer,
    /// It gets another destination port behind the second hop.
    Translated,
    /// The first three hops show three as one and say of what size.
    Super,
}

/// A packet: what it is, its number, when, at which hops its first and its second fragment were seen, which way.
pub type Sent = (Kind, u32, i64, u32, u32, bool);

/// How a run is made of packets.
#[derive(Clone, Copy, Debug)]
pub struct World {
    pub is_unmapped: bool,
    pub gso_known: bool,
    /// How far the second node's clock is ahead.
    pub ahead_nanos: i64,
    /// One of how many segments is selected, in the first half of the window and in the second.
    pub intervals: [u32; 2],
    /// Every how manieth packet the kernel says that it dropped; of 0 none.
    pub drops: usize,
}

pub const PLAIN: World =
    World { is_unmapped: false, gso_known: true, ahead_nanos: 0, intervals: [1, 1], drops: 0 };

/// What is found of batches from agents that select, with drop events.
pub fn selected(mut correlator: Correlator, lab: &Lab, rows: usize, world: World) -> Outcome {
    const HALF: i64 = T0 + 5 * SECOND;
    for (point, slice, columns) in lab.batches_of(rows) {
        let middle = HALF.clamp(slice.start_nanos, slice.end_nanos);
        for (interval, (start_nanos, end_nanos)) in
            world.intervals.into_iter().zip([(slice.start_nanos, middle), (middle, slice.end_nanos)])
        {
            let threshold = Threshold::one_in(if point % 3 == 0 { interval } else { world.intervals[0] });
            let sampler = Sampler::new(lab.job.key, threshold);
            let mut kept = ColumnsBuilder::new(64, [1; 16]);
            let rows = (0..columns.len()).map(|index| columns.row(index));
            for row in rows.filter(|row| (row.time_nanos < middle) == (start_nanos < middle)) {
                let flow = &columns.flows[row.flow as usize];
                if sampler.keeps(flow, &row) {
                    kept.push(flow, row);
                }
                if world.drops > 0 && ((row.time_nanos / MICRO) as usize).is_multiple_of(world.drops) {
                    let (reason, location) = ("NETFILTER_DROP".to_owned(), "nft_do_chain".to_owned());
                    let (node, k0) = (point / POINTS, k0(&lab.job.key, flow, &row));
                    let (netns, time_nanos) = (String::new(), row.time_nanos);
                    let event = DropEvent { node, netns, time_nanos, k0, reason, location };
                    correlator.add_drop(event).unwrap();
                }
            }
            let of_half = Slice { start_nanos, end_nanos, ..slice };
            correlator.selected_by(of_half, threshold);
            correlator.add(point, of_half, 0, kept.columns()).unwrap();
        }
    }
    correlator.finish().unwrap()
}

pub fn lab_of(packets: &[Sent], world: World) -> Lab {
    let mut lab = Lab::new(2);
    for sent in packets {
        send(&mut lab, sent, world);
    }
    let whole = whole(packets.len() as u64);
    let (start_nanos, end_nanos) =
        (whole.start_nanos + world.ahead_nanos, whole.end_nanos + world.ahead_nanos);
    for point in POINTS..2 * POINTS {
        lab.slices.insert(point, vec![Slice { start_nanos, end_nanos, ..whole }]);
    }
    lab.job.nodes[0].translations = vec![translation()];
    lab.job.points.iter_mut().for_each(|point| point.gso_known = world.gso_known);
    if world.is_unmapped {
        lab.job.nodes.iter_mut().for_each(|node| node.topology = Topology::default());
        lab.job.points.iter_mut().for_each(|point| point.kind = InterfaceKind::Unspecified);
    }
    lab
}

fn packet(kind: Kind, id: u32) -> Packet {
    match kind {
        Kind::Tcp | Kind::Merged => Packet::tcp(id as u16, id * 100, 100),
        Kind::Super => Packet { ports: (4004, 80), ..Packet::tcp(id as u16 * 3, id * 300, 100) },
        Kind::Udp => Packet::udp(id, 100 + id),
        Kind::Inner => Packet { ports: (4001, 53), ..Packet::udp(10_000 + id, 1300) },
        Kind::Outer => Packet { ports: (4002, 53), ..Packet::udp(20_000 + id, 1372) },
        Kind::Translated => Packet { ports: (4003, 53), ..Packet::udp(30_000 + id, 200) },
    }
}

fn translation() -> Translation {
    let flow = |port| Packet { ports: (4003, port), ..Packet::udp(0, 0) }.flow((0, 1), false);
    Translation { original: flow(53), reply: reversed(flow(5353)) }
}

fn reversed(flow: FlowKey) -> FlowKey {
    FlowKey {
        source: flow.destination,
        destination: flow.source,
        source_port: flow.destination_port,
        destination_port: flow.source_port,
        ..flow
    }
}

fn send(lab: &mut Lab, &(kind, id, millis, first, second, is_back): &Sent, world: World) {
    let ends = if is_back { (1, 0) } else { (0, 1) };
    let mut packet = packet(kind, id);
    if !world.gso_known {
        packet.row.gso_type = gso::UNKNOWN;
    }
    for (hop, point) in Lab::path(ends.0, ends.1).into_iter().enumerate() {
        let crossing = if hop >= 4 { 200 * MICRO } else { 0 };
        let ahead = if point >= POINTS { world.ahead_nanos } else { 0 };
        let time = T0 + millis * MILLI + hop as i64 * 10 * MICRO + crossing + ahead;
        let is_tunnelled = hop == 3 || hop == 4;
        let seen = [first, second].map(|mask| mask & 1 << hop != 0);
        let flow = packet.flow(ends, is_tunnelled);
        match kind {
            Kind::Merged if hop < 3 && seen[0] => {
                let two = Observation { payload_length: 200, ip_length: 252, ..packet.row };
                lab.see(point, flow, two, time);
            }
            Kind::Merged => {
                let next = Packet::tcp(id as u16 + 1, id * 100 + 100, 100).row;
                let next = Observation { gso_type: packet.row.gso_type, ..next };
                for (row, _) in [packet.row, next].into_iter().zip(seen).filter(|(_, is_seen)| *is_seen) {
                    lab.see(point, flow, row, time);
                }
            }
            Kind::Super if hop < 3 && seen[0] => {
                let mut three = Observation { payload_length: 300, ip_length: 352, ..packet.row };
                if world.gso_known {
                    (three.gso_type, three.gso_size) = (gso::TCPV4, 100);
                }
                lab.see(point, flow, three, time);
            }
            Kind::Super if hop >= 3 => {
                for (at, is_seen) in [seen[0], seen[1], seen[0] && seen[1]].into_iter().enumerate() {
                    let (ip_id, tcp_seq) =
                        (packet.row.ip_id + at as u16, packet.row.tcp_seq + at as u32 * 100);
                    if is_seen {
                        lab.see(point, flow, Observation { ip_id, tcp_seq, ..packet.row }, time);
                    }
                }
            }
            Kind::Inner if hop != 1 && hop != 6 => fragments(lab, (point, time), flow, &packet, seen, false),
            Kind::Outer if is_tunnelled => fragments(lab, (point, time), flow, &packet, seen, true),
            Kind::Translated if seen[0] => {
                let destination_port = if hop < 2 { 53 } else { 5353 };
                lab.see(point, FlowKey { destination_port, ..flow }, packet.row, time);
            }
            _ if seen[0] => lab.see(point, flow, packet.row, time),
            _ => {}
        }
    }
}

/// The fragments of a packet or of its carrier that a point saw.
fn fragments(
    lab: &mut Lab,
    (point, time): (usize, i64),
    flow: FlowKey,
    packet: &Packet,
    seen: [bool; 2],
    is_outer: bool,
) {
    let (row, length) = (packet.row, packet.row.ip_length);
    let first = if is_outer {
        let marks = row.marks | marks::OUTER_IPV4;
        Observation { outer_fragment_length: 1000, outer_ip_id: row.ip_id, marks, ..row }
    } else {
        Observation { marks: row.marks | marks::MORE_FRAGMENTS, ip_length: 1020, payload_length: 992, ..row }
    };
    if seen[0] {
        lab.see(point, flow, first, time);
    }
    let carrier = flow.overlay.filter(|_| is_outer);
    let ends = carrier.map_or((flow.source, flow.destination), |one| (one.source, one.destination));
    let later = FlowKey {
        overlay: flow.overlay.filter(|_| !is_outer),
        source: ends.0,
        destination: ends.1,
        source_port: 0,
        destination_port: 0,
        ..flow
    };
    let rest = length + if is_outer { 36 } else { 0 } - 1000;
    let kind = if is_outer { marks::OUTER_FRAGMENT | marks::OUTER_IPV4 } else { 0 };
    let row = Observation {
        ip_id: row.ip_id,
        outer_ip_id: if is_outer { row.ip_id } else { 0 },
        fragment_offset: 1000,
        payload_length: rest,
        ip_length: rest + 20,
        marks: marks::IPV4 | kind,
        ..Observation::default()
    };
    if seen[1] {
        lab.see(point, later, row, time + MICRO);
    }
}

pub fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Tcp),
        Just(Kind::Udp),
        Just(Kind::Merged),
        Just(Kind::Inner),
        Just(Kind::Outer),
        Just(Kind::Translated),
        Just(Kind::Super)
    ]
}

pub fn world() -> impl Strategy<Value = World> {
    let ahead = prop_oneof![Just(0), Just(300 * MILLI), Just(-300 * MILLI)];
    let interval = || prop_oneof![2 => Just(1_u32), 1 => 2..5_u32];
    (any::<bool>(), any::<bool>(), ahead, [interval(), interval()], prop_oneof![Just(0), 1..9_usize])
        .prop_map(|(is_unmapped, gso_known, ahead_nanos, intervals, drops)| World {
            is_unmapped,
            gso_known,
            ahead_nanos,
            intervals,
            drops,
        })
}

/// Mostly all hops.
pub fn mask() -> impl Strategy<Value = u32> {
    prop_oneof![3 => Just(ALL), 1 => (1..8_usize).prop_map(up_to), 1 => 1..256_u32]
}
