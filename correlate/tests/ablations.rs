//! What each idea of the method is worth: without it, a loss is missed or made up.
#![allow(missing_docs)]

use crate::lab::*;
use lastseen_correlate::{Ablation, Correlator, Outcome};
use lastseen_packet::observation::gso;

/// The outcome without an idea, and with all of them.
fn without(lab: &Lab, idea: Ablation) -> (Outcome, Outcome) {
    let mut correlator = Correlator::new(lab.job.clone()).unwrap().without(idea);
    for (point, slice, columns) in lab.batches() {
        correlator.add(point, slice, 0, &columns).unwrap();
    }
    (correlator.finish().unwrap(), lab.run())
}

/// Datagrams with the same payload, of which the sixth is lost between the nodes.
fn alike(ip_id: fn(u16) -> u16) -> Lab {
    let mut lab = Lab::new(2);
    for id in 0..10 {
        let mut packet = Packet::udp(1, 100);
        packet.row.ip_id = ip_id(id);
        lab.send((0, 1), &packet, T0 + SECOND + i64::from(id) * MILLI, if id == 5 { up_to(4) } else { ALL });
    }
    lab
}

#[test]
fn the_identification_tells_which_of_many_datagrams_is_lost() {
    let (without, with) = without(&alike(|id| 100 + id), Ablation::IpId);
    let named = |outcome: &Outcome| outcome.lost.iter().map(|packet| packet.ip_id).collect::<Vec<_>>();
    assert_eq!(named(&with), [Some(105)]);
    assert_ne!(named(&without), named(&with));
}

#[test]
fn copies_that_nothing_tells_apart_are_counted() {
    let (without, with) = without(&alike(|_| 0), Ablation::Multiset);
    assert_eq!((with.report.totals.lost, with.report.totals.segments), (1, 10));
    assert_eq!(without.report.totals.lost, 0);
}

#[test]
fn a_super_packet_that_was_cut_on_the_way_is_no_loss() {
    let mut lab = Lab::new(2);
    let mut whole = Packet::tcp(1, 0, 2000);
    (whole.row.gso_type, whole.row.gso_size) = (gso::TCPV4, 1000);
    lab.send((0, 1), &whole, T0 + SECOND, up_to(4));
    for (ip_id, seq) in [(1, 0), (2, 1000)] {
        lab.send((0, 1), &Packet::tcp(ip_id, seq, 1000), T0 + SECOND, ALL & !up_to(4));
    }
    let (without, with) = without(&lab, Ablation::Gso);
    assert_eq!((with.report.totals.lost, with.report.totals.delivered), (0, 2));
    assert_eq!(without.report.totals.lost, 1);
}

#[test]
fn what_arrives_after_the_window_is_no_loss() {
    let mut lab = Lab::new(2);
    lab.send((0, 1), &Packet::udp(1, 100), T1 - 100 * MICRO, ALL);
    lab.send((0, 1), &Packet::udp(2, 100), T0 + SECOND, ALL);
    let (without, with) = without(&lab, Ablation::Guard);
    assert_eq!((with.report.totals.lost, with.report.totals.delivered), (0, 2));
    assert_eq!(without.report.totals.lost, 1);
}
