//! Points at the end of a path that packets go past.
#![allow(missing_docs)]

use crate::lab::*;
use lastseen_correlate::Outcome;
use lastseen_correlate::report::Verdict;

/// The receiving node's bridge and veth are hops 6 and 7.
const PAST: u32 = ALL & !(1 << 6 | 1 << 7);

/// `segments` of a connection seen at `hops`, of which the answers acknowledge all.
fn connect(lab: &mut Lab, segments: u32, hops: u32) {
    for nth in 0..segments {
        let time = T0 + i64::from(nth) * 5 * MILLI;
        lab.send((0, 1), &Packet::tcp(nth as u16, nth * 100, 100), time, hops);
        let mut answer = Packet::tcp(1000 + nth as u16, 0, 0);
        answer.row.tcp_ack = (nth + 1) * 100;
        answer.ports = (80, 41822);
        lab.send((1, 0), &answer, time + MILLI, ALL);
    }
}

/// 100 datagrams beside them, every tenth lost between the nodes.
fn datagrams(lab: &mut Lab, hops: u32) {
    for id in 0..100 {
        let hops = if id % 10 == 0 { hops & up_to(4) } else { hops };
        lab.send((0, 1), &Packet::udp(id, 100), T0 + i64::from(id) * MILLI, hops);
    }
}

fn states(outcome: &Outcome) -> (u64, u64, u64) {
    assert_sums(outcome);
    let totals = outcome.report.totals;
    (totals.delivered, totals.lost, totals.not_observable)
}

#[test]
fn acknowledged_segments_that_the_end_never_saw_show_that_packets_go_past_it() {
    let mut lab = Lab::new(2);
    connect(&mut lab, 20, PAST);
    datagrams(&mut lab, PAST);
    let outcome = lab.run();
    assert_eq!(states(&outcome), (20 + 20 + 90, 10, 0));
    assert_eq!(leg(&outcome), ("a eth0 → b eth0".to_owned(), 10));
    let of_datagrams = outcome.report.paths.iter().find(|path| path.protocol == "udp").expect("a path");
    assert!(of_datagrams.hops[6].bypassed && of_datagrams.hops[7].bypassed);
}

#[test]
fn who_else_sends_to_the_pod_goes_past_the_same_points() {
    let mut lab = Lab::new(3);
    connect(&mut lab, 20, PAST);
    for id in 0..100 {
        lab.send((2, 1), &Packet::udp(id, 100), T0 + i64::from(id) * MILLI, PAST);
        lab.send((2, 0), &Packet::udp(1000 + id, 100), T0 + i64::from(id) * MILLI, PAST);
    }
    let outcome = lab.run();
    assert_eq!(states(&outcome), (20 + 20 + 100, 100, 0));
    assert_eq!(leg(&outcome), ("a flannel.1 → a cni0".to_owned(), 100));
}

#[test]
fn a_black_hole_is_no_bypass_whatever_takes_another_way() {
    let mut lab = Lab::new(2);
    connect(&mut lab, 20, ALL);
    datagrams(&mut lab, PAST);
    assert_eq!(states(&lab.run()), (20 + 20, 100, 0));
    let mut further = Lab::new(2);
    connect(&mut further, 20, PAST);
    for id in 0..100 {
        let hops = if id % 10 == 0 { up_to(7) } else { ALL };
        further.send((0, 1), &Packet::udp(id, 100), T0 + i64::from(id) * MILLI, hops);
    }
    let outcome = further.run();
    let path = outcome.report.paths.iter().find(|path| path.protocol == "udp").expect("a path");
    assert_eq!((path.totals.delivered, path.hops[7].bypassed), (90, false));
    let mut alone = Lab::new(2);
    datagrams(&mut alone, PAST);
    let outcome = alone.run();
    assert_eq!((states(&outcome), outcome.report.verdict), ((0, 100, 0), Verdict::Lost));
}

#[test]
fn a_few_acknowledgments_do_not_show_a_bypass() {
    let mut lab = Lab::new(2);
    connect(&mut lab, 3, PAST);
    datagrams(&mut lab, PAST);
    let outcome = lab.run();
    let datagrams = outcome.report.paths.iter().find(|path| path.protocol == "udp").expect("a path");
    assert!(!datagrams.hops[7].bypassed);
    assert_eq!(datagrams.totals.delivered, 0);
}
