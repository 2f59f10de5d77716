//! Super-packets expanded are the multiset of the segments a hop without offload sees.

use lastseen_packet::observation::{FlowKey, Observation, gso, marks};
use lastseen_packet::{Gso, IdentityKey, MAX_SEGMENTS, Segment, segments};
use proptest::prelude::*;

use crate::frames::{self, Bytes, KEY, POD_A, TCP, TcpFields, V4, rows_of};

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const CWR: u8 = 0x80;

fn packet(is_v4: bool, header: V4, protocol: u8, transport: &[u8]) -> Bytes {
    if is_v4 {
        frames::ethernet(0x0800, &header.packet(protocol, transport))
    } else {
        frames::ethernet(0x86dd, &frames::v6(protocol, transport))
    }
}

/// A frame as a node's NIC or a pod's interface shows it.
fn maybe_carried(in_vxlan: bool, frame: Bytes) -> Bytes {
    if in_vxlan { frames::over_vxlan(1, &frame) } else { frame }
}

fn canonical(frame: &[u8], gso: Gso) -> Vec<Segment> {
    let rows = rows_of(frame, frame.len(), gso);
    let mut found: Vec<Segment> = rows.iter().flat_map(|(flow, row)| segments(flow, row, &KEY)).collect();
    found.sort_by_key(|segment| (segment.tcp_seq, segment.ip_id));
    found
}

/// What `tcp_gso_segment` makes of the packet, as frames.
fn segmented(is_v4: bool, in_vxlan: bool, tcp: TcpFields, payload: &[u8], size: usize) -> Vec<Bytes> {
    let count = payload.len().div_ceil(size).max(1);
    let frame_of = |index: usize| {
        let part = &payload[index * size..payload.len().min((index + 1) * size)];
        let mut flags = tcp.flags;
        if index != 0 {
            flags &= !CWR;
        }
        if index != count - 1 {
            flags &= !(FIN | PSH);
        }
        let header = V4 { id: POD_A.id.wrapping_add(index as u16), ..POD_A };
        let segment =
            TcpFields { seq: tcp.seq.wrapping_add((index * size) as u32), flags, ..tcp }.segment(part);
        maybe_carried(in_vxlan, packet(is_v4, header, 6, &segment))
    };
    (0..count).map(frame_of).collect()
}

/// Each datagram with its place in the super-packet as identification.
fn datagrams(payload: &[u8], size: usize) -> Vec<Bytes> {
    let frame_of = |(index, part): (usize, &[u8])| {
        let header = V4 { id: POD_A.id.wrapping_add(index as u16), ..POD_A };
        packet(true, header, 17, &frames::udp(1000, 2000, part))
    };
    payload.chunks(size).enumerate().map(frame_of).collect()
}

proptest! {
    #[test]
    fn a_tcp_super_packet_expands_to_what_is_seen_without_offload(
        is_v4: bool,
        in_vxlan: bool,
        seq: u32,
        flags in prop::sample::select(vec![ACK, ACK | PSH, ACK | FIN, ACK | CWR, ACK | PSH | FIN | CWR]),
        payload in prop::collection::vec(any::<u8>(), 0..20_000),
        size in 88_usize..9000,
    ) {
        let tcp = TcpFields { seq, flags, ..TCP };
        let whole = maybe_carried(in_vxlan, packet(is_v4, POD_A, 6, &tcp.segment(&payload)));
        let kind = if is_v4 { gso::TCPV4 } else { gso::TCPV6 };
        let expanded = canonical(&whole, Gso { kind, size: size as u16 });
        let mut separate: Vec<Segment> = segmented(is_v4, in_vxlan, tcp, &payload, size)
            .iter()
            .flat_map(|frame| canonical(frame, Gso::default()))
            .collect();
        let position = |segment: &Segment| segment.tcp_seq.wrapping_sub(seq);
        separate.sort_by_key(position);
        let mut expanded = expanded;
        expanded.sort_by_key(position);
        prop_assert_eq!(expanded, separate);
    }

    #[test]
    fn a_udp_super_packet_expands_to_its_datagrams(
        payload in prop::collection::vec(any::<u8>(), 1..12_000),
        size in 100_usize..1500,
    ) {
        let whole = packet(true, POD_A, 17, &frames::udp(1000, 2000, &payload));
        let expanded = canonical(&whole, Gso { kind: gso::UDP_L4, size: size as u16 });
        let separate: Vec<Segment> =
            datagrams(&payload, size).iter().flat_map(|frame| canonical(frame, Gso::default())).collect();
        prop_assert_eq!(expanded, separate);
    }
}

#[test]
fn a_wireguard_super_packet_expands_to_its_messages() {
    let message = |counter: u64, length| frames::wireguard(3, counter, &vec![counter as u8; length]);
    let messages = [message(7, 1000), message(8, 1000), message(9, 100)];
    let whole = packet(true, POD_A, 17, &frames::udp(4000, 51820, &messages.concat()));
    let expanded = rows_of(&whole, whole.len(), Gso { kind: gso::UDP_L4, size: 1016 });
    let separate = messages.iter().enumerate().flat_map(|(index, message)| {
        let header = V4 { id: POD_A.id + index as u16, ..POD_A };
        let frame = packet(true, header, 17, &frames::udp(4000, 51820, message));
        rows_of(&frame, frame.len(), Gso { kind: gso::UDP_L4, size: 1016 })
    });
    assert_eq!(expanded, separate.collect::<Vec<_>>());
    assert_eq!(expanded.len(), 3);
}

#[test]
fn the_ecn_and_tunnel_bits_of_the_gso_type_change_nothing() {
    let whole = packet(true, POD_A, 6, &TCP.segment(&[1; 5000]));
    let plain = canonical(&whole, Gso { kind: gso::TCPV4, size: 1448 });
    assert_eq!(plain.len(), 4);
    for bits in [0x80, 0x20, 0x40, 0xe0] {
        assert_eq!(canonical(&whole, Gso { kind: gso::TCPV4 | bits, size: 1448 }), plain);
    }
}

#[test]
fn datagrams_that_the_snap_length_cut_are_marked_one_by_one() {
    let whole = packet(true, POD_A, 17, &frames::udp(1000, 2000, &[3; 3000]));
    // Payload begins at byte 42: the first datagram and ten bytes of the second are captured.
    let rows = rows_of(&whole[..42 + 1010], whole.len(), Gso { kind: gso::UDP_L4, size: 1000 });
    let truncated: Vec<bool> = rows.iter().map(|(_, row)| row.marks & marks::HASH_TRUNCATED != 0).collect();
    assert_eq!(truncated, [false, true, true]);
    assert!(rows.iter().all(|(_, row)| row.payload_length == 1000 && row.ip_length == 1028));
}

#[test]
fn packets_that_are_no_super_packets_stay_one_segment() {
    let syn = packet(true, POD_A, 6, &TcpFields { flags: 0x02, ..TCP }.segment(b""));
    let full = packet(true, POD_A, 6, &TCP.segment(&[1; 5000]));
    for (frame, kind, size) in [
        (&syn, gso::TCPV4, 1448),
        (&full, gso::NONE, 0),
        (&full, gso::UNKNOWN, 0),
        (&full, gso::UNKNOWN, 1448),
        (&full, gso::TCPV4, 0),
        (&full, gso::TCPV4, 5000),
    ] {
        assert_eq!(canonical(frame, Gso { kind, size }).len(), 1, "type {kind} size {size}");
    }
}

#[test]
fn a_row_that_claims_too_many_segments_stays_one() {
    let mut row = Observation { gso_type: gso::TCPV4, gso_size: 1, ..Observation::default() };
    let flow = FlowKey { protocol: 6, ..FlowKey::UNSPECIFIED };
    for (payload_length, expected) in
        [(MAX_SEGMENTS, MAX_SEGMENTS as usize), (MAX_SEGMENTS + 1, 1), (u32::MAX, 1)]
    {
        row.payload_length = payload_length;
        let expanded = segments(&flow, &row, &IdentityKey([0; 16]));
        assert_eq!(expanded.len(), expected);
        assert_eq!(
            expanded.map(|segment| u64::from(segment.payload_length)).sum::<u64>(),
            payload_length.into()
        );
    }
}
