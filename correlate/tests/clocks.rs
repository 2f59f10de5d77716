//! Clocks that are wrong, and what the packets say about them.
#![allow(missing_docs)]

use std::collections::BTreeMap;

use crate::lab::*;
use lastseen_correlate::report::NodeReport;
use lastseen_correlate::{Correlator, Outcome, Slice};
use lastseen_packet::observation::Columns;
use proptest::collection::vec;
use proptest::prelude::*;

/// How much a node's stamps are ahead: at the start of the window, and by how much more per second.
#[derive(Clone, Copy, Debug, Default)]
struct Wrong {
    ahead_nanos: i64,
    drift_ppm: i64,
}

impl Wrong {
    fn at(self, time: i64) -> i64 {
        self.ahead_nanos + (time - T0) / 1_000_000 * self.drift_ppm
    }
}

/// A packet: ends, time in microseconds after T0, delay between the nodes in nanoseconds, last hop but one it reaches.
type Sent = ((usize, usize), i64, i64, usize);

/// What each node stamps when its clock is wrong.
fn run_with(nodes: usize, clocks: &[Wrong], packets: &[Sent]) -> Outcome {
    run_measured(&Lab::new(nodes), clocks, packets)
}

/// The same in a lab whose clocks were measured otherwise.
fn run_measured(lab: &Lab, clocks: &[Wrong], packets: &[Sent]) -> Outcome {
    let mut rows: BTreeMap<usize, Columns> = BTreeMap::new();
    for (id, &(ends, micros, delay, end)) in packets.iter().enumerate() {
        let packet = Packet::udp(id as u32, 100);
        for (hop, point) in Lab::path(ends.0, ends.1).into_iter().enumerate().take(end) {
            let time = T0 + micros * MICRO + hop as i64 * MICRO + if hop >= 4 { delay } else { 0 };
            let mut row = packet.row;
            row.time_nanos = time + clocks[point / POINTS].at(time);
            let columns = rows.entry(point).or_default();
            let key = packet.flow(ends, hop == 3 || hop == 4);
            row.flow = columns.flows.iter().position(|known| *known == key).unwrap_or_else(|| {
                columns.flows.push(key);
                columns.flows.len() - 1
            }) as u32;
            columns.push(&row);
        }
    }
    let mut correlator = Correlator::new(lab.job.clone()).unwrap();
    for (point, of) in lab.job.points.iter().enumerate() {
        let columns = rows.remove(&point).unwrap_or_default();
        let (Slice { start_nanos, end_nanos, counters }, wrong) =
            (whole(columns.len() as u64), clocks[of.node]);
        let start_nanos = start_nanos + wrong.at(start_nanos);
        let slice = Slice { start_nanos, end_nanos: end_nanos + wrong.at(end_nanos), counters };
        correlator.add(point, slice, 0, &columns).unwrap();
    }
    let outcome = correlator.finish().unwrap();
    assert_sums(&outcome);
    outcome
}

/// A second of packets between each two nodes that talk, over the whole window; every `nth` one is lost underway.
fn talk(ways: &[(usize, usize)], nth: usize) -> Vec<Sent> {
    let at = |id: usize| (id as i64 * 9_973 + 700, 100 * MICRO + (id as i64 * 7_919) % 400 * MICRO);
    let packet = |id: usize| {
        let (micros, delay) = at(id);
        (ways[id % ways.len()], micros, delay, if nth > 0 && id.is_multiple_of(nth) { 4 } else { HOPS })
    };
    (0..1000).map(packet).collect()
}

fn node(outcome: &Outcome, node: usize) -> &NodeReport {
    &outcome.report.nodes[node]
}

/// The node's true offset in the middle of the recording lies within what is reported.
fn assert_offset(outcome: &Outcome, index: usize, clocks: &[Wrong]) {
    let middle = (T0 - SECOND).midpoint(T1 + lastseen_correlate::GUARD_NANOS);
    let found = node(outcome, index);
    let (offset, error) = (found.clock_offset_nanos.unwrap(), found.clock_error_nanos.unwrap());
    let truth = clocks[index].at(middle);
    assert!((offset - truth).abs() <= error, "node {index}: {offset} ± {error} is not {truth}");
}

#[test]
fn an_offset_of_half_a_second_is_found_and_costs_nothing() {
    for ahead_nanos in [500 * MILLI, -500 * MILLI] {
        let clocks = [Wrong::default(), Wrong { ahead_nanos, drift_ppm: 0 }, Wrong::default()];
        let outcome = run_with(3, &clocks, &talk(&[(0, 1), (1, 0), (1, 2), (2, 1), (0, 2), (2, 0)], 10));
        let totals = outcome.report.totals;
        assert_eq!((totals.segments, totals.lost, totals.delivered), (1000, 100, 900));
        for index in 0..3 {
            assert_offset(&outcome, index, &clocks);
            assert!(node(&outcome, index).clock_error_nanos.unwrap() < MILLI);
        }
        let side = if ahead_nanos > 0 { "ahead of" } else { "behind" };
        let is_said = |note: &&String| {
            note.starts_with("b: its clock is 0.5") && note.contains(side)
                || note.starts_with("b: its clock is 0.499") && note.contains(side)
        };
        assert_eq!(outcome.report.notes.iter().filter(is_said).count(), 1, "{:?}", outcome.report.notes);
        let crossing = outcome.report.paths.iter().filter_map(|path| path.hops[4].delay_p50_nanos);
        assert!(crossing.clone().count() == 6 && crossing.clone().all(|nanos| (0..MILLI).contains(&nanos)));
        let flows = outcome.flows.iter().filter(|flow| flow.node == "b");
        assert!(
            flows.clone().count() > 0 && flows.into_iter().all(|flow| flow.flow_start_nanos < T0 + SECOND)
        );
    }
}

#[test]
fn drift_is_followed() {
    let clocks = [Wrong::default(), Wrong { ahead_nanos: 20 * MILLI, drift_ppm: 50 }, Wrong::default()];
    let outcome = run_with(3, &clocks, &talk(&[(0, 1), (1, 0), (1, 2), (2, 1), (0, 2), (2, 0)], 0));
    assert_eq!(outcome.report.totals.delivered, 1000);
    (0..3).for_each(|index| assert_offset(&outcome, index, &clocks));
    let to_b = outcome.report.paths.iter().find(|path| path.destination.starts_with("10.244.1.")).unwrap();
    // 100 to 500 µs; the drift alone is 500 µs over the window.
    let (median, most) = (to_b.hops[4].delay_p50_nanos.unwrap(), to_b.hops[4].delay_p99_nanos.unwrap());
    assert!((100 * MICRO..600 * MICRO).contains(&median) && most < 800 * MICRO, "{median} {most}");
}

#[test]
fn traffic_one_way_bounds_one_side() {
    let clocks = [Wrong::default(), Wrong { ahead_nanos: -500 * MILLI, drift_ppm: 0 }];
    let outcome = run_with(2, &clocks, &talk(&[(0, 1)], 10));
    assert_eq!((outcome.report.totals.lost, outcome.report.totals.delivered), (100, 900));
    // Which of two measurements is wrong cannot be told; how far they are apart can.
    let apart = node(&outcome, 1).clock_offset_nanos.unwrap() - node(&outcome, 0).clock_offset_nanos.unwrap();
    assert!((-501 * MILLI..-498 * MILLI).contains(&apart), "{apart}");
}

#[test]
fn clocks_that_agree_are_left_alone() {
    let outcome = run_with(2, &[Wrong::default(); 2], &talk(&[(0, 1)], 10));
    for index in 0..2 {
        assert_eq!(node(&outcome, index).clock_offset_nanos, Some(0));
    }
    assert!(!outcome.report.notes.iter().any(|note| note.contains("clock")), "{:?}", outcome.report.notes);
}

#[test]
fn a_step_within_the_window_changes_no_measurement() {
    // Half of the packets back say that the clock is ahead, half that it is behind: no line fits.
    let mut lab = Lab::new(2);
    for id in 0..1000_u32 {
        let time = T0 + i64::from(id) * 9 * MILLI;
        let step = if id < 500 { 300 * MILLI } else { -300 * MILLI };
        let (from, to) = if id % 2 == 0 { (0, 1) } else { (1, 0) };
        let packet = Packet::udp(id, 100);
        for (hop, point) in Lab::path(from, to).into_iter().enumerate() {
            let stamp = time + hop as i64 * 10 * MICRO + if point >= POINTS { step } else { 0 };
            lab.see(point, packet.flow((from, to), hop == 3 || hop == 4), packet.row, stamp);
        }
    }
    let outcome = lab.run();
    assert_sums(&outcome);
    for index in 0..2 {
        let NodeReport { clock_offset_nanos, clock_error_nanos, .. } = node(&outcome, index);
        assert_eq!((*clock_offset_nanos, *clock_error_nanos), (Some(0), Some(200 * MICRO)));
    }
}

/// The same datagram again after the longest delay: one copy was seen by the sending node alone, the other by the
/// receiving one.
#[test]
fn packets_that_only_look_alike_say_nothing_about_clocks() {
    let mut lab = Lab::new(2);
    for id in 0..20 {
        let (packet, early) = (Packet::udp(id, 100), T0 + i64::from(id) * MILLI);
        lab.send((0, 1), &packet, early, !up_to(4) & ALL);
        lab.send((0, 1), &packet, early + 6 * SECOND, up_to(4));
    }
    let outcome = lab.run();
    for index in 0..2 {
        assert_offset(&outcome, index, &[Wrong::default(); 2]);
    }
    assert_eq!(outcome.report.totals.segments, 40);
}

#[test]
fn a_drift_that_was_measured_wrong_is_found() {
    // Two exchanges of 1 ms error each, over ten seconds: nearly 200 ppm that no oscillator has, on either side.
    let wrong = |sign: i64| Wrong { ahead_nanos: sign * 850 * MICRO, drift_ppm: sign * -130 };
    let clocks = [wrong(1), wrong(-1)];
    let mut lab = Lab::new(2);
    for node in &mut lab.job.nodes {
        node.clock_error_nanos = Some(MILLI);
    }
    let outcome = run_measured(&lab, &clocks, &talk(&[(0, 1), (1, 0)], 0));
    (0..2).for_each(|index| assert_offset(&outcome, index, &clocks));
    for path in &outcome.report.paths {
        let median = path.hops[4].delay_p50_nanos.unwrap();
        assert!((100 * MICRO..500 * MICRO).contains(&median), "{median}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// One of three measurements is wrong by more than any round trip, all drift, paths are asymmetric and have jitter.
    #[test]
    fn the_true_offset_lies_within_the_error(
        ahead_nanos in 30 * MILLI..600 * MILLI,
        is_behind in any::<bool>(),
        wrong in 0..3_usize,
        drifts in vec(-50..=50_i64, 3),
        base in vec(10..3000_i64, 6),
        jitter in vec((0..6_usize, 700_000..9_000_000_i64, 0..2000_i64), 200..600),
    ) {
        let mut clocks: Vec<_> = drifts.iter().map(|&drift_ppm| Wrong { ahead_nanos: 0, drift_ppm: drift_ppm / 10 }).collect();
        let ahead_nanos = if is_behind { -ahead_nanos } else { ahead_nanos };
        clocks[wrong] = Wrong { ahead_nanos, drift_ppm: drifts[wrong] };
        let ways = [(0, 1), (1, 0), (1, 2), (2, 1), (0, 2), (2, 0)];
        let packets: Vec<Sent> = jitter
            .iter()
            .map(|&(way, micros, extra)| (ways[way], micros, (base[way] + extra) * MICRO, HOPS))
            .collect();
        let outcome = run_with(3, &clocks, &packets);
        prop_assert_eq!(outcome.report.totals.delivered, packets.len() as u64);
        // The others are measured to 200 µs, which their drift of up to 5 ppm keeps to.
        for index in 0..3 {
            assert_offset(&outcome, index, &clocks);
        }
    }
}
