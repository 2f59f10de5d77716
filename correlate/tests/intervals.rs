//! TCP without segment sizes, matched by the bytes it carries: whatever each hop makes one packet of, what was lost is
//! counted where it was lost.
#![allow(missing_docs)]

use std::collections::{BTreeMap, BTreeSet};

use crate::lab::*;
use lastseen_correlate::report::Verdict;
use lastseen_correlate::{Outcome, Slice};
use lastseen_packet::observation::{Columns, Observation, gso};
use proptest::collection::vec;
use proptest::prelude::*;

/// The hop that shows every segment by itself: behind segmentation, before receive offload.
const CUT: usize = 3;

/// A lab of files: nobody knows segment sizes.
fn files() -> Lab {
    let mut lab = Lab::new(2);
    lab.job.points.iter_mut().for_each(|point| point.gso_known = false);
    lab
}

fn packet(ip_id: u16, seq: u32, payload: u32) -> Packet {
    let packet = Packet::tcp(ip_id, seq, payload);
    Packet { row: Observation { gso_type: gso::UNKNOWN, ..packet.row }, ..packet }
}

fn time_of(millis: i64) -> i64 {
    T0 + millis * MILLI
}

#[test]
fn super_packets_and_the_segments_they_become_are_the_same_bytes() {
    let mut lab = files();
    for burst in 0..10_u32 {
        let (base, time) = (burst * 14_000, time_of(i64::from(burst)));
        lab.send((0, 1), &packet((burst * 20) as u16, base, 14_000), time, up_to(3));
        for at in 0..10 {
            let segment = packet((burst * 20 + at) as u16, base + at * 1400, 1400);
            let is_lost = burst == 4 && at == 7;
            lab.send((0, 1), &segment, time, if is_lost { 0b1_1000 } else { ALL & !up_to(3) });
        }
    }
    let outcome = lab.run();
    assert_sums(&outcome);
    assert_eq!((outcome.report.totals.segments, outcome.report.totals.delivered), (100, 99));
    assert_eq!(leg(&outcome), ("b eth0 → b flannel.1".to_owned(), 1));
    let lost = &outcome.lost[0];
    assert_eq!(
        (lost.tcp_seq, lost.payload_length, lost.ip_id),
        (Some(4 * 14_000 + 7 * 1400), 1400, Some(87))
    );
    assert!(
        !outcome.report.notes.iter().any(|note| note.contains("segment sizes")),
        "{:?}",
        outcome.report.notes
    );
}

#[test]
fn a_range_that_was_lost_and_sent_again_is_one_loss_however_it_was_cut() {
    let mut lab = files();
    // Ten segments as one packet; the underlay loses the fifth and the sixth, which are sent again as one packet and as
    // segments, and merged with what follows as they come in.
    lab.send((0, 1), &packet(1, 0, 14_000), time_of(0), up_to(3));
    for at in 0..10 {
        lab.send(
            (0, 1),
            &packet(1 + at as u16, at * 1400, 1400),
            time_of(0),
            if (4..6).contains(&at) { 0b1000 } else { 0b1_1000 },
        );
    }
    lab.send((0, 1), &packet(1, 0, 5600), time_of(0), 0b1110_0000);
    lab.send((0, 1), &packet(7, 8400, 5600), time_of(0), 0b1110_0000);
    lab.send((0, 1), &packet(20, 5600, 2800), time_of(200), up_to(3));
    lab.send((0, 1), &packet(22, 14_000, 1400), time_of(200), up_to(3));
    for (id, seq) in [(20, 5600), (21, 7000), (22, 14_000)] {
        lab.send((0, 1), &packet(id, seq, 1400), time_of(200), 0b1_1000);
    }
    lab.send((0, 1), &packet(20, 5600, 2800), time_of(200), 0b1110_0000);
    lab.send((0, 1), &packet(22, 14_000, 1400), time_of(200), 0b1110_0000);
    let outcome = lab.run();
    assert_sums(&outcome);
    assert_eq!(leg(&outcome), ("a eth0 → b eth0".to_owned(), 2));
    assert_eq!((outcome.report.totals.segments, outcome.report.totals.delivered), (13, 11));
    assert!(
        outcome.lost.iter().all(|lost| lost.first_seen_nanos == time_of(0)),
        "the first transmission was lost"
    );
}

#[test]
fn packets_longer_than_an_ip_length_are_followed_to_their_last_byte() {
    let mut lab = files();
    let (whole, piece) = (180_000, 60_000);
    lab.send((0, 1), &packet(1, 0, whole), time_of(0), up_to(3));
    for at in 0..whole / piece {
        let mask = if at == 2 { 0b1000 } else { ALL & !up_to(3) };
        lab.send((0, 1), &packet(1 + at as u16, at * piece, piece), time_of(0), mask);
    }
    let outcome = lab.run();
    assert_sums(&outcome);
    assert_eq!(
        lost_bytes(&outcome),
        BTreeMap::from([(("a eth0".to_owned(), "b eth0".to_owned()), u64::from(piece))])
    );
}

#[test]
fn a_packet_longer_than_an_ip_length_is_one_across_the_wrap_whatever_is_seen_beside_it() {
    let mut lab = files();
    let (whole, size) = (70_000, 1_400);
    let first = 3_000_u32.wrapping_neg();
    let seq = |at: u32| first.wrapping_add(at * size);
    // Two packets in one moment: the second lies between the parts of the first, in order of sequence numbers.
    lab.send((0, 1), &packet(1, first, whole), time_of(0), up_to(3));
    lab.send((0, 1), &packet(51, seq(50), 10 * size), time_of(0), up_to(3));
    for at in 0..60 {
        // The bytes of the lost one are in both parts.
        let mask = if at == 46 { 0b1000 } else { ALL & !up_to(3) };
        lab.send((0, 1), &packet(1 + at as u16, seq(at), size), time_of(0), mask);
    }
    let outcome = lab.run();
    assert_sums(&outcome);
    assert_eq!(leg(&outcome), ("a eth0 → b eth0".to_owned(), 1));
    assert_eq!((outcome.report.totals.segments, outcome.lost[0].tcp_seq), (60, Some(seq(46))));
}

/// What a veth hands over as one packet and a NIC sends as segments, of which some are lost between the nodes.
fn one_packet(count: u32, first: u32, lost: &[u32]) -> Outcome {
    const SIZE: u32 = 1448;
    let mut lab = files();
    lab.send((0, 1), &packet(1, first, count * SIZE), time_of(0), up_to(3));
    for at in 0..count {
        let segment = packet(1 + at as u16, first.wrapping_add(at * SIZE), SIZE);
        lab.send((0, 1), &segment, time_of(0), if lost.contains(&at) { 0b1000 } else { ALL & !up_to(3) });
    }
    let outcome = seen_everywhere(lab).run();
    assert_sums(&outcome);
    outcome
}

#[test]
fn a_super_packet_as_long_as_an_ip_length_allows_is_as_many_segments_as_on_the_wire() {
    let outcome = one_packet(45, 0, &[22]);
    assert_eq!((outcome.report.totals.segments, outcome.report.totals.lost), (46, 1));
    let lost = &outcome.lost[0];
    assert_eq!((lost.tcp_seq, lost.payload_length, lost.ip_id), (Some(31_856), 1448, Some(23)));
}

#[test]
fn a_super_packet_longer_than_that_is_as_many_segments_as_on_the_wire() {
    // Lost are the segments at 65,483 and 130,966 bytes, of which the numbers wrap in the latter.
    for first in [0, 131_000_u32.wrapping_neg()] {
        let outcome = one_packet(360, first, &[45, 90, 359]);
        assert_eq!((outcome.report.totals.segments, outcome.report.totals.lost), (361, 3));
        let ids: BTreeSet<_> = outcome.lost.iter().map(|lost| (lost.ip_id, lost.payload_length)).collect();
        assert_eq!(ids, BTreeSet::from([46, 91, 360].map(|id| (Some(id), 1448))));
    }
}

#[test]
fn whoever_cuts_out_every_byte_is_told_nothing_wrong() {
    let mut lab = files();
    for at in 0..3_000 {
        lab.send((0, 1), &packet(9, at, 1), time_of(1), 0b11);
        lab.send((0, 1), &packet(8, 0, 3_000), time_of(2), 0b1);
        lab.send((0, 1), &packet(7, 0, 3_000), time_of(2), 0b1111_1000);
    }
    let outcome = lab.run();
    assert_sums(&outcome);
    assert!(
        outcome.report.notes.iter().any(|note| note.contains("segment sizes")),
        "{:?}",
        outcome.report.notes
    );
}

/// One transmission of some of the stream's segments.
#[derive(Clone, Debug)]
struct Burst {
    /// First segment and how many: a retransmission if an earlier burst had them.
    first: usize,
    count: usize,
    /// Of each segment the hops it reached.
    reach: Vec<usize>,
    /// Where packets end at each hop: bit `segment % 64`.
    ends: [u64; HOPS],
}

fn burst() -> impl Strategy<Value = Burst> {
    let short = (0..30_usize, 1..25_usize, vec(reach(4), 25), any::<[u64; HOPS]>());
    // Up to 200 KB, in few packets.
    let ends = vec(any::<[u64; 4]>().prop_map(|[a, b, c, d]| a & b & c & d), HOPS);
    let ends = ends.prop_map(|ends| std::array::from_fn(|hop| ends[hop]));
    let long = (0..30_usize, 100..230_usize, vec(reach(60), 230), ends);
    prop_oneof![3 => short.boxed(), 1 => long.boxed()].prop_map(|(first, count, reach, ends)| Burst {
        first,
        count,
        reach,
        ends,
    })
}

/// The hops that a segment reaches, mostly all.
fn reach(all: u32) -> impl Strategy<Value = usize> {
    prop_oneof![all => Just(HOPS), 1 => 1..HOPS]
}

/// Sequence number of a segment's first byte. Segments have different lengths, and numbers wrap.
fn seq(segment: usize) -> u32 {
    let before: u32 = (0..segment).map(length).sum();
    before.wrapping_sub(20_000)
}

fn length(segment: usize) -> u32 {
    [1400, 1400, 1400, 536, 1, 1400, 9][segment % 7]
}

/// A lab that has seen the bursts, some milliseconds apart; where `is_cut` one hop shows segments.
fn lab_of(bursts: &[Burst], gap: i64, is_cut: bool) -> Lab {
    let mut lab = files();
    for (index, burst) in bursts.iter().enumerate() {
        for hop in 0..HOPS {
            see(&mut lab, burst, (index, gap * index as i64), hop, is_cut && hop == CUT);
        }
    }
    lab
}

fn see(lab: &mut Lab, burst: &Burst, (index, millis): (usize, i64), hop: usize, is_cut: bool) {
    let alive = |at: usize| burst.reach[at] > hop;
    let mut at = 0;
    while at < burst.count {
        let begin = at;
        let ends = |at: usize| is_cut || burst.ends[hop] >> (at % 64) & 1 == 1;
        while at + 1 < burst.count && alive(at) && alive(at + 1) && !ends(at) {
            at += 1;
        }
        at += 1;
        if alive(begin) {
            let bytes = (begin..at).map(|at| length(burst.first + at)).sum();
            let mut seen = packet((index * 240 + begin) as u16, seq(burst.first + begin), bytes);
            seen.row.ts_value = index as u32;
            lab.send((0, 1), &seen, time_of(millis), 1 << hop);
        }
    }
}

/// Segments and bytes that were truly lost, by the hop that saw them last.
fn truth(bursts: &[Burst]) -> BTreeMap<usize, (u64, u64)> {
    let mut lost: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
    for burst in bursts {
        for (at, &reach) in burst.reach[..burst.count].iter().enumerate().filter(|(_, reach)| **reach < HOPS)
        {
            let of_leg = lost.entry(reach - 1).or_default();
            *of_leg = (of_leg.0 + 1, of_leg.1 + u64::from(length(burst.first + at)));
        }
    }
    lost
}

/// Points of the path as the report names them.
const NAMES: [&str; HOPS] =
    ["a veth", "a cni0", "a flannel.1", "a eth0", "b eth0", "b flannel.1", "b cni0", "b veth"];

fn lost_bytes(outcome: &Outcome) -> BTreeMap<(String, String), u64> {
    let mut lost = BTreeMap::new();
    assert_eq!(outcome.omitted_lost, 0);
    for packet in &outcome.lost {
        let name =
            |point: &lastseen_correlate::report::PointName| format!("{} {}", point.node, point.interface);
        let leg = (name(&packet.last_seen), packet.missing_at.as_ref().map(name).unwrap_or_default());
        *lost.entry(leg).or_default() += u64::from(packet.payload_length);
    }
    lost
}

fn lost_segments(outcome: &Outcome) -> BTreeMap<(String, String), u64> {
    let mut lost = BTreeMap::new();
    for loss in outcome.report.paths.iter().flat_map(|path| &path.losses) {
        let to = loss.to.as_ref().expect("a next point");
        let leg =
            (format!("{} {}", loss.from.node, loss.from.interface), format!("{} {}", to.node, to.interface));
        *lost.entry(leg).or_default() += loss.count;
    }
    lost
}

fn named<T>(truth: BTreeMap<usize, T>) -> BTreeMap<(String, String), T> {
    truth.into_iter().map(|(hop, lost)| ((NAMES[hop].to_owned(), NAMES[hop + 1].to_owned()), lost)).collect()
}

/// Something that came through, so that every point is known to be on the path.
fn seen_everywhere(mut lab: Lab) -> Lab {
    lab.send((0, 1), &packet(60_000, 1 << 30, 100), time_of(9_000), ALL);
    lab
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_lost_byte_is_counted_once_on_its_leg(bursts in vec(burst(), 1..12), gap in 2..500_i64) {
        let outcome = seen_everywhere(lab_of(&bursts, gap, false)).run();
        assert_sums(&outcome);
        let expected = truth(&bursts).into_iter().map(|(hop, (_, bytes))| (hop, bytes)).collect();
        prop_assert_eq!(lost_bytes(&outcome), named(expected));
        prop_assert_eq!(outcome.report.totals.not_observable, 0);
    }

    #[test]
    fn segments_are_the_unit_where_one_hop_shows_them(mut bursts in vec(burst(), 1..12), gap in 2..500_i64) {
        // What was lost before that hop was never seen by itself.
        for reach in bursts.iter_mut().flat_map(|burst| &mut burst.reach) {
            *reach = (*reach).max(CUT + 1);
        }
        let outcome = seen_everywhere(lab_of(&bursts, gap, true)).run();
        let expected = truth(&bursts).into_iter().map(|(hop, (segments, _))| (hop, segments)).collect();
        prop_assert_eq!(lost_segments(&outcome), named(expected));
        let is_lost = !truth(&bursts).is_empty();
        prop_assert_eq!(outcome.report.verdict == Verdict::Lost, is_lost);
    }

    #[test]
    fn the_order_and_size_of_batches_change_nothing(
        bursts in vec(burst(), 1..12), gap in 2..500_i64, rows in 1..9_usize, order in any::<u64>(),
    ) {
        let lab = lab_of(&bursts, gap, false);
        let one = run(lab.job.clone(), lab.batches());
        let mut batches: Vec<(usize, Slice, Columns)> = lab.batches_of(rows);
        let mut at = 0_u64;
        batches.sort_by_cached_key(|_| {
            at += 1;
            at.wrapping_mul(order | 1).rotate_left(17).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        });
        prop_assert_eq!(format!("{one:?}"), format!("{:?}", run(lab.job.clone(), batches)));
    }
}
