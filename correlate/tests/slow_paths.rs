//! What a point could not see is not lost, however long packets take to it.
#![allow(missing_docs)]

use crate::lab::*;
use lastseen_correlate::{Outcome, Slice, SliceCounters};

/// A thousand datagrams, one each millisecond, that take `delay` from node to node. Those that come to `b` while it
/// `misses` are not seen there.
fn missed(delay: i64, misses: std::ops::Range<i64>, slices: &[Slice]) -> Outcome {
    let mut lab = Lab::new(2);
    for id in 0..3000 {
        let (time, packet) = (time_of(id), Packet::udp(id, 100));
        for (hop, point) in Lab::path(0, 1).into_iter().enumerate() {
            let at = time + hop as i64 * 10 * MICRO + if hop >= 4 { delay } else { 0 };
            if hop < 4 || !misses.contains(&at) {
                lab.see(point, packet.flow((0, 1), hop == 3 || hop == 4), packet.row, at);
            }
        }
    }
    for point in Lab::path(0, 1).into_iter().skip(4) {
        lab.slices.insert(point, slices.to_vec());
    }
    lab.run()
}

/// Slices as an agent cuts them that drops everything within one tick, with a tick before and after.
fn dropping(from: i64, to: i64) -> [Slice; 3] {
    let part = |start, end, received, kernel_drops| {
        let counters = SliceCounters { received, kernel_drops, ..SliceCounters::default() };
        Slice { start_nanos: start, end_nanos: end, counters }
    };
    [part(whole(0).start_nanos, from, 1000, 0), part(from, to, 0, 50), part(to, whole(0).end_nanos, 1950, 0)]
}

fn is_never_lost(delay: i64) {
    let (from, to) = (T0 + SECOND, T0 + SECOND + 50 * MILLI);
    let totals = missed(delay, from..to, &dropping(from, to)).report.totals;
    assert_eq!(totals.lost, 0, "{} ms: {totals:?}", delay / MILLI);
}

#[test]
fn what_rings_drop_50_ms_after_it_was_sent_is_not_lost() {
    is_never_lost(50 * MILLI);
}

#[test]
fn what_rings_drop_150_ms_after_it_was_sent_is_not_lost() {
    is_never_lost(150 * MILLI);
}

#[test]
fn what_rings_drop_300_ms_after_it_was_sent_is_not_lost() {
    is_never_lost(300 * MILLI);
}

#[test]
fn what_comes_150_ms_late_to_an_agent_that_was_killed_is_not_lost() {
    let killed = T0 + SECOND;
    let before = Slice { end_nanos: killed, ..whole(1000) };
    let totals = missed(150 * MILLI, killed..T1 + SECOND, &[before]).report.totals;
    assert_eq!(totals.lost, 0, "{totals:?}");
}
