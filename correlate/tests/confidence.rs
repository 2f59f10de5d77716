//! Which word is enough to call a missing packet lost.
#![allow(missing_docs)]

use crate::lab::*;
use lastseen_correlate::{DropEvent, LEAST_CONFIDENCE, Outcome};
use lastseen_packet::k0;

const LAST: u32 = 1 << 7;

/// A TCP stream of `count` segments of 1000 bytes from a to b, a millisecond apart, seen at the hops that `mask` says.
fn stream(lab: &mut Lab, count: u32, mask: impl Fn(u32) -> u32) {
    for id in 0..count {
        lab.send((0, 1), &segment(id), T0 + i64::from(id) * MILLI, mask(id));
    }
}

fn segment(id: u32) -> Packet {
    let mut packet = Packet::tcp(id as u16, id * 1000, 1000);
    packet.row.ts_value = 7000 + id;
    packet
}

/// An ACK from b to a.
fn ack(number: u32, echo: u32) -> Packet {
    let mut packet = Packet::tcp(0, 1, 0);
    packet.ports = (80, 41822);
    (packet.row.ip_id, packet.row.tcp_ack, packet.row.ts_echo) = ((number / 1000) as u16, number, echo);
    packet
}

fn acks(lab: &mut Lab, ids: std::ops::Range<u32>) {
    for id in ids {
        lab.send((1, 0), &ack((id + 1) * 1000, 7000 + id), T0 + i64::from(id) * MILLI + 400 * MICRO, ALL);
    }
}

fn totals(outcome: &Outcome) -> (u64, u64, u64) {
    assert_sums(outcome);
    let totals = outcome.report.totals;
    (totals.delivered, totals.lost, totals.not_observable)
}

#[test]
fn a_point_that_misses_as_much_as_is_missing_beyond_it_testifies_to_no_loss() {
    // Hop 4 is all there is of the other node, and misses a tenth of the packets that pass it.
    let mut lab = Lab::new(3);
    for id in 0..2000_u32 {
        let missed = id % 10 == 0;
        lab.send(
            (0, 1),
            &Packet::udp(id, 100),
            T0 + i64::from(id) * MILLI,
            if missed { ALL & !(1 << 4) } else { ALL },
        );
    }
    assert_eq!(totals(&lab.run()), (2000, 0, 0));
    // The others of that node are not captured while it is alone.
    for id in 2000..4000_u32 {
        let mask = if id % 10 == 0 { up_to(4) } else { up_to(5) };
        lab.send((0, 1), &Packet::udp(id, 100), T0 + i64::from(id) * MILLI, mask);
    }
    let early = T0 + 2000 * MILLI + 100 * MILLI;
    for point in [12, 11, 9] {
        lab.slices.insert(point, vec![lastseen_correlate::Slice { end_nanos: early, ..whole(2000) }]);
    }
    let outcome = lab.run();
    let (_, lost, _) = totals(&outcome);
    assert_eq!(lost, 0, "{:?}", outcome.report.notes);
    let note = |text: &str| outcome.report.notes.iter().any(|note| note.contains(text));
    assert!(note("not called lost"), "{:?}", outcome.report.notes);
    assert!(note("b eth0 in: did not see 200 of "), "{:?}", outcome.report.notes);
}

#[test]
fn a_loss_far_above_what_a_point_misses_is_called_and_weighed() {
    let mut lab = Lab::new(2);
    // The last point misses one of a thousand, as ACKs show; a fifth of what follows is lost before it.
    stream(&mut lab, 1000, |id| if id == 499 { ALL & !LAST } else { ALL });
    acks(&mut lab, 0..1000);
    for id in 0..1000_u32 {
        let mask = if id % 5 == 0 { ALL & !LAST } else { ALL };
        lab.send((0, 1), &Packet::udp(id, 100), T0 + i64::from(id) * MILLI, mask);
    }
    let outcome = lab.run();
    assert_eq!(totals(&outcome).1, 200);
    let loss = outcome.report.paths.iter().find_map(|path| path.losses.first()).expect("a loss");
    // 0.2 to 0.8 against one missing by 1.5 of 1001.
    let chance = 1.5 / 1001.0;
    let wanted = 0.2 / (0.2 + 0.8 * chance);
    assert!((loss.confidence - wanted).abs() < 2e-3, "{} is not {wanted}", loss.confidence);
    assert!(loss.confidence > LEAST_CONFIDENCE);
    assert!(outcome.lost.iter().all(|lost| (lost.confidence - loss.confidence).abs() < 1e-12));
}

#[test]
fn what_a_point_misses_of_packets_that_are_lost_beyond_it_is_no_loss_before_it() {
    let mut lab = Lab::new(2);
    for id in 0..2000_u32 {
        let mask = if id % 4 == 1 { up_to(5) } else { ALL };
        let mask = if id % 7 == 0 { mask & !(1 << 4) } else { mask };
        lab.send((0, 1), &Packet::udp(id, 100), T0 + i64::from(id) * MILLI, mask);
    }
    let outcome = lab.run();
    let losses = &outcome.report.paths[0].losses;
    assert!(losses.iter().all(|loss| loss.to.as_ref().unwrap().interface != "eth0"), "{losses:#?}");
    assert_eq!(totals(&outcome).1, 500);
}

#[test]
fn an_acknowledged_segment_that_the_last_points_missed_is_delivered() {
    let mut lab = Lab::new(2);
    stream(&mut lab, 100, |id| if id == 50 { up_to(4) } else { ALL });
    assert_eq!(totals(&lab.run()), (99, 1, 0));
    acks(&mut lab, 0..100);
    let outcome = lab.run();
    assert_eq!(totals(&outcome), (200, 0, 0));
    assert!(outcome.report.notes.iter().any(|note| note.starts_with("1 segments were acknowledged")));
}

#[test]
fn an_acknowledgment_proves_nothing_once_the_bytes_were_sent_again() {
    let mut lab = Lab::new(2);
    stream(&mut lab, 100, |id| if id == 50 { up_to(4) } else { ALL });
    acks(&mut lab, 0..50);
    let mut again = segment(50);
    (again.row.ip_id, again.row.ts_value) = (5000, 7300);
    lab.send((0, 1), &again, T0 + 300 * MILLI, ALL);
    lab.send((1, 0), &ack(100_000, 7300), T0 + 301 * MILLI, ALL);
    assert_eq!(totals(&lab.run()), (151, 1, 0));
}

#[test]
fn an_acknowledgment_among_more_repeats_than_are_looked_at_proves_nothing() {
    let sent_again = |times: u32| {
        let mut lab = Lab::new(2);
        stream(&mut lab, 100, |id| if id == 50 { up_to(4) } else { ALL });
        acks(&mut lab, 0..100);
        for time in 0..times {
            let mut again = segment(40);
            (again.row.ip_id, again.row.ts_value) = (5000 + time as u16, 7300 + time);
            lab.send((0, 1), &again, T0 + (300 + i64::from(time)) * MILLI, ALL);
        }
        totals(&lab.run())
    };
    // Each is a repeat at every hop, and 4,096 near a segment are looked at.
    let most = 4096 / HOPS as u32;
    assert_eq!(sent_again(most), (200 + u64::from(most), 0, 0));
    assert_eq!(sent_again(most + 1), (200 + u64::from(most), 1, 0));
}

#[test]
fn the_echoed_timestamp_tells_which_of_two_transmissions_arrived() {
    let mut lab = Lab::new(2);
    stream(&mut lab, 100, |id| if id == 50 { up_to(4) } else { ALL });
    acks(&mut lab, 0..50);
    let mut again = segment(50);
    (again.row.ip_id, again.row.ts_value) = (5000, 7300);
    lab.send((0, 1), &again, T0 + 300 * MILLI, ALL);
    // The first was only held up: the receiver had it when it answered.
    lab.send((1, 0), &ack(100_000, 7050), T0 + 301 * MILLI, ALL);
    assert_eq!(totals(&lab.run()), (152, 0, 0));
}

#[test]
fn a_selective_acknowledgment_proves_an_arrival_too() {
    let mut lab = Lab::new(2);
    stream(&mut lab, 100, |id| if id == 50 { up_to(4) } else { ALL });
    acks(&mut lab, 0..40);
    let mut sack = ack(40_000, 7039);
    (sack.row.sack_left, sack.row.sack_right) = (49_000, 60_000);
    lab.send((1, 0), &sack, T0 + 70 * MILLI, ALL);
    assert_eq!(totals(&lab.run()), (141, 0, 0));
}

#[test]
fn a_firewall_that_resets_what_it_drops_proves_no_arrival() {
    let mut lab = Lab::new(2);
    stream(&mut lab, 100, |id| if id == 50 { up_to(4) } else { ALL });
    acks(&mut lab, 0..50);
    let mut reset = ack(51_000, 7050);
    reset.row.tcp_flags = 0x14;
    lab.send((1, 0), &reset, T0 + 51 * MILLI, ALL);
    assert_eq!(totals(&lab.run()).1, 1);
}

#[test]
fn an_acknowledgment_from_a_node_before_the_end_proves_no_arrival() {
    // As a proxy on the sender's node would answer.
    let mut lab = Lab::new(2);
    stream(&mut lab, 100, |id| if id == 50 { up_to(4) } else { ALL });
    for id in 0..100 {
        let time = T0 + i64::from(id) * MILLI + 400 * MICRO;
        lab.send((1, 0), &ack((id + 1) * 1000, 7000 + id), time, ALL & !up_to(5));
    }
    assert_eq!(totals(&lab.run()).1, 1);
}

fn drop_of(lab: &Lab, id: u32, reason: &str) -> DropEvent {
    let packet = Packet::udp(id, 100);
    DropEvent {
        node: 1,
        netns: String::new(),
        time_nanos: T0 + i64::from(id) * MILLI + 500 * MICRO,
        k0: k0(&lab.job.key, &packet.flow((0, 1), false), &packet.row),
        reason: reason.to_owned(),
        location: "nft_do_chain".to_owned(),
    }
}

fn run_with(lab: &Lab, drops: &[DropEvent]) -> Outcome {
    let mut correlator = lastseen_correlate::Correlator::new(lab.job.clone()).expect("a valid job");
    for (point, slice, columns) in lab.batches() {
        correlator.add(point, slice, 0, &columns).expect("a valid batch");
    }
    for drop in drops {
        correlator.add_drop(drop.clone()).expect("a known node");
    }
    correlator.finish().unwrap()
}

#[test]
fn drop_events_name_the_reason_most_of_a_leg_was_lost_for() {
    let mut lab = Lab::new(2);
    for id in 0..1000_u32 {
        let mask = if id % 10 == 0 { up_to(6) } else { ALL };
        lab.send((0, 1), &Packet::udp(id, 100), T0 + i64::from(id) * MILLI, mask);
    }
    let reason = |id: u32| if id == 500 { "IP_RPFILTER" } else { "NETFILTER_DROP" };
    let drops: Vec<_> = (0..90).map(|nth| drop_of(&lab, nth * 10, reason(nth * 10))).collect();
    let outcome = run_with(&lab, &drops);
    assert_eq!(totals(&outcome), (900, 100, 0));
    assert_eq!(leg(&outcome), ("b flannel.1 → b cni0".to_owned(), 100));
    let reason = outcome.report.paths[0].losses[0].reason.clone().expect("a reason");
    assert_eq!((reason.code.as_str(), reason.source.as_str()), ("NETFILTER_DROP", "kfree_skb"));
    assert_eq!(reason.location, "nft_do_chain");
}

#[test]
fn a_drop_event_proves_a_loss_nobody_could_see_and_of_one_copy_only() {
    let mut lab = Lab::new(2);
    for id in 0..100_u32 {
        let mask = if id % 10 == 0 { up_to(4) } else { ALL };
        lab.send((0, 1), &Packet::udp(id, 100), T0 + i64::from(id) * MILLI, mask);
    }
    // Two copies of this one went missing.
    lab.send((0, 1), &Packet::udp(50, 100), T0 + 51 * MILLI, up_to(4));
    let counters = lastseen_correlate::SliceCounters { received: 90, kernel_drops: 10, ..Default::default() };
    for point in 8..16 {
        lab.slices.insert(point, vec![lastseen_correlate::Slice { counters, ..whole(0) }]);
    }
    assert_eq!(totals(&lab.run()), (90, 0, 11));
    let outcome = run_with(&lab, &[drop_of(&lab, 50, "NETFILTER_DROP")]);
    assert_eq!(totals(&outcome), (90, 1, 10));
    assert_eq!(leg(&outcome).0, "a eth0 → b veth");
    assert!((outcome.lost[0].confidence - 1.0).abs() < 1e-12);
}

#[test]
fn a_drop_event_of_an_unknown_node_is_refused() {
    let lab = Lab::new(2);
    let mut correlator = lastseen_correlate::Correlator::new(lab.job.clone()).unwrap();
    let stray = DropEvent { node: 2, ..drop_of(&lab, 1, "NETFILTER_DROP") };
    assert_eq!(
        correlator.add_drop(stray).unwrap_err().to_string(),
        "drop event of node 2: the job has 2 nodes"
    );
}

#[test]
fn a_burst_of_misses_blinds_the_point_for_as_long_as_it_lasts() {
    // The last two points of the path miss everything for 50 ms, which ACKs show of the first half of it.
    let mut lab = Lab::new(2);
    stream(&mut lab, 4000, |id| if (1000..1050).contains(&id) && id % 2 == 0 { ALL & !LAST } else { ALL });
    acks(&mut lab, 0..4000);
    for id in 0..40_000_u32 {
        let time = T0 + i64::from(id) * 100 * MICRO;
        let is_missed = (10_000..10_500).contains(&id) && id % 2 == 0;
        let is_lost = id % 1000 == 999;
        let mut packet = Packet::udp(id, 100);
        packet.row.transport_hash = u64::from(id) << 20;
        lab.send((0, 1), &packet, time, if is_missed || is_lost { ALL & !LAST } else { ALL });
    }
    let outcome = lab.run();
    let (_, lost, not_observable) = totals(&outcome);
    // A hundred milliseconds to both sides are in doubt too, and nothing else.
    assert_eq!((lost, not_observable), (38, 252), "{:?}", outcome.report.notes);
}
