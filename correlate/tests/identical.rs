//! Copies of one identity that are under way at the same time, or far apart.
#![allow(missing_docs)]

use crate::lab::*;
use lastseen_correlate::report::SegmentTotals;
use lastseen_correlate::{GUARD_NANOS, Outcome, Slice};

/// When recording ends.
const END: i64 = T1 + GUARD_NANOS;
/// Between two packets of a stream.
const SPACING: i64 = 50 * MILLI;
/// When the stream begins.
const FROM: i64 = T0 + SECOND;

/// Identical datagrams every 50 ms that take `delay` between the nodes, from 1 s on and until after recording. The
/// network loses those of whose number `is_lost` says so, and the receiver's node records until `until`.
fn stream(delay: i64, until: i64, is_lost: impl Fn(i64) -> bool) -> Outcome {
    let mut lab = Lab::new(2);
    let mut packet = Packet::udp(0, 100);
    packet.row.transport_hash = 1;
    for n in 0..(END - FROM) / SPACING {
        for (hop, point) in Lab::path(0, 1).into_iter().enumerate().take(if is_lost(n) { 4 } else { HOPS }) {
            let time = FROM + n * SPACING + hop as i64 * 10 * MICRO + if hop < 4 { 0 } else { delay };
            if time < if hop < 4 { END } else { until } {
                lab.see(point, packet.flow((0, 1), hop == 3 || hop == 4), packet.row, time);
            }
        }
    }
    for point in &Lab::path(0, 1)[4..] {
        lab.slices.insert(*point, vec![Slice { end_nanos: until, ..whole(1000) }]);
    }
    let outcome = lab.run();
    assert_sums(&outcome);
    outcome
}

fn totals(outcome: &Outcome) -> SegmentTotals {
    outcome.report.totals
}

#[test]
fn identical_packets_that_are_under_way_when_recording_ends_are_no_loss() {
    for delay in [MILLI, 40 * MILLI, 60 * MILLI, 90 * MILLI] {
        assert_eq!(totals(&stream(delay, END, |_| false)).lost, 0, "{delay}");
    }
}

#[test]
fn identical_packets_that_are_under_way_when_a_receiver_dies_are_no_loss() {
    for delay in [MILLI, 60 * MILLI, 90 * MILLI] {
        let totals = totals(&stream(delay, T0 + 6 * SECOND + 20 * MILLI, |_| false));
        assert_eq!(totals.lost, 0, "{delay}");
        assert!((97..=101).contains(&totals.delivered), "{totals:?}");
    }
}

#[test]
fn identical_packets_that_were_lost_are_more_than_can_be_under_way() {
    for delay in [MILLI, 60 * MILLI, 90 * MILLI] {
        let outcome = stream(delay, END, |n| n < 180 && n % 9 == 5);
        let (name, count) = leg(&outcome);
        assert_eq!(name, "a eth0 → b eth0");
        assert!((15..=20).contains(&count), "{count} of 20, delay {delay}");
    }
}

/// Two identical packets, 2 s apart. The network lost the first; the sender's node was not capturing when the second
/// passed.
#[test]
fn a_packet_that_the_sender_missed_does_not_arrive_for_one_that_was_lost_long_before() {
    for earlier in [0, 1] {
        let mut lab = Lab::new(2);
        let mut packet = Packet::udp(0, 100);
        packet.row.transport_hash = 1;
        let second = T0 + 3 * SECOND;
        lab.send((0, 1), &packet, T0 + SECOND, up_to(4));
        if earlier == 1 {
            // One that never got as far, so that there is something to assign.
            lab.send((0, 1), &packet, T0 + SECOND + 500 * MILLI, 1);
        }
        lab.send((0, 1), &packet, second, ALL & !up_to(4));
        for other in 0..100 {
            lab.send((0, 1), &Packet::udp(100 + other, 200), T0 + 5 * SECOND + i64::from(other) * MILLI, ALL);
        }
        for point in &Lab::path(0, 1)[..4] {
            let before = Slice { end_nanos: second - 100 * MILLI, ..whole(1000) };
            let after = Slice { start_nanos: second + 100 * MILLI, ..whole(1000) };
            lab.slices.insert(*point, vec![before, after]);
        }
        let outcome = lab.run();
        assert_sums(&outcome);
        let totals = totals(&outcome);
        assert_eq!((totals.segments, totals.delivered), (102 + earlier, 101), "{totals:?}");
    }
}
