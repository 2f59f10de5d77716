//! Every hop selects the same segments.

use lastseen_packet::observation::{gso, marks};
use lastseen_packet::{Gso, Sampler, Threshold};
use proptest::prelude::*;

use crate::frames::{self, Bytes, KEY, MORE, POD_A, Row, TCP, TcpFields, V4, row_of, rows_of};

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// Translated at both ends, three hops on.
const TRANSLATED: V4 = V4 { source: [172, 18, 0, 2], destination: [10, 96, 0, 9], ttl: 61, ..POD_A };

fn keeps(interval: u32, (flow, row): &Row) -> bool {
    Sampler::new(KEY, Threshold::one_in(interval)).keeps(flow, row)
}

fn in_ipv4(header: V4, protocol: u8, transport: &[u8]) -> Bytes {
    frames::ethernet(IPV4, &header.packet(protocol, transport))
}

/// The frame as a pod's interface and as a node's NIC shows it.
fn at_both(frame: &[u8]) -> [Row; 2] {
    [row_of(frame), row_of(&frames::over_vxlan(7, frame))]
}

/// One packet as hops show it between which it was carried and translated.
fn hops(id: u16, protocol: u8, transports: [Bytes; 2]) -> Vec<Row> {
    let [sent, translated] = transports;
    let sent = at_both(&in_ipv4(V4 { id, ..POD_A }, protocol, &sent));
    let translated = at_both(&in_ipv4(V4 { id, ..TRANSLATED }, protocol, &translated));
    [sent, translated].concat()
}

/// How many of `count` frames one in `interval` selects, all hops of each alike.
fn selected(interval: u32, count: u32, hops: impl Fn(u32) -> Vec<Row>) -> u32 {
    let alike = |index: u32| {
        let hops = hops(index);
        let kept = hops.iter().filter(|row| keeps(interval, row)).count();
        assert!(kept == 0 || kept == hops.len(), "frame {index}: {kept} of {} hops select it", hops.len());
        u32::from(kept > 0)
    };
    (0..count).map(alike).sum()
}

/// Within five deviations of a fair draw.
fn assert_fair(interval: u32, count: u32, selected: u32) {
    let share = 1.0 / f64::from(interval);
    let (expected, deviation) = (f64::from(count) * share, (f64::from(count) * share * (1.0 - share)).sqrt());
    assert!((f64::from(selected) - expected).abs() <= 5.0 * deviation, "{selected} of {count}, 1/{interval}");
}

#[test]
fn datagrams_are_selected_alike_and_fairly() {
    for interval in [2, 3, 10] {
        let hops = |index: u32| {
            let payload = index.to_be_bytes();
            let ports = [(1000, 80), (40_000, 8080)];
            hops(index as u16 + 1, 17, ports.map(|(from, to)| frames::udp(from, to, &payload)))
        };
        assert_fair(interval, 4_000, selected(interval, 4_000, hops));
    }
}

#[test]
fn echoes_that_a_masquerade_renumbers_are_selected_alike() {
    let hops = |index: u32| {
        hops(index as u16 + 1, 1, [77, 32_203].map(|id| frames::echo(8, id, index as u16, b"ping")))
    };
    assert_fair(4, 4_000, selected(4, 4_000, hops));
}

#[test]
fn what_has_no_identification_is_selected_by_its_payload() {
    let without_id =
        |index: u32| hops(0, 17, [1000, 2000].map(|port| frames::udp(port, 53, &index.to_be_bytes())));
    assert_fair(4, 4_000, selected(4, 4_000, without_id));
    let ipv6 = |index: u32| {
        let udp = |port| frames::udp(port, 53, &index.to_be_bytes());
        at_both(&frames::ethernet(IPV6, &frames::v6(17, &udp(1000)))).to_vec()
    };
    assert_fair(4, 4_000, selected(4, 4_000, ipv6));
}

#[test]
fn acknowledgments_of_one_way_traffic_are_selected_one_by_one() {
    let hops = |index: u32| {
        let tcp = TcpFields { ack: index * 1448, ..TCP };
        let translated = TcpFields { ports: (80, 32_000), ..tcp };
        hops(index as u16, 6, [tcp.segment(&[]), translated.segment(&[])])
    };
    assert_fair(4, 4_000, selected(4, 4_000, hops));
}

#[test]
fn a_retransmission_is_selected_with_its_original() {
    let hops = |index: u32| {
        let original = TcpFields { seq: index * 1448, ..TCP };
        let again = TcpFields { ack: 9_000, timestamps: (7, index), ..original };
        let of = |tcp: TcpFields, id, length| {
            row_of(&in_ipv4(V4 { id, ..POD_A }, 6, &tcp.segment(&vec![1; length])))
        };
        vec![of(original, 1, 1448), of(again, index as u16, 1448), of(again, 3, 100)]
    };
    assert_fair(4, 4_000, selected(4, 4_000, hops));
}

#[test]
fn fragments_are_selected_with_their_whole() {
    let hops = |index: u32| {
        let id = index as u16 + 1;
        let datagram = frames::udp(1000, 80, &[index as u8; 2000]);
        let piece = |fragment, bytes: &[u8]| row_of(&in_ipv4(V4 { id, fragment, ..POD_A }, 17, bytes));
        let first = piece(MORE, &datagram[..1480]);
        vec![piece(0, &datagram), first]
    };
    assert_fair(4, 4_000, selected(4, 4_000, hops));
}

#[test]
fn what_shows_nothing_of_its_whole_is_always_kept() {
    let later = row_of(&in_ipv4(V4 { fragment: 185, ..POD_A }, 6, &[1; 100]));
    let carrier = row_of(&in_ipv4(V4 { fragment: 185, ..POD_A }, 17, &[1; 100]));
    assert_ne!(carrier.1.marks & marks::OUTER_FRAGMENT, 0);
    let without_id =
        row_of(&in_ipv4(V4 { id: 0, fragment: MORE, ..POD_A }, 17, &frames::udp(1, 2, &[1; 64])));
    let cut = {
        let frame = in_ipv4(V4 { id: 0, ..POD_A }, 17, &frames::udp(1, 2, &[1; 64]));
        rows_of(&frame[..50], frame.len(), Gso::default())[0]
    };
    assert_ne!(cut.1.marks & marks::HASH_TRUNCATED, 0);
    for row in [later, carrier, without_id, cut] {
        assert!(keeps(u32::MAX, &row), "{row:?}");
    }
}

#[test]
fn thresholds_keep_the_interval_they_were_made_of() {
    for interval in (1..10_000).chain([1 << 20, u32::MAX]) {
        let threshold = Threshold::one_in(interval);
        assert_eq!(threshold.interval(), interval);
        assert_eq!(Threshold::up_to(threshold.largest_hash()), threshold);
        assert_eq!(threshold.is_all(), interval == 1);
    }
    assert_eq!((Threshold::one_in(0), Threshold::up_to(0).interval()), (Threshold::ALL, u32::MAX));
}

proptest! {
    #[test]
    fn a_super_packet_is_kept_if_any_of_its_segments_is(
        is_v4: bool,
        in_vxlan: bool,
        seq: u32,
        length in 1_usize..20_000,
        size in 88_usize..9000,
        interval in 1_u32..200,
    ) {
        let tcp = TcpFields { seq, ..TCP };
        let payload = vec![5; length];
        let frame = |transport: &[u8]| {
            let plain = if is_v4 { in_ipv4(POD_A, 6, transport) } else { frames::ethernet(IPV6, &frames::v6(6, transport)) };
            if in_vxlan { frames::over_vxlan(1, &plain) } else { plain }
        };
        let whole = frame(&tcp.segment(&payload));
        let kind = if is_v4 { gso::TCPV4 } else { gso::TCPV6 };
        let whole = rows_of(&whole, whole.len(), Gso { kind, size: size as u16 })[0];
        let mut parts = payload.chunks(size).enumerate().map(|(index, part)| {
            let seq = seq.wrapping_add((index * size) as u32);
            row_of(&frame(&TcpFields { seq, ..tcp }.segment(part)))
        });
        prop_assert_eq!(keeps(interval, &whole), parts.any(|part| keeps(interval, &part)));
    }

    #[test]
    fn what_a_lower_threshold_keeps_a_higher_one_keeps_too(
        id: u16,
        seq: u32,
        payload in prop::collection::vec(any::<u8>(), 0..40),
        few in 1_u32..5_000,
        more in 0_u32..5_000,
    ) {
        let many = few + more;
        let tcp = TcpFields { seq, ..TCP }.segment(&payload);
        for (protocol, transport) in [(17, frames::udp(1, 2, &payload)), (6, tcp), (1, frames::echo(8, 1, 2, &payload))] {
            let row = row_of(&in_ipv4(V4 { id, ..POD_A }, protocol, &transport));
            prop_assert!(!keeps(many, &row) || keeps(few, &row));
            prop_assert!(keeps(1, &row));
        }
    }
}
