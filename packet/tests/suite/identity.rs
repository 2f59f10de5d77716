//! What K0 must and must not depend on.

use std::collections::HashSet;
use std::net::IpAddr;

use lastseen_packet::observation::{FlowKey, Observation, OverlayKind, marks};
use lastseen_packet::{Gso, datagram_key, k0, segments};

use crate::frames::{self, Bytes, KEY, MORE, NODE_A, POD_A, Row, TCP, TcpFields, V4, row_of, rows_of};

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

fn pod_frame(packet: &[u8]) -> Bytes {
    frames::ethernet(IPV4, packet)
}

fn k0_of((flow, row): &Row) -> u64 {
    k0(&KEY, flow, row)
}

/// The K0 of an IPv4 packet of a pod.
fn k0_of_packet(packet: &[u8]) -> u64 {
    k0_of(&row_of(&pod_frame(packet)))
}

/// After source translation to the node and three hops.
const TRANSLATED: V4 = V4 { source: [172, 18, 0, 2], ttl: 61, ..POD_A };

#[test]
fn k0_survives_encapsulation() {
    let packet = POD_A.packet(6, &TCP.segment(b"data"));
    let inner = pod_frame(&packet);
    let expected = k0_of_packet(&packet);
    let geneve = frames::geneve(1, 0x6558, &[], &inner);
    let carried = [
        frames::over_vxlan(7, &inner),
        pod_frame(&NODE_A.packet(17, &frames::udp(4, 6081, &geneve))),
        pod_frame(&NODE_A.packet(4, &packet)),
        pod_frame(&NODE_A.packet(47, &frames::gre(IPV4, false, Some(1), None, &packet))),
        frames::ethernet(0x8100, &frames::vlan(5, IPV4, &packet)),
        pod_frame(&POD_A.packet(51, &frames::ah(6, 1, 2, &TCP.segment(b"data")))),
    ];
    for (index, frame) in carried.iter().enumerate() {
        assert_eq!(k0_of(&row_of(frame)), expected, "tunnel {index}");
    }
}

#[test]
fn k0_of_tcp_survives_translation_and_the_flags_that_segmentation_moves() {
    let segment = |ports, flags| TcpFields { ports, flags, ..TCP }.segment(b"data");
    let expected = k0_of_packet(&POD_A.packet(6, &segment((41822, 80), 0x10)));
    assert_eq!(k0_of_packet(&TRANSLATED.packet(6, &segment((1025, 30080), 0x10))), expected);
    // FIN, PSH, ECE and CWR.
    assert_eq!(k0_of_packet(&POD_A.packet(6, &segment((41822, 80), 0xd9))), expected);
}

#[test]
fn k0_of_tcp_changes_with_every_field_that_tells_segments_apart() {
    let variants = [
        TCP,
        TcpFields { seq: 1001, ..TCP },
        TcpFields { ack: 2001, ..TCP },
        TcpFields { flags: 0x12, ..TCP },
        TcpFields { flags: 0x14, ..TCP },
        TcpFields { timestamps: (0x0102_0305, 0x0506_0708), ..TCP },
        TcpFields { timestamps: (0x0102_0304, 0x0506_0709), ..TCP },
    ];
    let mut keys: Vec<u64> =
        variants.iter().map(|tcp| k0_of_packet(&POD_A.packet(6, &tcp.segment(b"data")))).collect();
    keys.push(k0_of_packet(&POD_A.packet(6, &TCP.segment(b"data!"))));
    keys.push(k0_of_packet(&V4 { id: 0x1235, ..POD_A }.packet(6, &TCP.segment(b"data"))));
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
}

#[test]
fn k0_of_udp_covers_exactly_32_payload_bytes_and_the_length() {
    let datagram = |ports: (u16, u16), payload: &[u8]| frames::udp(ports.0, ports.1, payload);
    let mut payload = [5; 40];
    let expected = k0_of_packet(&POD_A.packet(17, &datagram((1000, 2000), &payload)));
    assert_eq!(k0_of_packet(&TRANSLATED.packet(17, &datagram((1, 3), &payload))), expected);
    payload[32] = 6;
    assert_eq!(k0_of_packet(&POD_A.packet(17, &datagram((1000, 2000), &payload))), expected);
    payload[31] = 6;
    assert_ne!(k0_of_packet(&POD_A.packet(17, &datagram((1000, 2000), &payload))), expected);
    assert_ne!(k0_of_packet(&POD_A.packet(17, &datagram((1000, 2000), &[5; 41]))), expected);
}

#[test]
fn k0_of_echo_leaves_the_identifier_out() {
    let ping =
        |kind, id, seq, payload: &[u8]| k0_of_packet(&POD_A.packet(1, &frames::echo(kind, id, seq, payload)));
    let expected = ping(8, 77, 3, b"time");
    assert_eq!(ping(8, 32203, 3, b"time"), expected);
    for other in [ping(0, 77, 3, b"time"), ping(8, 77, 4, b"time"), ping(8, 77, 3, b"tine")] {
        assert_ne!(other, expected);
    }
}

#[test]
fn k0_of_icmp_errors_covers_what_translation_leaves_of_the_quoted_packet() {
    let error =
        |kind, code, quote: &[u8]| k0_of_packet(&POD_A.packet(1, &frames::icmp(kind, code, [0; 4], quote)));
    let quote = |carrier: V4, tcp: TcpFields| carrier.packet(6, &tcp.segment(b"lost"));
    let expected = error(3, 4, &quote(POD_A, TCP));
    assert_eq!(
        error(3, 4, &quote(V4 { ttl: 64, ..TRANSLATED }, TcpFields { ports: (9, 8), ..TCP })),
        expected
    );
    let others = [
        error(11, 4, &quote(POD_A, TCP)),
        error(3, 3, &quote(POD_A, TCP)),
        error(3, 4, &quote(V4 { id: 1, ..POD_A }, TCP)),
        error(3, 4, &quote(POD_A, TcpFields { seq: 1, ..TCP })),
    ];
    assert!(others.iter().all(|&other| other != expected));
}

#[test]
fn k0_of_icmp_errors_leaves_quoted_ports_and_echo_identifiers_out() {
    let error = |protocol, quoted: &[u8]| {
        k0_of_packet(&POD_A.packet(1, &frames::icmp(3, 3, [0; 4], &POD_A.packet(protocol, quoted))))
    };
    assert_eq!(error(17, &frames::udp(1, 2, b"abc")), error(17, &frames::udp(3, 4, b"abc")));
    assert_ne!(error(17, &frames::udp(1, 2, b"abc")), error(17, &frames::udp(1, 2, b"abcd")));
    assert_eq!(error(1, &frames::echo(8, 77, 3, b"abc")), error(1, &frames::echo(8, 78, 3, b"abc")));
    assert_ne!(error(1, &frames::echo(8, 77, 3, b"abc")), error(1, &frames::echo(8, 77, 4, b"abc")));
}

#[test]
fn k0_of_sctp_covers_tag_and_first_chunk() {
    let packet = |tag, chunk: &[u8]| k0_of_packet(&POD_A.packet(132, &frames::sctp(tag, chunk)));
    assert_eq!(packet(1, b"data"), packet(1, b"data"));
    assert_ne!(packet(1, b"data"), packet(2, b"data"));
    assert_ne!(packet(1, b"data"), packet(1, b"datb"));
}

#[test]
fn k0_needs_the_key() {
    let (flow, row) = row_of(&pod_frame(&POD_A.packet(6, &TCP.segment(b"data"))));
    let other = lastseen_packet::IdentityKey(*b"another key here");
    assert_ne!(k0(&KEY, &flow, &row), k0(&other, &flow, &row));
    assert_eq!(format!("{KEY:?}"), "IdentityKey(..)");
}

#[test]
fn tenants_with_the_same_addresses_in_different_networks_never_mix() {
    let inner = pod_frame(&POD_A.packet(6, &TCP.segment(b"data")));
    let flows: HashSet<FlowKey> =
        [1, 2].map(|vni| row_of(&frames::over_vxlan(vni, &inner)).0).into_iter().collect();
    assert_eq!(flows.len(), 2);
    let bare = row_of(&inner).0;
    assert!(flows.iter().all(|flow| FlowKey { overlay: None, ..*flow } == bare));
}

#[test]
fn flow_names_the_innermost_tunnel() {
    let inner = pod_frame(&POD_A.packet(6, &TCP.segment(b"data")));
    let geneve = frames::geneve(5, 0x6558, &[], &frames::over_vxlan(6, &inner));
    let (flow, row) = row_of(&pod_frame(&POD_A.packet(17, &frames::udp(1, 6081, &geneve))));
    let overlay = flow.overlay.expect("a tunnel");
    assert_eq!((overlay.kind, overlay.id, overlay.port), (OverlayKind::Vxlan, 6, 8472));
    assert_eq!(overlay.source, IpAddr::from(NODE_A.source));
    assert_eq!((row.outer_ip_id, row.ip_id), (NODE_A.id, POD_A.id));
    assert_ne!(row.marks & marks::OUTER_IPV4, 0);
}

#[test]
fn opaque_tunnels_are_flows_of_their_carrier() {
    let datagram = |counter| frames::udp(40000, 51820, &frames::wireguard(3, counter, &[9; 48]));
    let (flow, row) = row_of(&pod_frame(&NODE_A.packet(17, &datagram(0x1_0000_0002))));
    let overlay = flow.overlay.expect("a tunnel");
    assert_eq!((overlay.kind, overlay.id, overlay.port), (OverlayKind::WireGuard, 3, 51820));
    assert_eq!((flow.source, flow.source_port), (IpAddr::from(NODE_A.source), 40000));
    assert_eq!((row.tcp_seq, row.outer_ip_id), (2, NODE_A.id));
    let next = row_of(&pod_frame(&NODE_A.packet(17, &datagram(0x1_0000_0003))));
    assert_ne!(k0_of(&next), k0_of(&(flow, row)));
}

#[test]
fn a_hash_over_fewer_bytes_than_it_needs_is_marked() {
    let frame = pod_frame(&POD_A.packet(17, &frames::udp(1, 2, &[5; 100])));
    let headers = frame.len() - 100;
    for (captured, truncated) in [(31, true), (32, false)] {
        let rows = rows_of(&frame[..headers + captured], frame.len(), Gso::default());
        assert_eq!(rows[0].1.marks & marks::HASH_TRUNCATED != 0, truncated, "{captured} payload bytes");
        assert_eq!(rows[0].1.payload_length, 100);
    }
    let tcp = pod_frame(&POD_A.packet(6, &TCP.segment(&[5; 100])));
    let rows = rows_of(&tcp[..tcp.len() - 100], tcp.len(), Gso::default());
    assert_eq!(rows[0].1.marks & marks::HASH_TRUNCATED, 0);
}

#[test]
fn all_fragments_of_a_datagram_share_its_key() {
    let datagram = frames::udp(1000, 2000, &[5; 3000]);
    let fragment = |start: usize, end: usize| {
        let more = if end < datagram.len() { MORE } else { 0 };
        let header = V4 { fragment: more | (start / 8) as u16, ..POD_A };
        row_of(&pod_frame(&header.packet(17, &datagram[start..end])))
    };
    let fragments = [fragment(0, 1480), fragment(1480, 2960), fragment(2960, datagram.len())];
    let expected = datagram_key(&KEY, 17, POD_A.id);
    for (flow, row) in &fragments {
        let of_row: Vec<u64> = segments(flow, row, &KEY).map(|segment| segment.k0).collect();
        assert_eq!((k0(&KEY, flow, row), of_row), (expected, vec![expected]));
    }
    let lengths = fragments.map(|(_, row)| (row.fragment_offset, row.payload_length));
    assert_eq!(lengths, [(0, 1472), (1480, 1480), (2960, 48)]);
    assert_eq!((fragments[0].0.destination_port, fragments[1].0.destination_port), (2000, 0));
    assert_ne!(k0_of_packet(&POD_A.packet(17, &datagram)), expected);
}

#[test]
fn outer_fragmentation_leaves_the_inner_identity_alone() {
    let inner = pod_frame(&POD_A.packet(6, &TCP.segment(&[7; 1400])));
    let datagram = frames::udp(40000, 8472, &frames::vxlan(1, &inner));
    let first = V4 { fragment: MORE, ..NODE_A };
    let rest = V4 { fragment: 600 / 8, ..NODE_A };
    let (_, whole) = row_of(&pod_frame(&NODE_A.packet(17, &datagram)));
    let (_, head) = row_of(&pod_frame(&first.packet(17, &datagram[..600])));
    assert_eq!(head, Observation { outer_fragment_length: 600, ..whole });
    let (flow, tail) = row_of(&pod_frame(&rest.packet(17, &datagram[600..])));
    assert_eq!((flow.overlay, flow.source), (None, IpAddr::from(NODE_A.source)));
    assert_ne!(tail.marks & marks::OUTER_FRAGMENT, 0);
    assert_eq!(tail.outer_ip_id, whole.outer_ip_id);
    assert_eq!((tail.fragment_offset, tail.payload_length as usize), (600, datagram.len() - 600));
}

#[test]
fn outer_fragments_over_ipv6_join_by_the_whole_identification() {
    let inner = pod_frame(&POD_A.packet(6, &TCP.segment(&[7; 1400])));
    let datagram = frames::udp(40000, 8472, &frames::vxlan(1, &inner));
    let fragment = |offset: u16, more: u16, part: &[u8]| {
        row_of(&frames::ethernet(
            IPV6,
            &frames::v6(44, &frames::v6_fragment(17, offset | more, 0xdead_beef, part)),
        ))
    };
    let (flow, head) = fragment(0, 1, &datagram[..1_000]);
    assert_eq!((head.outer_id(), head.outer_fragment_length), (0xdead_beef, 1_000));
    assert_eq!((head.marks & (marks::OUTER_IPV4 | marks::MORE_FRAGMENTS), head.ip_length), (0, 1_452));
    let (tail_flow, tail) = fragment(1_000, 0, &datagram[1_000..]);
    assert_eq!((tail.outer_id(), tail.outer_fragment_length), (0xdead_beef, 0));
    assert_ne!(tail.marks & marks::OUTER_FRAGMENT, 0);
    let carrier = flow.overlay.expect("a tunnel");
    assert_eq!((tail_flow.source, tail_flow.destination), (carrier.source, carrier.destination));
    assert_eq!((tail.fragment_offset, tail.payload_length as usize), (1_000, datagram.len() - 1_000));
}

#[test]
fn a_fragment_of_an_outer_tunnel_around_another_says_nothing_of_the_inner_carrier() {
    let inner = pod_frame(&POD_A.packet(6, &TCP.segment(&[7; 100])));
    let middle = pod_frame(&POD_A.packet(17, &frames::udp(1, 4789, &frames::vxlan(2, &inner))));
    let datagram = frames::udp(40000, 8472, &frames::vxlan(1, &middle));
    let first = V4 { fragment: MORE, ..NODE_A };
    let (_, head) = row_of(&pod_frame(&first.packet(17, &datagram)));
    assert_eq!(head.outer_fragment_length, 0);
}
