//! A node whose clock was set forward while it captured: the agent gives the rows of the slice at hand the clock's new
//! offset, so that they come too early by the step (`node-agent/tests/clock_step.rs`), and vouches for all the time.
#![allow(missing_docs)]

mod lab;

use lab::*;

fn is_nothing_lost(step: i64) {
    let mut lab = Lab::new(2);
    for id in 0..9000 {
        let (time, packet) = (time_of(id), Packet::udp(id, 100));
        for (hop, point) in Lab::path(0, 1).into_iter().enumerate() {
            let at = time + hop as i64 * 10 * MICRO + if hop >= 4 { 200 * MICRO } else { 0 };
            let is_early = hop >= 4 && (8_000..8_240).contains(&id);
            let at = if is_early { at - step } else { at };
            lab.see(point, packet.flow((0, 1), hop == 3 || hop == 4), packet.row, at);
        }
    }
    let totals = lab.run().report.totals;
    assert_eq!(totals.lost, 0, "{totals:?}");
}

#[test]
fn rows_that_are_3_s_early_are_not_lost() {
    is_nothing_lost(3 * SECOND);
}

#[test]
fn rows_that_are_10_s_early_are_not_lost() {
    is_nothing_lost(10 * SECOND);
}

/// The sender's clock is set back: its rows of that moment come too late by the step.
#[test]
fn rows_of_the_sender_that_are_10_s_late_are_not_lost() {
    let mut lab = Lab::new(2);
    for id in 0..9000 {
        let (time, packet) = (time_of(id), Packet::udp(id, 100));
        for (hop, point) in Lab::path(0, 1).into_iter().enumerate() {
            let at = time + hop as i64 * 10 * MICRO + if hop >= 4 { 200 * MICRO } else { 0 };
            let is_late = hop < 4 && (-240..0).contains(&(i64::from(id) - 300));
            let at = if is_late { at + 9 * SECOND } else { at };
            lab.see(point, packet.flow((0, 1), hop == 3 || hop == 4), packet.row, at);
        }
    }
    let totals = lab.run().report.totals;
    assert_eq!(totals.lost, 0, "{totals:?}");
}
