//! What a point could not see is not called lost.
#![allow(missing_docs)]

use crate::lab::*;
use lastseen_correlate::input::CaptureState;
use lastseen_correlate::report::Verdict;
use lastseen_correlate::{Outcome, Slice, SliceCounters, ViewOptions};
use lastseen_packet::observation::marks;

#[test]
fn drops_at_every_later_point_are_never_loss() {
    let mut lab = Lab::new(2);
    udp(&mut lab, 1000, 10, 4);
    let counters = SliceCounters { received: 900, kernel_drops: 100, ..SliceCounters::default() };
    for point in 8..16 {
        lab.slices.insert(point, vec![Slice { counters, ..whole(0) }]);
    }
    let outcome = lab.run();
    assert_sums(&outcome);
    assert_eq!(outcome.report.totals.not_observable, 100);
    assert_eq!(outcome.report.verdict, Verdict::Inconclusive);
    let hop = &outcome.report.paths[0].hops[4];
    assert!((hop.blind_ratio - 0.1).abs() < 1e-6, "{}", hop.blind_ratio);
}

#[test]
fn a_node_that_never_captured_is_not_a_place_where_packets_arrived() {
    let mut lab = Lab::new(2);
    udp(&mut lab, 1000, 1, 4);
    lab.job.points.truncate(POINTS);
    let clean = lab.run();
    assert_eq!((clean.report.totals.not_observable, clean.report.totals.lost), (1000, 0));
    assert_eq!(clean.report.verdict, Verdict::Inconclusive);
    assert_sums(&clean);
}

#[test]
fn a_failed_node_leaves_the_verdict_open_even_where_nothing_was_lost() {
    let mut lab = Lab::new(3);
    udp(&mut lab, 1000, 0, 0);
    lab.job.nodes[2].state = CaptureState::Failed;
    let outcome = lab.run();
    assert_eq!((outcome.report.totals.delivered, outcome.report.verdict), (1000, Verdict::Inconclusive));
    let view = outcome.report.filtered(&ViewOptions { min_loss_ratio: Some(0.5), ..ViewOptions::default() });
    assert_eq!(view.verdict, Verdict::Inconclusive);
}

#[test]
fn packets_that_were_cut_too_short_are_missed_and_not_lost() {
    let mut lab = Lab::new(2);
    udp(&mut lab, 1000, 10, 4);
    let counters = SliceCounters { received: 1000, unreadable: 100, ..SliceCounters::default() };
    for point in 8..16 {
        lab.slices.insert(point, vec![Slice { counters, ..whole(0) }]);
    }
    let outcome = lab.run();
    assert_eq!((outcome.report.totals.not_observable, outcome.report.totals.lost), (100, 0));
    let notes = |outcome: &Outcome| outcome.report.notes.join("\n");
    assert!(notes(&outcome).contains("malformed; give a larger --snaplen"), "{}", notes(&outcome));
    assert!(!notes(&outcome).contains("payload term"), "{}", notes(&outcome));
    lab.job.filter = "port 53 and udp [8:2] = 7".to_owned();
    let notes = notes(&lab.run());
    assert!(notes.contains("super-frames; give a larger --snaplen or drop the payload term"), "{notes}");
}

#[test]
fn what_a_node_set_aside_reaches_the_report() {
    let mut lab = Lab::new(2);
    udp(&mut lab, 1000, 0, 0);
    let counters = SliceCounters {
        received: 1015,
        own_connections: 4,
        undecoded: 5,
        unreadable: 6,
        ..Default::default()
    };
    for point in [8, 9] {
        lab.slices.insert(point, vec![Slice { counters, ..whole(0) }]);
    }
    let nodes = lab.run().report.nodes;
    let found = nodes.iter().map(|node| (node.own_connections, node.undecoded, node.unreadable));
    assert_eq!(found.collect::<Vec<_>>(), [(0, 0, 0), (8, 10, 12)]);
}

#[test]
fn a_cut_hash_is_no_sighting_of_another_packet() {
    let mut lab = Lab::new(2);
    for id in 0..1000 {
        let time = T0 + i64::from(id) * MILLI;
        let mut packet = Packet::udp(id, 100);
        lab.send((0, 1), &packet, time, 0b0000_0111);
        packet.row.transport_hash ^= 1;
        packet.row.marks |= marks::HASH_TRUNCATED;
        lab.send((0, 1), &packet, time, 0b1111_1000);
    }
    let totals = lab.run().report.totals;
    assert_eq!((totals.segments, totals.not_observable, totals.lost), (1000, 1000, 0));
}

#[test]
fn one_point_that_could_see_testifies_for_the_blind_ones() {
    let mut lab = Lab::new(2);
    udp(&mut lab, 1000, 10, 4);
    let counters = SliceCounters { received: 900, kernel_drops: 100, ..SliceCounters::default() };
    lab.slices.insert(Lab::path(0, 1)[4], vec![Slice { counters, ..whole(0) }]);
    let outcome = lab.run();
    assert_eq!(leg(&outcome), ("a eth0 → b flannel.1".to_owned(), 100));
}

#[test]
fn a_node_that_stops_capturing_hides_and_does_not_lose() {
    let mut lab = Lab::new(2);
    udp(&mut lab, 1000, 2, 4);
    for point in 8..16 {
        lab.slices.insert(point, vec![Slice { end_nanos: T0 + SECOND / 2, ..whole(1000) }]);
    }
    let outcome = lab.run();
    assert_sums(&outcome);
    let totals = outcome.report.totals;
    assert!(totals.not_observable >= 250 && totals.lost <= 250, "{totals:?}");
    assert_eq!(totals.not_observable + totals.lost, 500);
    assert!(
        outcome.report.notes.iter().any(|note| note.contains("not captured for 9.500 s")),
        "{:?}",
        outcome.report.notes
    );
}

#[test]
fn a_miss_at_a_middle_point_is_no_loss() {
    let mut lab = Lab::new(2);
    for id in 0..100 {
        let mask = if id % 3 == 0 { ALL & !(1 << 4) } else { ALL };
        lab.send((0, 1), &Packet::udp(id, 100), T0 + i64::from(id) * MILLI, mask);
    }
    let outcome = lab.run();
    assert_eq!(outcome.report.totals.delivered, 100);
    assert_eq!(outcome.report.paths[0].hops[4].seen, 66);
}

#[test]
fn a_point_that_saw_none_between_points_that_did_is_bypassed() {
    let mut lab = Lab::new(2);
    for id in 0..100 {
        let mask = if id % 10 == 0 { up_to(4) } else { ALL & !(1 << 6) };
        lab.send((0, 1), &Packet::udp(id, 100), T0 + i64::from(id) * MILLI, mask);
    }
    let outcome = lab.run();
    assert_sums(&outcome);
    assert_eq!(leg(&outcome), ("a eth0 → b eth0".to_owned(), 10));
    assert!(outcome.report.paths[0].hops[6].bypassed);
    assert_eq!(outcome.report.totals.bypassed, 100);
}

#[test]
fn only_segments_first_seen_in_the_window_are_judged() {
    let mut lab = Lab::new(2);
    let times = [T0 - 1, T0, T1 - 1, T1, T1 + SECOND];
    for (id, time) in times.into_iter().enumerate() {
        lab.send((0, 1), &Packet::udp(id as u32, 100), time, up_to(4));
    }
    let outcome = lab.run();
    assert_eq!((outcome.report.totals.segments, outcome.report.totals.lost), (2, 2));
}

#[test]
fn a_segment_last_seen_as_recording_ends_is_in_flight() {
    let mut lab = Lab::new(2);
    let packet = Packet::udp(1, 100);
    lab.send((0, 1), &packet, T1 - 1, up_to(2));
    lab.see(Lab::path(0, 1)[2], packet.flow((0, 1), false), packet.row, T1 + 3 * SECOND + SECOND / 2);
    let outcome = lab.run();
    assert_sums(&outcome);
    assert_eq!(outcome.report.totals.in_flight, 1);
}
