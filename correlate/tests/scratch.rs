//! Runs that have no room in memory for what was observed.
#![allow(missing_docs)]

mod lab;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use lab::*;
use lastseen_correlate::input::InterfaceKind;
use lastseen_correlate::topology::Topology;
use lastseen_correlate::{
    Ablation, BatchError, Correlator, DropEvent, Outcome, Scratch, ScratchError, Slice, Translation,
};
use lastseen_packet::observation::{ColumnsBuilder, FlowKey, Observation, gso, marks};
use lastseen_packet::{Sampler, Threshold, k0};
use proptest::collection::vec;
use proptest::prelude::*;

fn unnamed() -> File {
    tempfile::tempfile().unwrap()
}

fn within(lab: &Lab, bytes: usize, rows: usize, without: Option<Ablation>) -> Outcome {
    let mut correlator = Correlator::new(lab.job.clone()).unwrap().within(bytes, Box::new(unnamed()));
    if let Some(idea) = without {
        correlator = correlator.without(idea);
    }
    feed(correlator, lab.batches_of(rows))
}

/// What becomes of a packet on its way.
#[derive(Clone, Copy, Debug)]
enum Kind {
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
type Sent = (Kind, u32, i64, u32, u32, bool);

/// How a run is made of packets.
#[derive(Clone, Copy, Debug)]
struct World {
    is_unmapped: bool,
    gso_known: bool,
    /// How far the second node's clock is ahead.
    ahead_nanos: i64,
    /// One of how many segments is selected, in the first half of the window and in the second.
    intervals: [u32; 2],
    /// Every how manieth packet the kernel says that it dropped; of 0 none.
    drops: usize,
}

const PLAIN: World =
    World { is_unmapped: false, gso_known: true, ahead_nanos: 0, intervals: [1, 1], drops: 0 };

/// What is found of batches from agents that select, with drop events.
fn selected(mut correlator: Correlator, lab: &Lab, rows: usize, world: World) -> Outcome {
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

fn lab_of(packets: &[Sent], world: World) -> Lab {
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

fn kind() -> impl Strategy<Value = Kind> {
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

fn world() -> impl Strategy<Value = World> {
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
fn mask() -> impl Strategy<Value = u32> {
    prop_oneof![3 => Just(ALL), 1 => (1..8_usize).prop_map(up_to), 1 => 1..256_u32]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_run_says_the_same_with_any_room(
        packets in vec((kind(), 0..60_u32, -900..13_900_i64, mask(), mask(), any::<bool>()), 1..100),
        world in world(),
        bytes in 0..8192_usize,
        rows in 1..50_usize,
    ) {
        let lab = lab_of(&packets, world);
        let correlator = || Correlator::new(lab.job.clone()).unwrap();
        let held = format!("{:?}", selected(correlator(), &lab, rows, world));
        let with_scratch = correlator().within(bytes, Box::new(unnamed()));
        prop_assert_eq!(format!("{:?}", selected(with_scratch, &lab, rows, world)), held);
    }
}

/// Two hundred packets of a kind each way, of which some lose their second half between the nodes and some all.
fn traffic(kinds: &[Kind]) -> Vec<Sent> {
    let mut packets = Vec::new();
    for id in 0..200 {
        for (&kind, of_kind) in kinds.iter().zip(0..) {
            let (first, second) = match id % 20 {
                3 => (ALL, up_to(4)),
                7 => (up_to(4), up_to(4)),
                _ => (ALL, ALL),
            };
            let millis = i64::from(id) * 20 + of_kind;
            packets.push((kind, id * 2, millis, first, second, false));
            if !matches!(kind, Kind::Translated | Kind::Merged) {
                packets.push((kind, 1000 + id, millis, ALL, ALL, true));
            }
        }
    }
    packets
}

/// What is found within next to no memory and, the same, with all there is.
fn found(kinds: &[Kind], world: World) -> Outcome {
    let lab = lab_of(&traffic(kinds), world);
    let held = run(lab.job.clone(), lab.batches());
    for bytes in [0, 3_000, 40_000] {
        assert_eq!(format!("{:?}", within(&lab, bytes, 64, None)), format!("{held:?}"));
    }
    held
}

fn is_noted(outcome: &Outcome, text: &str) -> bool {
    outcome.report.notes.iter().any(|note| note.contains(text))
}

#[test]
fn fragments_are_put_together_without_room() {
    for kind in [Kind::Inner, Kind::Outer] {
        let outcome = found(&[kind, Kind::Udp], PLAIN);
        assert!(is_noted(&outcome, "did not come with all of their fragments"), "{:?}", outcome.report.notes);
        assert!(outcome.report.totals.lost >= 20, "{kind:?} {:?}", outcome.report.totals);
    }
}

/// Two hundred super-packets of three segments, of which some come to be two, and some none.
#[test]
fn segments_are_selected_without_room() {
    for intervals in [[3, 3], [2, 4]] {
        let world = World { intervals, drops: 7, ..PLAIN };
        let lab = lab_of(&traffic(&[Kind::Super, Kind::Udp, Kind::Inner]), world);
        let correlator = || Correlator::new(lab.job.clone()).unwrap();
        let held = selected(correlator(), &lab, 64, world);
        assert_eq!(held.report.sampling.map(|one| one.interval), Some(intervals[1]));
        assert!(
            held.report.totals.segments > 100 && held.report.totals.lost > 10,
            "{:?}",
            held.report.totals
        );
        for bytes in [0, 3_000, 40_000] {
            let within = correlator().within(bytes, Box::new(unnamed()));
            assert_eq!(format!("{:?}", selected(within, &lab, 64, world)), format!("{held:?}"));
        }
    }
}

#[test]
fn bytes_are_matched_without_room() {
    let outcome = found(&[Kind::Merged], World { gso_known: false, ..PLAIN });
    assert_sums(&outcome);
    assert_eq!((outcome.report.totals.segments, outcome.report.totals.lost), (400, 10 + 20));
    assert!(!is_noted(&outcome, "segment sizes"), "{:?}", outcome.report.notes);
}

#[test]
fn bytes_are_matched_where_all_were_in_memory_but_what_is_cut_is_not() {
    let lab = lab_of(&traffic(&[Kind::Merged]), World { gso_known: false, ..PLAIN });
    let held = run(lab.job.clone(), lab.batches());
    let rows: usize = lab.batches().iter().map(|(_, _, columns)| columns.len()).sum();
    // Collected, they fill half of it: none is put away before they are cut.
    let bytes = rows * 32 * 2;
    assert_eq!(format!("{:?}", within(&lab, bytes, 64, None)), format!("{held:?}"));
    assert_eq!(format!("{:?}", within(&lab, bytes / 2, 64, None)), format!("{held:?}"));
}

#[test]
fn clocks_are_corrected_once_without_room() {
    for gso_known in [true, false] {
        let world = World { ahead_nanos: 300 * MILLI, gso_known, ..PLAIN };
        let outcome = found(&[Kind::Tcp, Kind::Merged], world);
        assert!(is_noted(&outcome, "b: its clock is 0."), "{:?}", outcome.report.notes);
        let crossing = outcome.report.paths.iter().filter_map(|path| path.hops[4].delay_p50_nanos);
        assert!(crossing.clone().count() > 0 && crossing.clone().all(|nanos| (0..MILLI).contains(&nanos)));
    }
}

#[test]
fn translations_are_found_without_room() {
    let outcome = found(&[Kind::Translated], PLAIN);
    assert_eq!(outcome.report.paths.len(), 1);
    assert_eq!(outcome.report.paths[0].translations.len(), 1, "{:#?}", outcome.report.paths);
}

#[test]
fn the_order_of_points_is_inferred_without_room() {
    let outcome = found(&[Kind::Udp, Kind::Tcp], World { is_unmapped: true, ..PLAIN });
    assert!(outcome.report.paths.iter().all(|path| path.hops.len() > 2), "{:#?}", outcome.report.paths);
    assert!(outcome.report.totals.lost > 0);
}

#[test]
fn a_large_run_says_the_same_on_all_cores() {
    let kinds = [Kind::Udp, Kind::Tcp];
    let packets: Vec<Sent> = (0..20_000_u32)
        .map(|id| {
            let mask = if id % 97 == 0 { up_to(4) } else { ALL };
            (kinds[id as usize % 2], id, i64::from(id) / 3, mask, mask, id % 5 == 0)
        })
        .collect();
    for gso_known in [true, false] {
        let lab = lab_of(&packets, World { gso_known, ..PLAIN });
        let held = run(lab.job.clone(), lab.batches());
        assert!(held.report.totals.lost > 0);
        for bytes in [64 << 10, 1 << 20] {
            assert_eq!(format!("{:?}", within(&lab, bytes, 4096, None)), format!("{held:?}"));
        }
    }
}

#[test]
fn a_set_is_a_set_without_room() {
    let packets: Vec<Sent> = (0..100).map(|at| (Kind::Udp, at % 7, i64::from(at), ALL, ALL, false)).collect();
    let lab = lab_of(&packets, PLAIN);
    assert_eq!(within(&lab, 100, 9, Some(Ablation::Multiset)).report.totals.segments, 7);
}

/// Takes so many writes, then is full.
#[derive(Debug)]
struct Full(File, AtomicU64);

impl Scratch for Full {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let is_left =
            self.1.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        if is_left { self.0.write_all_at(bytes, offset) } else { Err(io::ErrorKind::StorageFull.into()) }
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(bytes, offset)
    }
}

/// Why a run fails whose scratch space takes so many writes, and whether it did while observations were added.
fn failed(lab: &Lab, writes: u64) -> Option<(ScratchError, bool)> {
    let full = Full(unnamed(), writes.into());
    let mut correlator = Correlator::new(lab.job.clone()).unwrap().within(1000, Box::new(full));
    for (point, slice, columns) in lab.batches_of(10) {
        match correlator.add(point, slice, 0, &columns) {
            Err(BatchError::Scratch(error)) => return Some((error, true)),
            added => added.unwrap(),
        }
    }
    correlator.finish().err().map(|error| (error, false))
}

#[test]
fn scratch_space_that_fills_up_ends_the_run_with_its_reason() {
    let world = World { gso_known: false, ..PLAIN };
    let lab = lab_of(&traffic(&[Kind::Merged, Kind::Outer])[..120], world);
    let (mut while_adding, mut at_the_end, mut writes) = (0, 0, 0);
    while let Some((error, is_added)) = failed(&lab, writes) {
        assert!(
            error.to_string().starts_with("cannot write ") && error.reason.contains("storage"),
            "{error}"
        );
        (while_adding, at_the_end) =
            if is_added { (while_adding + 1, at_the_end) } else { (while_adding, at_the_end + 1) };
        writes += 7;
    }
    assert!(while_adding > 0 && at_the_end > 10, "{while_adding} {at_the_end}");
}
