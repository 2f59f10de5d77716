//! What holds for any traffic, however it was lost, copied and captured.
#![allow(missing_docs)]

use crate::lab::*;
use lastseen_correlate::report::{NodeReport, SegmentTotals};
use lastseen_correlate::{GUARD_NANOS, Outcome, Slice, SliceCounters};
use proptest::collection::vec;
use proptest::prelude::*;

/// One packet: which of few identities, when, where it was seen, which way.
#[derive(Clone, Debug)]
struct Sent {
    identity: u32,
    millis: i64,
    mask: u32,
    is_back: bool,
    is_tcp: bool,
}

fn sent() -> impl Strategy<Value = Sent> {
    (0..40_u32, -900..13_900_i64, 1..256_u32, any::<bool>(), any::<bool>()).prop_map(
        |(identity, millis, mask, is_back, is_tcp)| Sent { identity, millis, mask, is_back, is_tcp },
    )
}

/// The guard, and what the clocks of a synthetic fabric may be apart on top.
const LONGEST_DELAY_MILLIS: i64 = GUARD_NANOS / MILLI + 10;

/// Drops of up to two points in the first half of the recording.
fn drops() -> impl Strategy<Value = Vec<(usize, u64)>> {
    vec((0..16_usize, 1..50_u64), 0..3)
}

fn lab_of(packets: &[Sent], drops: &[(usize, u64)]) -> Lab {
    let mut lab = Lab::new(2);
    for packet in packets {
        let built = if packet.is_tcp {
            Packet::tcp(packet.identity as u16, packet.identity * 100, 100)
        } else {
            Packet::udp(packet.identity, 100 + packet.identity)
        };
        let ends = if packet.is_back { (1, 0) } else { (0, 1) };
        lab.send(ends, &built, T0 + packet.millis * MILLI, packet.mask);
    }
    let middle = T0 + 5 * SECOND;
    for &(point, kernel_drops) in drops {
        let counters =
            SliceCounters { received: 100, kernel_drops, agent_drops: 0, ..SliceCounters::default() };
        let halves =
            [Slice { end_nanos: middle, counters, ..whole(0) }, Slice { start_nanos: middle, ..whole(100) }];
        lab.slices.insert(point, halves.to_vec());
    }
    lab
}

/// Distinct identities: with copies an added sighting may as well be one copy more.
fn distinct(mut packets: Vec<Sent>) -> Vec<Sent> {
    for (at, packet) in packets.iter_mut().enumerate() {
        packet.identity = at as u32;
    }
    packets
}

/// The totals without and with one sighting more, of a chosen packet at the point after the last that saw it. Absent
/// if that is no fair comparison.
fn with_a_further_sighting(
    packets: Vec<Sent>,
    chosen: prop::sample::Index,
    drops: &[(usize, u64)],
) -> Option<(SegmentTotals, SegmentTotals)> {
    let mut packets = distinct(packets);
    let before = lab_of(&packets, drops).run().report.totals;
    let at = chosen.index(packets.len());
    let packet = packets[at].clone();
    // A point that nobody saw the flow at is off the path; its first sighting puts it there, so compare only where
    // every point is on it.
    let on_path = |packets: &[Sent]| {
        let alike = packets.iter().filter(|p| p.is_back == packet.is_back && p.is_tcp == packet.is_tcp);
        alike.fold(0, |mask, p| mask | p.mask)
    };
    let earlier = on_path(&packets);
    if packet.mask.ilog2() < 7 {
        packets[at].mask |= 2 << packet.mask.ilog2();
    }
    (on_path(&packets) == earlier).then(|| (before, lab_of(&packets, drops).run().report.totals))
}

fn bytes(outcome: &Outcome) -> String {
    format!("{outcome:?}")
}

/// All nodes of a synthetic fabric have one clock.
fn is_clock_right(node: &NodeReport) -> bool {
    node.clock_offset_nanos.is_some_and(|offset| offset.abs() < MILLI)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn states_add_up_and_nothing_is_counted_twice(packets in vec(sent(), 0..120), drops in drops()) {
        let outcome = lab_of(&packets, &drops).run();
        assert_sums(&outcome);
        let totals = outcome.report.totals;
        let sightings: u64 = packets.iter().map(|packet| u64::from(packet.mask.count_ones())).sum();
        prop_assert!(totals.segments + totals.duplicated <= sightings);
        for path in &outcome.report.paths {
            prop_assert!(path.hops.iter().all(|hop| hop.seen <= path.totals.segments));
            prop_assert!(path.losses.iter().all(|loss| loss.count <= loss.total && (0.0..=1.0).contains(&loss.confidence)));
        }
    }

    #[test]
    fn no_observation_is_lost(packets in vec(sent(), 1..80), drops in drops()) {
        let inside = |packet: Sent| Sent { millis: packet.millis.clamp(10, 9_990), ..packet };
        let packets = distinct(packets.into_iter().map(inside).collect());
        let outcome = lab_of(&packets, &drops).run();
        let sightings: u64 = packets.iter().map(|packet| u64::from(packet.mask.count_ones())).sum();
        let counted = outcome.flows.iter().map(|flow| flow.packet_delta_count).sum::<u64>();
        let matched = outcome.report.paths.iter().flat_map(|path| &path.hops).map(|hop| hop.seen).sum::<u64>();
        prop_assert_eq!((counted, matched), (sightings, sightings));
        prop_assert_eq!(outcome.report.totals.segments, packets.len() as u64);
    }

    #[test]
    fn the_order_and_size_of_batches_change_nothing(
        packets in vec(sent(), 1..80),
        drops in drops(),
        rows in 1..9_usize,
        order in any::<u64>(),
    ) {
        let lab = lab_of(&packets, &drops);
        let mut batches = lab.batches_of(rows);
        let one = run(lab.job.clone(), lab.batches());
        let mut at = 0_u64;
        batches.sort_by_cached_key(|_| {
            at += 1;
            at.wrapping_mul(order | 1).rotate_left(17).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        });
        let other = run(lab.job.clone(), batches);
        prop_assert_eq!(bytes(&one), bytes(&other));
    }

    #[test]
    fn a_further_downstream_sighting_never_raises_the_loss(
        packets in vec(sent(), 1..60),
        chosen in any::<prop::sample::Index>(),
        drops in drops(),
    ) {
        // What a point misses in the middle of trajectories says how far to believe it, so that one sighting bears on
        // the others: here it misses nothing.
        let whole = |mask: u32| (u32::MAX << mask.trailing_zeros()) & up_to(mask.ilog2() as usize + 1);
        let packets: Vec<_> = packets.into_iter().map(|packet| Sent { mask: whole(packet.mask), ..packet }).collect();
        let Some((before, after)) = with_a_further_sighting(packets, chosen, &drops) else { return Ok(()) };
        prop_assert!(after.lost <= before.lost, "{:?} then {:?}", before, after);
    }

    #[test]
    fn a_further_downstream_sighting_never_raises_what_is_missing(
        packets in vec(sent(), 1..60),
        chosen in any::<prop::sample::Index>(),
        drops in drops(),
    ) {
        let Some((before, after)) = with_a_further_sighting(packets, chosen, &drops) else { return Ok(()) };
        let missing = |totals: &SegmentTotals| totals.lost + totals.not_observable;
        prop_assert!(missing(&after) <= missing(&before), "{:?} then {:?}", before, after);
    }

    #[test]
    fn a_further_upstream_sighting_raises_the_segments_by_one(
        packets in vec(sent(), 1..60),
        millis in 0..10_000_i64,
        drops in drops(),
    ) {
        let mut packets = distinct(packets);
        // The first sighting at a point puts it on the path, and those between it and the others off it.
        packets[0].mask |= 1;
        let Sent { is_back, is_tcp, .. } = packets[0];
        let before = lab_of(&packets, &drops).run().report.totals;
        packets.push(Sent { identity: 1000, millis, mask: 1, is_back, is_tcp });
        let after = lab_of(&packets, &drops).run().report.totals;
        prop_assert_eq!(after.segments, before.segments + 1);
    }

    #[test]
    fn an_identity_used_again_after_the_longest_delay_is_a_segment_of_its_own(
        packets in vec(sent(), 1..60),
        identity in 0..6_u32,
        millis in 10..9_990_i64,
        drops in drops(),
    ) {
        let mut packets: Vec<_> =
            packets.into_iter().map(|packet| Sent { identity: packet.identity % 6, ..packet }).collect();
        let (is_back, is_tcp) = (packets[0].is_back, packets[0].is_tcp);
        let is_alike = |p: &Sent| p.identity == identity && p.is_back == is_back && p.is_tcp == is_tcp;
        packets.retain(|p| !is_alike(p) || (p.millis - millis).abs() > LONGEST_DELAY_MILLIS);
        // The first sighting at a point puts it on the path.
        packets.push(Sent { identity: 100, millis, mask: 1, is_back, is_tcp });
        let before = lab_of(&packets, &drops).run();
        // Where several copies are each seen by other points, they can be one packet between clocks that are seconds
        // apart: then it is not the window that says what is judged.
        if !before.report.nodes.iter().all(is_clock_right) {
            return Ok(());
        }
        packets.push(Sent { identity, millis, mask: 1, is_back, is_tcp });
        let (before, after) = (before.report.totals, lab_of(&packets, &drops).run().report.totals);
        prop_assert_eq!(after.segments, before.segments + 1, "{:?} then {:?}", before, after);
    }

    #[test]
    fn lost_is_never_more_than_what_went_missing(packets in vec(sent(), 1..120)) {
        let outcome = lab_of(&packets, &[]).run();
        let incomplete = packets.iter().filter(|packet| packet.mask >> 7 == 0).count() as u64;
        prop_assert!(outcome.report.totals.lost <= incomplete);
    }

    #[test]
    fn blind_everywhere_means_no_loss_at_all(packets in vec(sent(), 1..80), drops in 1..100_u64) {
        let mut lab = lab_of(&packets, &[]);
        let counters = SliceCounters { received: 10, kernel_drops: 0, agent_drops: drops, ..SliceCounters::default() };
        for point in 0..16 {
            lab.slices.insert(point, vec![Slice { counters, ..whole(0) }]);
        }
        prop_assert_eq!(lab.run().report.totals.lost, 0);
    }

    #[test]
    fn any_rows_at_any_time_are_survived(
        rows in vec((0..16_usize, any::<i64>(), any::<u32>(), any::<u32>(), any::<u16>(), any::<u8>(), any::<u8>()), 0..40),
        start in any::<i64>(), length in 0..i64::MAX, shift in any::<i64>(),
    ) {
        let lab = Lab::new(2);
        let mut correlator = lastseen_correlate::Correlator::new(lab.job.clone()).unwrap();
        for (point, time, payload, length_of_row, small, kind, marks) in rows {
            let mut packet = Packet::tcp(small, payload, payload);
            packet.row.ip_length = length_of_row;
            (packet.row.gso_size, packet.row.gso_type, packet.row.marks) = (small, kind % 6, marks);
            (packet.row.fragment_offset, packet.protocol) = (small & 0x8, if kind % 2 == 0 { 6 } else { 17 });
            let mut columns = lastseen_packet::observation::Columns::default();
            columns.flows.push(packet.flow((0, 1), kind % 3 == 0));
            packet.row.time_nanos = time;
            columns.push(&packet.row);
            let counters = SliceCounters { received: u64::MAX, kernel_drops: u64::MAX, agent_drops: u64::from(payload), ..SliceCounters::default() };
            let slice = Slice { start_nanos: start, end_nanos: start.saturating_add(length), counters };
            let _ = correlator.add(point, slice, shift, &columns);
        }
        let outcome = correlator.finish().unwrap();
        assert_sums(&outcome);
    }
}
