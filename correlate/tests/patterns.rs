//! What the lost have in common: found where it is there, not found where it is not.
#![allow(missing_docs)]

use std::net::Ipv4Addr;

use crate::lab::*;
use lastseen_correlate::report::{Outcome, Pattern};
use lastseen_packet::observation::{FlowKey, Observation, marks};

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const PSH_ACK: u8 = 0x18;
const RST: u8 = 0x04;

/// A packet of a flow of its own kind, sent at a time, and whether it is lost between the nodes.
struct Sent {
    packet: Packet,
    /// Last byte of the source and of the destination address.
    ends: (u8, u8),
    millis: i64,
    is_lost: bool,
    is_back: bool,
}

fn sent(packet: Packet, at: u32, is_lost: bool) -> Sent {
    Sent { packet, ends: (10, 10), millis: i64::from(at), is_lost, is_back: false }
}

/// Sends what `each` makes of 0 to `count`.
fn run(count: u32, each: impl Fn(u32) -> Sent) -> Outcome {
    let mut lab = Lab::new(2);
    for one in (0..count).map(each) {
        send(&mut lab, &one);
    }
    let outcome = lab.run();
    assert_sums(&outcome);
    outcome
}

fn send(lab: &mut Lab, one: &Sent) {
    let (from, to) = if one.is_back { (1, 0) } else { (0, 1) };
    let reach = if one.is_lost { 4 } else { HOPS };
    for (hop, point) in Lab::path(from, to).into_iter().enumerate().take(reach) {
        let mut flow = one.packet.flow((from, to), hop == 3 || hop == 4);
        flow.source = Ipv4Addr::new(10, 244, from as u8, one.ends.0).into();
        flow.destination = Ipv4Addr::new(10, 244, to as u8, one.ends.1).into();
        let time = T0 + one.millis * MILLI + hop as i64 * 20 * MICRO;
        lab.see(point, flow, one.packet.row, time);
        if one.packet.row.marks & marks::MORE_FRAGMENTS != 0 {
            let offset = one.packet.row.payload_length as u16 + 8;
            let rest = Observation { fragment_offset: offset, marks: marks::IPV4, ..one.packet.row };
            lab.see(point, FlowKey { source_port: 0, destination_port: 0, ..flow }, rest, time + MICRO);
        }
    }
}

fn patterns(outcome: &Outcome) -> Vec<Pattern> {
    let losses = outcome.report.paths.iter().flat_map(|path| &path.losses);
    losses.map(|loss| loss.pattern.clone().expect("a pattern")).collect()
}

/// Kind and text of the pattern of the worst loss.
fn pattern(outcome: &Outcome) -> (String, String) {
    let worst = patterns(outcome).swap_remove(0);
    (worst.kind.into_owned(), worst.text)
}

fn tcp(at: u32, flags: u8, payload: u32) -> Packet {
    let mut packet = Packet::tcp(at as u16, at * 1400, payload);
    packet.row.tcp_flags = flags;
    packet
}

fn with_ports(mut packet: Packet, source: u16, destination: u16) -> Packet {
    packet.ports = (source, destination);
    packet
}

fn with_class(mut packet: Packet, octet: u8) -> Packet {
    packet.row.traffic_class = octet;
    packet
}

/// Every kind: 1,000 packets 9 ms apart, of which those of the trait are lost; the same traffic with as many losses that
/// have nothing to do with it; and what the report says of the first.
#[test]
fn a_trait_is_found_where_it_is_lost_and_not_where_others_are_lost_as_well() {
    type Make = fn(u32, bool) -> Sent;
    let is_special = |n: u32| n % 25 == 7;
    let cases: [(&str, &str, Make); 13] = [
        ("size", "all 40 are 1,428 bytes or longer; every shorter one arrived", |n, special| {
            sent(Packet::udp(n, if special { 1400 } else { 100 + n % 900 }), n * 9, special)
        }),
        ("size", "all 40 are 48 bytes or shorter; every longer one arrived", |n, special| {
            sent(Packet::udp(n, if special { 20 } else { 100 + n % 900 }), n * 9, special)
        }),
        ("flag", "all 40 carry SYN; none of 960 without it was lost", |n, special| {
            sent(tcp(n, if special { SYN } else { ACK }, 0), n * 9, special)
        }),
        ("flag", "all 40 carry RST; none of 960 without it was lost", |n, special| {
            sent(tcp(n, if special { RST } else { PSH_ACK }, if special { 0 } else { n % 9 }), n * 9, special)
        }),
        ("flag", "all 40 are acknowledgments without data; none of 960 others was lost", |n, special| {
            sent(
                tcp(
                    n,
                    if n.is_multiple_of(2) { ACK } else { PSH_ACK },
                    if special { 0 } else { 1 + n % 1400 },
                ),
                n * 9,
                special,
            )
        }),
        ("protocol", "all 40 are tcp; none of 960 of other protocols was lost", |n, special| {
            let packet = if special { tcp(n, ACK, 48) } else { Packet::udp(n, 72) };
            sent(packet, n * 9, special)
        }),
        (
            "port",
            "all 40 lost here on 7 paths go to port 53; none of 960 to other ports was lost",
            |n, special| {
                let service = if special { 53 } else { 5353 + (n % 4) as u16 };
                sent(with_ports(Packet::udp(n, 100), 40_000 + (n % 7) as u16, service), n * 9, special)
            },
        ),
        (
            "port",
            "all 40 lost here on 7 paths come from port 53; none of 960 from other ports was lost",
            |n, special| {
                let service = if special { 53 } else { 5353 + (n % 4) as u16 };
                sent(with_ports(Packet::udp(n, 100), service, 40_000 + (n % 7) as u16), n * 9, special)
            },
        ),
        (
            "flow",
            "all 40 belong to 10.244.0.10:40000 → 10.244.1.10:53; none of 960 of other flows was lost",
            |n, special| {
                let source = 40_000 + if special { 0 } else { 1 + (n % 4) as u16 };
                sent(with_ports(Packet::udp(n, 100), source, 53), n * 9, special)
            },
        ),
        (
            "destination",
            "all 40 lost here on 3 paths go to 10.244.1.99; none of 960 to other addresses was lost",
            |n, special| {
                let last = if special { 99 } else { 10 + (n % 5) as u8 };
                let packet = with_ports(Packet::udp(n, 100), 40_000 + (n % 3) as u16, 53);
                Sent { ends: (10, last), ..sent(packet, n * 9, special) }
            },
        ),
        (
            "source",
            "all 40 lost here on 6 paths come from 10.244.0.64/27; none of 960 from other addresses was lost",
            |n, special| {
                let last = if special { 64 + (n % 2) as u8 * 31 } else { 10 + (n % 5) as u8 };
                let packet = with_ports(Packet::udp(n, 100), 40_000 + (n % 3) as u16, 53);
                Sent { ends: (last, 10), ..sent(packet, n * 9, special) }
            },
        ),
        (
            "dscp",
            "all 40 lost here on 3 paths carry DSCP 46 (EF); none of 960 with another DSCP was lost",
            |n, special| {
                let packet =
                    with_ports(Packet::udp(n, 100), 40_000 + (n % 3 + u32::from(special) * 3) as u16, 53);
                sent(with_class(packet, if special { 0xb8 } else { 0 }), n * 9, special)
            },
        ),
        (
            "ecn",
            "all 40 lost here on 3 paths carry ECN ECT(0); none of 960 with another ECN was lost",
            |n, special| {
                let packet =
                    with_ports(Packet::udp(n, 100), 40_000 + (n % 3 + u32::from(special) * 3) as u16, 53);
                sent(with_class(packet, u8::from(special) * 2), n * 9, special)
            },
        ),
    ];
    for (kind, text, make) in cases {
        let found = pattern(&run(1000, |n| make(n, is_special(n))));
        assert_eq!(found, (kind.to_owned(), text.to_owned()));
        // As many are lost, and have nothing in common with each other.
        let shuffled = |n: u32| scatter(n).is_multiple_of(25);
        let other = run(1000, |n| Sent { is_lost: shuffled(n), ..make(n, is_special(n)) });
        assert!(patterns(&other).iter().all(|one| one.kind == "none"), "{text}: {:?}", patterns(&other));
    }
}

/// The finaliser of `SplitMix64`, upper half.
fn scatter(n: u32) -> u32 {
    let mut mixed = (u64::from(n) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ mixed >> 31) >> 32) as u32
}

#[test]
fn fragmented_datagrams_are_told_from_whole_ones() {
    let outcome = run(600, |n| {
        let is_fragment = n % 20 == 3;
        let mut packet = Packet::udp(n, 700 + n % 700);
        packet.row.marks |= if is_fragment { marks::MORE_FRAGMENTS } else { 0 };
        sent(packet, n * 9, is_fragment)
    });
    assert_eq!(
        pattern(&outcome),
        ("fragment".into(), "all 30 are datagrams in fragments; none of 570 whole was lost".into())
    );
}

#[test]
fn bursts_are_found_with_their_times() {
    let is_in = |n: u32| (222..=233).contains(&n);
    let one = run(1000, |n| sent(Packet::udp(n, 100 + n % 5), n * 9, is_in(n)));
    let text = "all 12 were sent within 150 ms, 1.95 s into the window; none of 983 at other times was lost; \
                5 like them arrived";
    assert_eq!(pattern(&one), ("burst".into(), text.into()));
    let two = run(1000, |n| sent(Packet::udp(n, 100 + n % 5), n * 9, is_in(n) || is_in(n.wrapping_sub(500))));
    let (kind, text) = pattern(&two);
    assert_eq!(kind, "burst");
    assert!(
        text.starts_with("all 24 were sent in 2 bursts of at most 150 ms, the first 1.95 s into"),
        "{text}"
    );
}

#[test]
fn what_recurs_is_a_period() {
    let outcome = run(1000, |n| sent(Packet::udp(n, 100 + n % 5), n * 9, n % 85 < 2));
    let (kind, text) = pattern(&outcome);
    assert_eq!(kind, "period", "{text}");
    assert!(
        text.starts_with("all 24 were sent within 100 ms of every 764 ms, the first 0.00 s into"),
        "{text}"
    );
}

#[test]
fn a_way_that_loses_while_the_way_back_does_not_is_a_direction() {
    let outcome = run(2000, |n| {
        let is_back = n.is_multiple_of(2);
        let port = 40_000 + (n % 6) as u16;
        Sent {
            is_back,
            ..sent(
                with_ports(Packet::udp(n, 100), port, 53),
                n * 4,
                !is_back && scatter(n).is_multiple_of(15),
            )
        }
    });
    let losses = patterns(&outcome);
    assert_eq!(losses.len(), 3);
    for one in &losses {
        assert_eq!(one.kind, "direction");
        assert!(
            one.text.contains("lost here on 3 paths go this way; none of 1,000 the other way was lost"),
            "{}",
            one.text
        );
    }
    // Where both ways lose alike there is none.
    let both = run(2000, |n| Sent {
        is_back: n.is_multiple_of(2),
        ..sent(Packet::udp(n, 100), n * 4, scatter(n).is_multiple_of(15))
    });
    assert!(patterns(&both).iter().all(|one| one.kind == "none"), "{:?}", patterns(&both));
}

/// Twenty flows lose three long segments of fifty each: no flow alone shows it, all of them do.
#[test]
fn a_pattern_of_many_paths_is_one_pattern() {
    let outcome = run(1000, |n| {
        let is_long = n / 20 % 16 == 5;
        let packet = Packet::udp(n, if is_long { 1400 } else { 100 + n % 900 });
        sent(with_ports(packet, 40_000 + (n % 20) as u16, 53), n * 9, is_long)
    });
    let found = patterns(&outcome);
    assert_eq!(found.len(), 20);
    let text = "all 60 lost here on 20 paths are 1,428 bytes or longer; every shorter one arrived";
    assert!(found.iter().all(|one| (one.kind.as_ref(), one.text.as_str()) == ("size", text)), "{found:?}");
    let causes = outcome.report.paths.iter().map(|path| path.losses[0].cause.as_ref().expect("a cause"));
    for cause in causes {
        assert_eq!(cause.code, "mtu_black_hole");
        assert_eq!(cause.evidence[2], "largest inner packet that arrived 1,027");
    }
}

/// The losses of twenty flows to one of two nodes' worth of addresses, each flow whole or gone.
#[test]
fn flows_to_one_prefix_share_it_and_a_stray_loss_elsewhere_has_no_part_in_it() {
    let outcome = run(2000, |n| {
        let flow = n % 40;
        let (is_gone, is_stray) = (flow % 2 == 1, n == 1000);
        let last = if is_gone { 128 + flow as u8 } else { 20 + flow as u8 };
        let packet = with_ports(Packet::udp(n, 100), 40_000 + flow as u16, 53);
        Sent { ends: (10, last), ..sent(packet, n * 4, is_gone || is_stray) }
    });
    let found = patterns(&outcome);
    assert_eq!(found.len(), 21);
    let text = "1,000 of 1,001 lost here on 21 paths go to 10.244.1.128/26; of 1,000 to other addresses one was lost";
    let alike = found.iter().filter(|one| (one.kind.as_ref(), one.text.as_str()) == ("destination", text));
    assert_eq!(alike.count(), 20, "{found:#?}");
    let support = found[0].support.expect("counts");
    assert_eq!((support.lost_with, support.lost_without, support.paths), (1000, 1, 21));
    assert_eq!((support.passed_with, support.passed_without), (0, 999));
    assert!(support.chance < 1e-100, "{}", support.chance);
    assert_eq!((found[20].kind.as_ref(), found[20].support), ("none", None));
}

#[test]
fn a_lonely_loss_shows_no_pattern_and_a_path_that_lost_all_says_so() {
    let lonely = run(100, |n| sent(Packet::udp(n, if n == 50 { 1400 } else { 100 }), n * 9, n == 50));
    let text = "one of 100 shows no pattern: 1,428 bytes, while up to 128 arrived";
    assert_eq!(pattern(&lonely), ("none".into(), text.into()));
    let all = run(100, |n| sent(Packet::udp(n, 100), n * 9, true));
    assert_eq!(pattern(&all), ("all".into(), "nothing passed: all 100 segments are lost".into()));
}

/// Losses that depend on nothing, in traffic of every kind.
#[test]
fn losses_at_random_have_no_pattern() {
    let mut found = Vec::new();
    for case in 0..1000_u32 {
        let dice = |n: u32, face: u32| scatter(case * 16_384 + n * 16 + face);
        let one_in = [3, 10, 30, 100][case as usize % 4];
        let flows = [1, 2, 6, 25][case as usize / 4 % 4];
        let outcome = run(300, |n| {
            let flow = dice(n, 0) % flows;
            let packet = if flow.is_multiple_of(2) {
                tcp(n, [ACK, PSH_ACK, SYN, RST][(dice(n, 1) % 4) as usize], dice(n, 2) % 1449)
            } else {
                Packet::udp(n, 20 + dice(n, 2) % 1400)
            };
            let packet = with_class(
                with_ports(packet, 40_000 + flow as u16, 53 + (flow % 3) as u16),
                [0, 0xb8, 2][flow as usize % 3],
            );
            let time = dice(n, 3) % 9000;
            Sent {
                ends: (10, 10 + (flow % 4) as u8),
                is_back: flow % 5 == 4,
                ..sent(packet, time, dice(n, 4).is_multiple_of(one_in))
            }
        });
        found.extend(
            patterns(&outcome).into_iter().filter(|one| !matches!(one.kind.as_ref(), "none" | "all")),
        );
    }
    println!("{} of 1,000 reports of random loss show a pattern", found.len());
    assert!(found.len() <= 10, "{} of 1,000: {found:#?}", found.len());
}
