//! Points that select packets: what is left is judged as exactly as without.

use std::collections::BTreeSet;

use crate::lab::{ALL, Lab, MICRO, MILLI, Packet, SECOND, T0, T1, assert_sums, leg, up_to};
use lastseen_correlate::report::{LostPacket, Verdict};
use lastseen_correlate::{Correlator, GUARD_NANOS, Outcome, Slice, SliceCounters};
use lastseen_packet::observation::{Columns, ColumnsBuilder, gso, marks, protocol};
use lastseen_packet::{Basis, Ks, Sampler, Threshold};
use proptest::prelude::*;

/// The observations of a lab as agents send them that select by `interval(point, time)`, in slices of 250 ms.
fn sampled(lab: &Lab, interval: impl Fn(usize, i64) -> u32) -> Outcome {
    const LENGTH: i64 = 250 * MILLI;
    let mut correlator = Correlator::new(lab.job.clone()).expect("a valid job");
    for (point, _, columns) in lab.batches() {
        let mut from = 0;
        let mut start = T0 - SECOND;
        while start < T1 + GUARD_NANOS {
            let threshold = Threshold::one_in(interval(point, start));
            let sampler = Sampler::new(lab.job.key, threshold);
            let (mut kept, mut counters) = (ColumnsBuilder::new(64, [1; 16]), SliceCounters::default());
            while let Some(row) = next(&columns, from).filter(|row| row.time_nanos < start + LENGTH) {
                let flow = &columns.flows[row.flow as usize];
                counters.received += 1;
                if sampler.keeps(flow, &row) {
                    kept.push(flow, row);
                } else {
                    counters.sampled_out += 1;
                }
                from += 1;
            }
            let slice = Slice { start_nanos: start, end_nanos: start + LENGTH, counters };
            correlator.selected_by(slice, threshold);
            correlator.add(point, slice, 0, kept.columns()).expect("a valid batch");
            start += LENGTH;
        }
    }
    correlator.finish().unwrap()
}

fn next(columns: &Columns, at: usize) -> Option<lastseen_packet::observation::Observation> {
    (at < columns.len()).then(|| columns.row(at))
}

fn is_selected(lab: &Lab, interval: u32, packet: &Packet) -> bool {
    let row = packet.row;
    let basis = Basis {
        protocol: packet.protocol,
        is_ipv4: true,
        is_fragment: false,
        has_payload: row.payload_length > 0,
        tcp_seq: row.tcp_seq,
        ip_id: row.ip_id,
    };
    let ks = Ks::of(&basis, || None).expect("datagrams and segments with payload");
    Threshold::one_in(interval).selects(ks.hash(&lab.job.key))
}

fn ids(lost: &[LostPacket]) -> BTreeSet<u16> {
    lost.iter().filter_map(|packet| packet.ip_id).collect()
}

/// `count` datagrams a millisecond apart from `start`, of which every seventh is lost between the nodes.
fn datagrams(start: i64, count: u32) -> (Lab, Vec<(Packet, i64, bool)>) {
    let mut lab = Lab::new(2);
    let mut sent = Vec::new();
    for id in 1..=count {
        let (packet, time, is_lost) = (Packet::udp(id, 100), start + i64::from(id) * MILLI, id % 7 == 0);
        lab.send((0, 1), &packet, time, if is_lost { up_to(4) } else { ALL });
        sent.push((packet, time, is_lost));
    }
    (lab, sent)
}

#[test]
fn exactly_the_selected_are_judged() {
    let (lab, sent) = datagrams(T0, 4_000);
    for interval in [2, 3, 16, 100] {
        let outcome = sampled(&lab, |_, _| interval);
        assert_sums(&outcome);
        let selected: Vec<_> = sent.iter().filter(|one| is_selected(&lab, interval, &one.0)).collect();
        let lost: BTreeSet<_> = selected.iter().filter(|one| one.2).map(|one| one.0.row.ip_id).collect();
        assert_eq!(outcome.report.totals.segments, selected.len() as u64);
        assert_eq!(ids(&outcome.lost), lost);
        assert_eq!(leg(&outcome), ("a eth0 → b eth0".to_owned(), lost.len() as u64));
        let sampling = outcome.report.sampling.expect("it was sampled");
        assert_eq!((sampling.interval, sampling.varied), (interval, false));
        let left_out: u64 = outcome.report.nodes.iter().map(|node| node.sampled_out).sum();
        let seen: u64 = outcome.report.nodes.iter().map(|node| node.packets).sum();
        let passed: u64 = sent.iter().map(|one| if one.2 { 4 } else { 8 }).sum();
        assert_eq!(seen + left_out, passed);
        assert!(outcome.report.notes[0].starts_with(&format!("sampled: 1 in {interval} segments")));
    }
}

#[test]
fn the_coarsest_point_decides_for_all() {
    let (lab, sent) = datagrams(T0, 4_000);
    let outcome = sampled(&lab, |point, _| [1, 2, 5, 3, 1, 8, 2, 1][point % 8]);
    let lost = sent.iter().filter(|one| one.2 && is_selected(&lab, 8, &one.0));
    assert_eq!(ids(&outcome.lost), lost.map(|one| one.0.row.ip_id).collect());
    assert_eq!(outcome.report.sampling.map(|one| (one.interval, one.varied)), Some((8, false)));
    assert_eq!(outcome.report.totals.not_observable, 0);
}

#[test]
fn a_capture_without_selection_says_nothing_of_it() {
    let (lab, _) = datagrams(T0, 100);
    let outcome = sampled(&lab, |_, _| 1);
    assert_eq!((outcome.report.sampling, outcome.report.totals.segments), (None, 100));
    assert_eq!(outcome.report, lab.run().report);
}

#[test]
fn nothing_selected_is_told_apart_from_nothing_seen() {
    let (lab, _) = datagrams(T0, 5);
    let outcome = sampled(&lab, |_, _| u32::MAX);
    assert_eq!(outcome.report.verdict, Verdict::Inconclusive);
    let notes = &outcome.report.notes;
    assert!(
        notes.iter().any(|note| note.starts_with("none of ") && note.contains("was selected")),
        "{notes:?}"
    );
}

/// The last four points see the segments of what the first four see as super-packets.
#[test]
fn segments_of_super_packets_are_selected_one_by_one() {
    const SIZE: u32 = 1_000;
    let mut lab = Lab::new(2);
    let mut expected = (0, BTreeSet::new());
    for at in 0..300_u32 {
        let (seq, id, time) = (at * 20 * SIZE, (at * 20) as u16, T0 + i64::from(at) * MILLI);
        let mut whole = Packet::tcp(id, seq, 20 * SIZE);
        (whole.row.gso_type, whole.row.gso_size) = (gso::TCPV4, SIZE as u16);
        lab.send((0, 1), &whole, time, up_to(4));
        for index in 0..20 {
            let part = Packet::tcp(id.wrapping_add(index as u16), seq + index * SIZE, SIZE);
            let is_lost = (at + index) % 11 == 0;
            lab.send((0, 1), &part, time, if is_lost { 0 } else { ALL & !up_to(4) });
            if is_selected(&lab, 5, &part) {
                expected.0 += 1;
                expected.1.extend(is_lost.then_some(part.row.ip_id));
            }
        }
    }
    let outcome = sampled(&lab, |_, _| 5);
    assert_sums(&outcome);
    assert_eq!((outcome.report.totals.segments, ids(&outcome.lost)), expected);
    assert!(outcome.flows.iter().all(|flow| flow.segments <= expected.0), "{:?}", outcome.flows);
}

/// The original is lost; what came instead begins elsewhere and is not selected, so nothing shows that the bytes were
/// sent twice. The acknowledgment must not pass for the original's.
#[test]
fn an_acknowledgment_does_not_hide_a_loss_whose_retransmission_is_left_out() {
    let mut lab = Lab::new(2);
    let seqs: Vec<_> = (1..2_000_u32).map(|at| Packet::tcp(at as u16, at * 1_000, 1_000)).collect();
    let (yes, no): (Vec<_>, Vec<_>) = seqs.into_iter().partition(|packet| is_selected(&lab, 4, packet));
    let lost = yes.iter().find(|one| no.iter().any(|other| other.row.tcp_seq + 1_000 == one.row.tcp_seq));
    let lost = *lost.expect("a selected segment behind one that is not");
    lab.send((0, 1), &lost, T0 + SECOND, up_to(4));
    let instead = Packet::tcp(9_000, lost.row.tcp_seq - 1_000, 2_000);
    lab.send((0, 1), &instead, T0 + SECOND + 300 * MILLI, ALL);
    let mut answer = Packet::tcp(77, 1, 0);
    (answer.ports, answer.row.tcp_ack) = ((80, 41822), lost.row.tcp_seq + 1_000);
    lab.send((1, 0), &answer, T0 + SECOND + 301 * MILLI, ALL);
    for (at, packet) in yes.iter().filter(|one| one.row.tcp_seq != lost.row.tcp_seq).enumerate() {
        lab.send((0, 1), packet, T0 + 2 * SECOND + at as i64 * MILLI, ALL);
    }
    let outcome = sampled(&lab, |_, _| 4);
    let lost_seqs: Vec<_> = outcome.lost.iter().filter_map(|packet| packet.tcp_seq).collect();
    assert_eq!(lost_seqs, [lost.row.tcp_seq]);
}

/// An agent that does not know of selection, with libpcap: its point is as good as none.
#[test]
fn a_point_without_segment_sizes_is_blind() {
    let (mut lab, sent) = datagrams(T0, 2_000);
    let blind = Lab::path(0, 1)[4];
    lab.job.points[blind].gso_known = false;
    for at in 0..200_u32 {
        let mut whole = Packet::tcp(at as u16 * 20, at * 2_000, 2_000);
        (whole.row.gso_type, whole.row.gso_size) = (gso::TCPV4, 100);
        lab.send((0, 1), &whole, T0 + i64::from(at) * MILLI, ALL & !(1 << 4));
        whole.row.gso_type = gso::UNKNOWN;
        lab.send((0, 1), &whole, T0 + i64::from(at) * MILLI, 1 << 4);
    }
    let outcome = sampled(&lab, |point, _| if point == blind { 1 } else { 4 });
    assert_sums(&outcome);
    let lost = sent.iter().filter(|one| one.2 && is_selected(&lab, 4, &one.0));
    assert_eq!(ids(&outcome.lost), lost.map(|one| one.0.row.ip_id).collect());
    assert_eq!(leg(&outcome).0, "a eth0 → b flannel.1");
}

/// A program hands packets past the receiver's bridge and veth: acknowledgments show that they arrive.
#[test]
fn packets_that_go_past_the_end_are_not_lost() {
    let mut lab = Lab::new(2);
    let (mut selected, mut answers) = (0, 0);
    for at in 0..400_u32 {
        let time = T0 + i64::from(at) * 5 * MILLI;
        let packet = Packet::tcp(at as u16, at * 100, 100);
        selected += u64::from(is_selected(&lab, 4, &packet));
        lab.send((0, 1), &packet, time, up_to(6));
        let mut answer = Packet::tcp(1_000 + at as u16, 0, 0);
        (answer.ports, answer.row.tcp_ack) = ((80, 41822), (at + 1) * 100);
        answers += u64::from(
            Sampler::new(lab.job.key, Threshold::one_in(4)).keeps(&answer.flow((1, 0), false), &answer.row),
        );
        lab.send((1, 0), &answer, time + MILLI, ALL);
    }
    let outcome = sampled(&lab, |_, _| 4);
    let totals = outcome.report.totals;
    assert_eq!((totals.segments, totals.delivered, totals.lost), (selected + answers, selected + answers, 0));
}

/// A datagram of 2,992 bytes in two fragments, which the bridges show whole.
fn send_in_fragments(lab: &mut Lab, whole: &Packet, time: i64) {
    const WHOLE: u32 = 0b100_0010;
    let (mut first, mut rest) = (*whole, *whole);
    first.row.marks |= marks::MORE_FRAGMENTS;
    (first.row.ip_length, first.row.payload_length) = (1420, 1392);
    rest.ports = (0, 0);
    (rest.row.fragment_offset, rest.row.transport_hash) = (1400, 0);
    (rest.row.ip_length, rest.row.payload_length) = (1620, 1600);
    lab.send((0, 1), whole, time, WHOLE);
    lab.send((0, 1), &first, time, ALL & !WHOLE);
    lab.send((0, 1), &rest, time, ALL & !WHOLE);
}

/// Nothing that the fragments show tells whether the whole was selected.
#[test]
fn fragments_without_identification_are_left_out_with_their_whole() {
    let (mut lab, sent) = datagrams(T0, 2_000);
    for id in 1..=200_u32 {
        let mut whole = Packet { ports: (4001, 53), ..Packet::udp(10_000 + id, 2_992) };
        whole.row.ip_id = 0;
        send_in_fragments(&mut lab, &whole, T0 + i64::from(id) * 10 * MILLI);
    }
    let lost: BTreeSet<_> = sent.iter().filter(|one| one.2).map(|one| one.0.row.ip_id).collect();
    let changing = |point: usize, time: i64| if point == 2 && time > T0 + 5 * SECOND { 8 } else { 2 };
    for outcome in [sampled(&lab, |_, _| 2), sampled(&lab, changing)] {
        assert_sums(&outcome);
        assert!(ids(&outcome.lost).is_subset(&lost), "{:?}", outcome.report.totals);
        assert_eq!(leg(&outcome).0, "a eth0 → b eth0");
        let of_whole = outcome.flows.iter().filter(|flow| flow.source_transport_port == 4001);
        assert_eq!(of_whole.map(|flow| flow.segments).sum::<u64>(), 0, "they are not judged");
    }
}

/// What it saw is taken away: it does not show either that the points before it are off the path.
#[test]
fn a_point_without_segment_sizes_takes_no_other_off_the_path() {
    let mut lab = Lab::new(2);
    let last = Lab::path(0, 1)[7];
    lab.job.points[last].gso_known = false;
    let mut lost = BTreeSet::new();
    for at in 1..400_u32 {
        let packet = Packet::tcp(at as u16, at * 1_000, 1_000);
        let is_lost = is_selected(&lab, 4, &packet);
        lost.extend(is_lost.then_some(packet.row.ip_id));
        lab.send((0, 1), &packet, T0 + i64::from(at) * MILLI, if is_lost { up_to(4) } else { ALL });
    }
    let outcome = sampled(&lab, |point, _| if point == last { 1 } else { 4 });
    assert_sums(&outcome);
    assert_eq!(leg(&outcome), ("a eth0 → b eth0".to_owned(), lost.len() as u64));
    assert_eq!(ids(&outcome.lost), lost);
    assert!(outcome.flows.iter().all(|flow| flow.segments <= lost.len() as u64), "{:?}", outcome.flows);
}

/// Slices of different agents never begin together.
#[test]
fn one_threshold_is_one_however_agents_slice_their_time() {
    const LENGTH: i64 = 250 * MILLI;
    let (lab, _) = datagrams(T0, 10);
    let mut correlator = Correlator::new(lab.job.clone()).unwrap();
    let slice = |start: i64, end: i64| Slice { start_nanos: start, end_nanos: end, ..Slice::default() };
    correlator.selected_by(slice(T0 - SECOND, T1 + GUARD_NANOS), Threshold::ALL);
    for start in (T0 - SECOND..T1 + GUARD_NANOS).step_by(LENGTH as usize) {
        for late in [3 * MILLI, 0] {
            correlator.selected_by(slice(start + late, start + late + LENGTH), Threshold::one_in(4));
        }
    }
    let sampling = correlator.finish().unwrap().report.sampling;
    assert_eq!(sampling.map(|one| (one.interval, one.varied)), Some((4, false)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Points shed load when they like. Nothing is called lost that was not, what every point selected all the time is
    /// judged in full, and far from every change all are judged.
    #[test]
    fn thresholds_may_change_at_any_time(
        dips in prop::collection::vec((0_usize..16, 0_i64..60, 1_i64..8, 2_u32..20), 0..4),
        usual in 1_u32..3,
    ) {
        let quarter = |time: i64| (time - (T0 - SECOND)) / (250 * MILLI);
        let mut lab = Lab::new(2);
        let mut sent = Vec::new();
        for id in 1..=900_u32 {
            let (mut packet, time) = (Packet::udp(id, 100), T0 + i64::from(id) * 11 * MILLI + 200 * MICRO);
            if id % 3 == 0 {
                packet = Packet { ports: (4000, 80), ..Packet::tcp(id as u16, id * 100, 100) };
            }
            let is_lost = id % 7 == 0;
            lab.send((0, 1), &packet, time, if is_lost { up_to(4) } else { ALL });
            sent.push((packet, time, is_lost));
        }
        let interval = |point: usize, time: i64| {
            let at = quarter(time);
            let here = dips.iter().filter(|(who, from, length, _)| *who == point && (*from..from + length).contains(&at));
            here.map(|dip| dip.3).max().unwrap_or(1).max(usual)
        };
        let outcome = sampled(&lab, interval);
        assert_sums(&outcome);
        let coarsest = dips.iter().map(|dip| dip.3).max().unwrap_or(1).max(usual);
        let lost = ids(&outcome.lost);
        let far = |time: i64| dips.iter().all(|dip| {
            let near = 2 * GUARD_NANOS + SECOND;
            let start = T0 - SECOND + dip.1 * 250 * MILLI;
            time < start - near || time > start + dip.2 * 250 * MILLI + near
        });
        for (packet, time, is_lost) in &sent {
            let is_named = lost.contains(&packet.row.ip_id);
            prop_assert!(!is_named || *is_lost && is_selected(&lab, usual, packet), "{} was not lost", packet.row.ip_id);
            let must = is_selected(&lab, if far(*time) { usual } else { coarsest }, packet);
            prop_assert!(!(*is_lost && must) || is_named, "{} was lost", packet.row.ip_id);
        }
        prop_assert_eq!(outcome.report.totals.not_observable, 0);
        prop_assert_eq!(outcome.report.sampling.is_some(), coarsest > 1);
        prop_assert!(sent.iter().any(|one| one.0.protocol == protocol::TCP));
    }
}
