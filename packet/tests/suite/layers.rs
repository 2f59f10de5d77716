//! Each protocol read from a packet made by hand, whole and cut at every byte.

use std::net::IpAddr;

use lastseen_packet::observation::OverlayKind;
use lastseen_packet::{
    DecodeConfig, DecodeError, Decoded, Layer, LinkType, MAX_ENCAPSULATIONS, Opaque, Reason, Sctp,
};
use lastseen_packet::{Tcp, Transport, TunnelPort, Unobserved, VlanTag, decode, observe};

use crate::frames::{self, Bytes, KEY, MORE, NODE_A, POD_A, TCP, V4, decoded};

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

fn pod_frame(vlan_free_payload: &[u8]) -> Bytes {
    frames::ethernet(IPV4, vlan_free_payload)
}

fn pod_tcp() -> Bytes {
    POD_A.packet(6, &TCP.segment(b"GET / HTTP/1.1\r\n"))
}

/// One frame of every kind, by name.
pub(crate) fn every_kind() -> Vec<(&'static str, Bytes)> {
    let inner = frames::ethernet(IPV4, &pod_tcp());
    let node = |protocol, payload: &[u8]| pod_frame(&NODE_A.packet(protocol, payload));
    let tunnel = |port, payload: &[u8]| node(17, &frames::udp(40000, port, payload));
    vec![
        ("tcp", pod_frame(&pod_tcp())),
        ("tcp sack", pod_frame(&POD_A.packet(6, &TCP.with_options(&sack_options(), b"")))),
        ("ipv4 options", pod_frame(&POD_A.with_options(6, &[1; 8], &TCP.segment(b"x")))),
        ("udp", pod_frame(&POD_A.packet(17, &frames::udp(5000, 53, b"query")))),
        ("sctp", pod_frame(&POD_A.packet(132, &frames::sctp(0xdead_beef, b"chunk")))),
        ("icmp echo", pod_frame(&POD_A.packet(1, &frames::echo(8, 77, 3, b"ping")))),
        ("icmp error", pod_frame(&POD_A.packet(1, &frames::icmp(3, 4, [0, 0, 5, 0x78], &pod_tcp())))),
        ("ipv6 tcp", frames::ethernet(IPV6, &frames::v6(6, &TCP.segment(b"six")))),
        ("ipv6 extensions", frames::ethernet(IPV6, &ipv6_with_extensions())),
        ("icmpv6 echo", frames::ethernet(IPV6, &frames::v6(58, &frames::echo(128, 5, 6, b"ping")))),
        ("qinq", frames::ethernet(0x88a8, &frames::vlan(200, 0x8100, &frames::vlan(2001, IPV4, &pod_tcp())))),
        ("vxlan", frames::over_vxlan(1, &inner)),
        ("vxlan-gpe", tunnel(4790, &frames::vxlan_gpe(9, 1, &pod_tcp()))),
        ("geneve", tunnel(6081, &frames::geneve(0x00ab_cdef, 0x6558, &[1, 2, 3, 1, 0, 0, 0, 0], &inner))),
        ("gre", node(47, &frames::gre(IPV4, true, Some(40), Some(9), &pod_tcp()))),
        ("gre teb", node(47, &frames::gre(0x6558, false, None, None, &inner))),
        ("ipip", node(4, &pod_tcp())),
        ("6in4", node(41, &frames::v6(6, &TCP.segment(b"six")))),
        ("4in6", frames::ethernet(IPV6, &frames::v6(4, &pod_tcp()))),
        ("6in6", frames::ethernet(IPV6, &frames::v6(41, &frames::v6(6, &TCP.segment(b"six"))))),
        ("mpls", frames::ethernet(0x8847, &frames::mpls(&[16, 300], &pod_tcp()))),
        ("mpls pseudowire", frames::ethernet(0x8847, &frames::mpls(&[17], &[&[0; 4], &inner[..]].concat()))),
        ("mpls in udp", tunnel(6635, &frames::mpls(&[21], &pod_tcp()))),
        ("mpls in gre", node(47, &frames::gre(0x8847, false, None, None, &frames::mpls(&[22], &pod_tcp())))),
        ("esp", node(50, &frames::esp(0x1234_5678, 42, &[9; 40]))),
        ("esp in udp", tunnel(4500, &frames::esp(0x1234_5678, 42, &[9; 40]))),
        ("ah", node(51, &frames::ah(6, 0x77, 8, &TCP.segment(b"signed")))),
        ("wireguard", tunnel(51820, &frames::wireguard(0xaabb_ccdd, 0x1_0000_0002, &[9; 48]))),
        ("vxlan in geneve", tunnel(6081, &frames::geneve(5, 0x6558, &[], &frames::over_vxlan(6, &inner)))),
    ]
}

/// Timestamps and three blocks.
fn sack_options() -> Bytes {
    let blocks = [100_u32, 200, 300, 400, 500, 600].map(u32::to_be_bytes);
    [&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1, 5, 26], blocks.as_flattened()].concat()
}

fn ipv6_with_extensions() -> Bytes {
    let transport = frames::udp(1000, 2000, b"payload");
    let fragment = frames::v6_fragment(17, 0, 0xfeed_beef, &transport);
    let routing = frames::extension(44, 3, &fragment);
    frames::v6(0, &frames::extension(60, 1, &frames::extension(43, 2, &routing)))
}

fn get(name: &str) -> Decoded {
    let frames = every_kind();
    let (_, frame) = frames.iter().find(|(kind, _)| *kind == name).expect("a known kind");
    decoded(frame).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn tcp(out: &Decoded) -> Tcp {
    match out.transport {
        Transport::Tcp(tcp) => tcp,
        other => panic!("not TCP but {other:?}"),
    }
}

/// Kind, id and UDP ports of each tunnel, outermost first.
fn tunnels(name: &str) -> Vec<(OverlayKind, u32, u16, u16)> {
    let out = get(name);
    let facts = out.encapsulations().iter().map(|t| (t.kind, t.id, t.source_port, t.destination_port));
    facts.collect()
}

#[test]
fn tcp_header_with_timestamps() {
    let out = get("tcp");
    let network = out.network.expect("IPv4");
    assert_eq!((network.source, network.destination), (POD_A.source.into(), POD_A.destination.into()));
    assert_eq!((network.protocol, network.ttl, network.identification), (6, 64, 0x1234));
    assert!(network.dont_fragment && !network.more_fragments);
    let tcp = tcp(&out);
    assert_eq!((tcp.source_port, tcp.destination_port, tcp.seq, tcp.ack), (41822, 80, 1000, 2000));
    assert_eq!(tcp.timestamps, Some((0x0102_0304, 0x0506_0708)));
    assert_eq!((tcp.window, tcp.flags), (0x0100, 0x10));
    assert_eq!((out.payload.length, out.payload.captured), (16, 16));
}

#[test]
fn tcp_sack_blocks_beside_timestamps() {
    let blocks: Vec<u8> =
        [100_u32, 200, 300, 400, 500, 600].iter().flat_map(|edge| edge.to_be_bytes()).collect();
    let options = [&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1, 5, 26][..], &blocks].concat();
    let out = decoded(&pod_frame(&POD_A.packet(6, &TCP.with_options(&options, b"")))).expect("valid");
    let tcp = tcp(&out);
    assert_eq!(tcp.timestamps, Some((1, 2)));
    assert_eq!(tcp.sack[..usize::from(tcp.sack_count)], [(100, 200), (300, 400), (500, 600)]);
}

#[test]
fn a_second_sack_option_replaces_the_first() {
    let option =
        |left: u32, right: u32| [&[1, 1, 5, 10], &left.to_be_bytes()[..], &right.to_be_bytes()].concat();
    let options = [option(1, 2), option(3, 4)].concat();
    let out = decoded(&pod_frame(&POD_A.packet(6, &TCP.with_options(&options, b"")))).expect("valid");
    assert_eq!((tcp(&out).sack_count, tcp(&out).sack[0]), (1, (3, 4)));
}

#[test]
fn tcp_options_that_contradict_themselves_end_the_list() {
    for options in [[8, 10, 0, 0], [8, 0, 1, 1], [5, 255, 0, 0], [1, 1, 1, 8]] {
        let out = decoded(&pod_frame(&POD_A.packet(6, &TCP.with_options(&options, b"data")))).expect("valid");
        assert_eq!(
            (tcp(&out).timestamps, tcp(&out).sack_count, out.payload.length),
            (None, 0, 4),
            "{options:?}"
        );
    }
}

#[test]
fn ipv4_options_are_skipped() {
    assert_eq!(get("ipv4 options").network.expect("IPv4").header_length, 28);
    assert_eq!(tcp(&get("ipv4 options")).destination_port, 80);
}

#[test]
fn sctp_verification_tag() {
    let expected = Sctp { source_port: 5000, destination_port: 5001, verification_tag: 0xdead_beef };
    assert_eq!(get("sctp").transport, Transport::Sctp(expected));
}

#[test]
fn icmp_error_quotes_a_packet() {
    let Transport::Icmp(icmp) = get("icmp error").transport else { panic!("not ICMP") };
    let quote = icmp.embedded.expect("a quote");
    assert_eq!((icmp.kind, icmp.code, quote.protocol, quote.ip_id), (3, 4, 6, 0x1234));
    assert_eq!(quote.source, IpAddr::from(POD_A.source));
    assert_eq!(quote.transport[4..8], 1000_u32.to_be_bytes());
}

#[test]
fn ipv6_extension_headers_lead_to_the_transport() {
    let out = get("ipv6 extensions");
    let network = out.network.expect("IPv6");
    assert_eq!((network.protocol, network.header_length, network.identification), (17, 40 + 56, 0xfeed_beef));
    assert_eq!((network.ttl, network.traffic_class), (63, 0xb8));
    assert!(matches!(out.transport, Transport::Udp(udp) if udp.destination_port == 2000));
}

#[test]
fn vlan_tags_outermost_first() {
    let inner = frames::ethernet(0x8100, &frames::vlan(30, IPV4, &pod_tcp()));
    let outer = NODE_A.packet(17, &frames::udp(1, 4789, &frames::vxlan(1, &inner)));
    let out = decoded(&frames::ethernet(0x8100, &frames::vlan(20, IPV4, &outer))).expect("valid");
    assert_eq!(out.vlans(), [VlanTag { level: 0, id: 20 }, VlanTag { level: 1, id: 30 }]);
    assert_eq!(get("qinq").vlans(), [VlanTag { level: 0, id: 200 }, VlanTag { level: 0, id: 2001 }]);
}

#[test]
fn tunnels_by_kind_id_and_port() {
    assert_eq!(tunnels("vxlan"), [(OverlayKind::Vxlan, 1, 54321, 8472)]);
    assert_eq!(tunnels("vxlan-gpe"), [(OverlayKind::VxlanGpe, 9, 40000, 4790)]);
    assert_eq!(tunnels("geneve"), [(OverlayKind::Geneve, 0x00ab_cdef, 40000, 6081)]);
    assert_eq!(tunnels("gre"), [(OverlayKind::Gre, 40, 0, 0)]);
    assert_eq!(tunnels("gre teb"), [(OverlayKind::Gre, 0, 0, 0)]);
    for name in ["ipip", "6in4", "4in6", "6in6"] {
        assert_eq!(tunnels(name), [(OverlayKind::IpInIp, 0, 0, 0)], "{name}");
    }
    assert_eq!(tunnels("mpls"), [(OverlayKind::Mpls, 300, 0, 0)]);
    assert_eq!(get("mpls").labels(), [16, 300]);
    assert_eq!(tunnels("mpls in udp"), [(OverlayKind::Mpls, 21, 40000, 6635)]);
    assert_eq!(tunnels("mpls in gre"), [(OverlayKind::Gre, 0, 0, 0), (OverlayKind::Mpls, 22, 0, 0)]);
    assert_eq!(tunnels("ah"), [(OverlayKind::Ah, 0x77, 0, 0)]);
    let nested = [(OverlayKind::Geneve, 5, 40000, 6081), (OverlayKind::Vxlan, 6, 54321, 8472)];
    assert_eq!(tunnels("vxlan in geneve"), nested);
}

#[test]
fn readable_tunnels_show_the_inner_tcp_and_where_its_frame_begins() {
    let opaque = ["esp", "esp in udp", "wireguard"];
    for (name, frame) in every_kind() {
        let out = decoded(&frame).unwrap_or_else(|error| panic!("{name}: {error}"));
        if out.encapsulations().is_empty() || opaque.contains(&name) {
            continue;
        }
        assert_eq!(tcp(&out).destination_port, 80, "{name}");
        let inner = &frame[out.inner_frame_offset as usize..];
        let mut again = Decoded::default();
        let link = out.inner_frame_link;
        decode(&DecodeConfig::default(), link, inner, inner.len() as u32, &mut again)
            .expect("an inner frame");
        assert_eq!(tcp(&again), tcp(&out), "{name}: the inner frame on its own");
    }
}

#[test]
fn carrier_of_mpls_in_gre_is_that_of_gre() {
    let out = get("mpls in gre");
    let sources = out.encapsulations().iter().map(|tunnel| tunnel.carrier.source);
    assert!(sources.eq([IpAddr::from(NODE_A.source); 2]));
}

#[test]
fn opaque_tunnels_give_index_and_sequence() {
    let esp = Opaque { kind: OverlayKind::Esp, index: 0x1234_5678, sequence: 42, ..Opaque::default() };
    assert_eq!(get("esp").transport, Transport::Opaque(esp));
    let in_udp = Opaque { source_port: 40000, destination_port: 4500, ..esp };
    assert_eq!(get("esp in udp").transport, Transport::Opaque(in_udp));
    let wireguard = Opaque {
        kind: OverlayKind::WireGuard,
        index: 0xaabb_ccdd,
        sequence: 0x1_0000_0002,
        source_port: 40000,
        destination_port: 51820,
    };
    assert_eq!(get("wireguard").transport, Transport::Opaque(wireguard));
    assert_eq!(get("ah").encapsulations()[0].sequence, 8);
}

#[test]
fn a_tunnel_port_without_the_tunnels_header_is_plain_udp() {
    for (port, payload) in [(4789, [0; 16]), (6081, [0xff; 16]), (51820, [9; 16]), (4500, [0; 16])] {
        let out = decoded(&pod_frame(&POD_A.packet(17, &frames::udp(1000, port, &payload)))).expect("valid");
        assert!(matches!(out.transport, Transport::Udp(udp) if udp.destination_port == port), "{port}");
        assert_eq!((out.encapsulations().len(), out.payload.length), (0, 16), "{port}");
    }
}

#[test]
fn the_destination_port_decides_what_a_datagram_carries() {
    let inner = frames::ethernet(IPV4, &pod_tcp());
    let reply = pod_frame(&NODE_A.packet(17, &frames::udp(4789, 40000, &frames::vxlan(1, &inner))));
    assert!(decoded(&reply).expect("valid").encapsulations().is_empty());

    let mut config = DecodeConfig::default();
    assert!(config.set(TunnelPort { port: 40000, kind: OverlayKind::Vxlan }));
    let mut out = Decoded::default();
    decode(&config, LinkType::Ethernet, &reply, reply.len() as u32, &mut out).expect("valid");
    assert_eq!(out.encapsulations()[0].destination_port, 40000);
}

#[test]
fn tunnel_ports_are_bounded_and_can_be_taken_back() {
    let mut config = DecodeConfig::default();
    let vxlan = |port| TunnelPort { port, kind: OverlayKind::Vxlan };
    let added = (20_000..21_000).filter(|&port| config.set(vxlan(port))).count();
    assert_eq!(added + DecodeConfig::default().ports().len(), config.ports().len());
    assert!(config.ports().len() < 1000 && !config.set(vxlan(30_000)));
    assert_eq!(config.kind(30_000), OverlayKind::None);
    assert!(config.set(TunnelPort { port: 4789, kind: OverlayKind::None }));
    assert_eq!((config.kind(4789), config.kind(8472)), (OverlayKind::None, OverlayKind::Vxlan));
}

#[test]
fn link_types_keep_their_number() {
    for link in crate::digest::LINK_TYPES {
        assert_eq!(LinkType::from_dlt(link.dlt()), Some(link));
        assert_eq!(
            LinkType::from_dlt(link.dlt() | 0x4000_0000),
            Some(link),
            "with a frame check sequence length"
        );
    }
}

#[test]
fn padding_is_no_payload() {
    let mut frame = pod_frame(&POD_A.packet(6, &TCP.segment(b"")));
    frame.resize(80, 0xaa);
    let out = decoded(&frame).expect("valid");
    assert_eq!((out.payload.length, out.payload.captured), (0, 0));
}

#[test]
fn super_packets_take_their_length_from_the_frame() {
    let segment = TCP.segment(&[7; 100]);
    let v4 = pod_frame(&POD_A.with_length(6, 0, &[], &segment));
    let v6 = frames::ethernet(IPV6, &frames::v6_with_length(6, 0, &segment));
    let jumbo_option = [&[6, 0, 0xc2, 4], &(150_008_u32 + 32).to_be_bytes()[..], &segment].concat();
    let jumbogram = frames::ethernet(IPV6, &frames::v6_with_length(0, 0, &jumbo_option));
    for (name, frame, headers) in
        [("v4", v4, 14 + 20 + 32), ("v6", v6, 14 + 40 + 32), ("jumbo", jumbogram, 14 + 48 + 32)]
    {
        let mut out = Decoded::default();
        let original_length = headers + 150_000;
        decode(&DecodeConfig::default(), LinkType::Ethernet, &frame, original_length, &mut out).expect(name);
        assert_eq!((out.payload.length, out.payload.captured), (150_000, 100), "{name}");
        assert_eq!(out.network.expect("IP").total_length, original_length - 14, "{name}");
    }
}

#[test]
fn fragments_behind_the_first_have_no_transport() {
    let later = V4 { fragment: 185, ..POD_A };
    let out = decoded(&pod_frame(&later.packet(17, &[7; 100]))).expect("valid");
    let network = out.network.expect("IPv4");
    assert_eq!((network.fragment_offset, network.more_fragments), (1480, false));
    assert_eq!((out.transport, out.payload.length), (Transport::None, 100));
    assert!(out.may_be_carrier_fragment());

    let v6 = frames::v6(44, &frames::v6_fragment(17, 1480 + 1, 9, &[7; 100]));
    let out = decoded(&frames::ethernet(IPV6, &v6)).expect("valid");
    let network = out.network.expect("IPv6");
    assert_eq!((network.fragment_offset, network.more_fragments, network.identification), (1480, true, 9));
    assert_eq!((out.transport, out.payload.length), (Transport::None, 100));
}

#[test]
fn the_first_fragment_of_a_carrier_shows_the_whole_inner_packet() {
    let inner = frames::ethernet(IPV4, &POD_A.packet(6, &TCP.segment(&vec![7; 1400])));
    let datagram = frames::udp(40000, 4789, &frames::vxlan(1, &inner));
    let first = V4 { fragment: MORE, ..NODE_A };
    let out = decoded(&pod_frame(&first.packet(17, &datagram[..600]))).expect("valid");
    assert_eq!(out.network.expect("inner").total_length, 20 + 32 + 1400);
    assert_eq!(out.payload.length, 1400);
    assert!(out.payload.captured < 600);
}

#[test]
fn link_types_lead_to_the_same_packet() {
    let packet = pod_tcp();
    let sll = [&[0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 8, 0], &packet[..]].concat();
    let sll2 = [&[8, 0, 0, 0, 0, 0, 0, 3, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0], &packet[..]].concat();
    let with = |header: &[u8]| [header, &packet[..]].concat();
    let captures = [
        (113, sll),
        (276, sll2),
        (0, with(&[2, 0, 0, 0])),
        (0, with(&[0, 0, 0, 2])),
        (108, with(&[0, 0, 0, 2])),
        (9, with(&[0xff, 3, 0, 0x21])),
        (9, with(&[0x21])),
        (12, packet.clone()),
        (14, packet.clone()),
        (101, packet.clone()),
        (228, packet.clone()),
        (1, frames::ethernet(IPV4, &packet)),
    ];
    for (dlt, frame) in captures {
        let link = LinkType::from_dlt(dlt).expect("a known link type");
        let mut out = Decoded::default();
        decode(&DecodeConfig::default(), link, &frame, frame.len() as u32, &mut out).expect("valid");
        assert_eq!(tcp(&out), tcp(&get("tcp")), "link type {dlt}");
    }
    let v6 = frames::v6(6, &TCP.segment(b"six"));
    for (dlt, header) in
        [(229, &[][..]), (101, &[]), (0, &[30, 0, 0, 0]), (0, &[0, 0, 0, 24]), (0, &[10, 0, 0, 0])]
    {
        let frame = [header, &v6].concat();
        let link = LinkType::from_dlt(dlt).expect("a known link type");
        let mut out = Decoded::default();
        decode(&DecodeConfig::default(), link, &frame, frame.len() as u32, &mut out).expect("valid");
        assert!(!out.network.expect("IPv6").is_ipv4(), "link type {dlt}");
    }
    assert_eq!(LinkType::from_dlt(105), None);
}

#[test]
fn what_is_no_ip_gives_no_row_and_a_reason() {
    let arp = frames::arp([10, 0, 0, 1], [10, 0, 0, 2]);
    let lldp = frames::ethernet(0x88cc, &[0; 50]);
    let cases = [
        (frames::ethernet(0x0806, &arp), Unobserved::Arp),
        (frames::over_vxlan(1, &frames::ethernet(0x0806, &arp)), Unobserved::Arp),
        (lldp.clone(), Unobserved::NotIp),
        (frames::over_vxlan(1, &lldp), Unobserved::TunnelNotIp),
    ];
    for (frame, reason) in cases {
        let out = decoded(&frame).expect("valid");
        let capture = lastseen_packet::Capture { time_nanos: 0, gso: lastseen_packet::Gso::default() };
        let result = observe(&out, &frame, capture, &KEY, &mut |_, _| panic!("a row for {reason}"));
        assert_eq!(result, Err(reason));
    }
}

#[test]
fn nested_too_deeply() {
    let mut packet = pod_tcp();
    for _ in 0..MAX_ENCAPSULATIONS {
        packet = NODE_A.packet(4, &packet);
    }
    assert_eq!(
        decoded(&pod_frame(&packet)).expect("as deep as allowed").encapsulations().len(),
        MAX_ENCAPSULATIONS
    );
    let error = decoded(&pod_frame(&NODE_A.packet(4, &packet))).expect_err("one too many");
    assert_eq!((error.layer, error.reason), (Layer::Ipv4, Reason::TooDeep));
}

#[test]
fn malformed_headers_name_layer_and_offset() {
    let change = |at: usize, value: u8| {
        let mut frame = pod_frame(&pod_tcp());
        frame[at] = value;
        decoded(&frame).expect_err("malformed")
    };
    let error = |layer, offset, reason| DecodeError { layer, offset, reason };
    assert_eq!(change(14, 0x55), error(Layer::Ipv4, 14, Reason::Version));
    assert_eq!(change(14, 0x44), error(Layer::Ipv4, 14, Reason::HeaderLength));
    assert_eq!(change(16, 0x40), error(Layer::Ipv4, 14, Reason::Length));
    assert_eq!(change(46, 0x40), error(Layer::Tcp, 34, Reason::HeaderLength));
    assert_eq!(change(46, 0xf0), error(Layer::Tcp, 34, Reason::TooShort));
    let bad_udp = pod_frame(&POD_A.packet(17, &frames::udp_with_length(1, 2, 99, b"short")));
    assert_eq!(decoded(&bad_udp).expect_err("malformed"), error(Layer::Udp, 34, Reason::Length));
    assert_eq!(
        error(Layer::Udp, 34, Reason::Version).to_string(),
        "udp header at byte 34: unexpected version"
    );
}

#[test]
fn a_frame_cut_at_any_byte_keeps_the_layers_before_the_cut() {
    for (name, frame) in every_kind() {
        let whole = decoded(&frame).unwrap_or_else(|error| panic!("{name}: {error}"));
        for cut in 0..frame.len() {
            let mut out = Decoded::default();
            let result = decode(
                &DecodeConfig::default(),
                LinkType::Ethernet,
                &frame[..cut],
                frame.len() as u32,
                &mut out,
            );
            check_cut(name, cut, result, &out, &whole);
        }
    }
}

fn check_cut(name: &str, cut: usize, result: Result<(), DecodeError>, out: &Decoded, whole: &Decoded) {
    let headers = whole.payload.offset as usize;
    match result {
        Ok(()) => {
            assert!(cut >= headers, "{name} cut at {cut} of {headers} header bytes");
            assert_eq!(
                (out.network, out.payload.length),
                (whole.network, whole.payload.length),
                "{name} {cut}"
            );
        }
        Err(error) => {
            assert!(cut < headers, "{name} cut at {cut} behind {headers} header bytes: {error}");
            assert_eq!(error.reason, Reason::Truncated, "{name} cut at {cut}: {error}");
            assert!(error.offset as usize <= cut, "{name} cut at {cut}: {error}");
        }
    }
    assert!(whole.encapsulations().starts_with(out.encapsulations()), "{name} cut at {cut}");
}

#[test]
fn a_frame_that_ends_at_any_byte_on_the_wire_is_malformed_but_never_truncated() {
    for (name, frame) in every_kind() {
        for end in 0..frame.len() {
            if let Err(error) = decoded(&frame[..end]) {
                assert_ne!(error.reason, Reason::Truncated, "{name} ending at {end}: {error}");
            }
        }
    }
}
