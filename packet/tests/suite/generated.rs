//! Generated packets beside what etherparse reads of them.

use std::net::IpAddr;

use etherparse::{
    IpFragOffset, IpHeaders, Ipv4Extensions, Ipv4Header, Ipv6Extensions, Ipv6FlowLabel, Ipv6Header,
};
use etherparse::{
    NetSlice, PacketBuilder, PacketBuilderStep, SlicedPacket, TcpHeader, TcpOptionElement, TcpSlice,
};
use etherparse::{TransportSlice, VlanId};
use lastseen_packet::{DecodeConfig, Decoded, LinkType, Network, Tcp, Transport, decode};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::frames::{Bytes, decoded, vxlan};

#[derive(Clone, Debug)]
enum Vlan {
    None,
    Single(u16),
    Double(u16, u16),
}

#[derive(Clone, Debug)]
enum Payload {
    Tcp { header: TcpHeader, options: Vec<TcpOptionElement> },
    Udp(u16, u16),
    Echo { is_reply: bool, id: u16, seq: u16 },
}

#[derive(Clone, Debug)]
struct Packet {
    vlan: Vlan,
    ip: IpHeaders,
    transport: Payload,
    bytes: Bytes,
}

fn any_vlan() -> impl Strategy<Value = Vlan> {
    let id = 0_u16..4096;
    prop_oneof![
        Just(Vlan::None),
        id.clone().prop_map(Vlan::Single),
        (id.clone(), id).prop_map(|(outer, inner)| Vlan::Double(outer, inner)),
    ]
}

fn any_ipv4() -> impl Strategy<Value = IpHeaders> {
    let words = (any::<[u8; 4]>(), any::<[u8; 4]>(), any::<u16>(), any::<u8>(), any::<bool>(), 0_usize..=10);
    words.prop_map(|(source, destination, identification, time_to_live, dont_fragment, option_words)| {
        let header = Ipv4Header {
            source,
            destination,
            identification,
            time_to_live,
            dont_fragment,
            fragment_offset: IpFragOffset::ZERO,
            options: vec![1; option_words * 4].as_slice().try_into().expect("at most 40 bytes"),
            ..Ipv4Header::default()
        };
        IpHeaders::Ipv4(header, Ipv4Extensions::default())
    })
}

fn any_ipv6() -> impl Strategy<Value = IpHeaders> {
    let words = (any::<[u8; 16]>(), any::<[u8; 16]>(), any::<u8>(), any::<u8>(), 0_u32..(1 << 20));
    words.prop_map(|(source, destination, hop_limit, traffic_class, label)| {
        let flow_label = Ipv6FlowLabel::try_new(label).expect("20 bits");
        let header =
            Ipv6Header { source, destination, hop_limit, traffic_class, flow_label, ..Ipv6Header::default() };
        IpHeaders::Ipv6(header, Ipv6Extensions::default())
    })
}

fn any_tcp_option() -> impl Strategy<Value = TcpOptionElement> {
    prop_oneof![
        Just(TcpOptionElement::Noop),
        any::<u16>().prop_map(TcpOptionElement::MaximumSegmentSize),
        any::<u8>().prop_map(TcpOptionElement::WindowScale),
        Just(TcpOptionElement::SelectiveAcknowledgementPermitted),
        (any::<u32>(), any::<u32>()).prop_map(|(value, echo)| TcpOptionElement::Timestamp(value, echo)),
        (any::<(u32, u32)>(), any::<Option<(u32, u32)>>()).prop_map(|(first, second)| {
            TcpOptionElement::SelectiveAcknowledgement(first, [second, None, None])
        }),
    ]
}

fn any_tcp() -> impl Strategy<Value = Payload> {
    let words = (any::<u16>(), any::<u16>(), any::<u32>(), any::<u32>(), any::<u16>(), any::<[bool; 8]>());
    (words, vec(any_tcp_option(), 0..=2)).prop_map(|((from, to, seq, ack, window, flags), options)| {
        let mut header = TcpHeader::new(from, to, seq, window);
        header.acknowledgment_number = ack;
        [header.fin, header.syn, header.rst, header.psh, header.ack, header.urg, header.ece, header.cwr] =
            flags;
        Payload::Tcp { header, options }
    })
}

fn any_transport() -> impl Strategy<Value = Payload> {
    prop_oneof![
        any_tcp(),
        // Below the tunnel ports: those packets are generated on purpose.
        (any::<u16>(), 1_u16..4000).prop_map(|(from, to)| Payload::Udp(from, to)),
        (any::<bool>(), any::<u16>(), any::<u16>()).prop_map(|(is_reply, id, seq)| Payload::Echo {
            is_reply,
            id,
            seq
        }),
    ]
}

prop_compose! {
    fn any_packet()(
        vlan in any_vlan(),
        ip in prop_oneof![any_ipv4(), any_ipv6()],
        transport in any_transport(),
        bytes in vec(any::<u8>(), 0..200),
    ) -> Packet {
        Packet { vlan, ip, transport, bytes }
    }
}

/// The frame etherparse writes.
fn build(packet: &Packet) -> Bytes {
    let id = |value| VlanId::try_new(value).expect("12 bits");
    let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let ip = match packet.vlan {
        Vlan::None => link.ip(packet.ip.clone()),
        Vlan::Single(value) => link.single_vlan(id(value)).ip(packet.ip.clone()),
        Vlan::Double(outer, inner) => link.double_vlan(id(outer), id(inner)).ip(packet.ip.clone()),
    };
    build_transport(ip, packet)
}

fn build_transport(ip: PacketBuilderStep<IpHeaders>, packet: &Packet) -> Bytes {
    let mut frame = Bytes::new();
    let is_v4 = matches!(packet.ip, IpHeaders::Ipv4(..));
    match &packet.transport {
        Payload::Tcp { header, options } => {
            let mut header = header.clone();
            header.set_options(options).expect("at most 40 bytes of options");
            ip.tcp_header(header).write(&mut frame, &packet.bytes)
        }
        Payload::Udp(from, to) => ip.udp(*from, *to).write(&mut frame, &packet.bytes),
        Payload::Echo { is_reply, id, seq } => match (is_v4, is_reply) {
            (true, false) => ip.icmpv4_echo_request(*id, *seq).write(&mut frame, &packet.bytes),
            (true, true) => ip.icmpv4_echo_reply(*id, *seq).write(&mut frame, &packet.bytes),
            (false, false) => ip.icmpv6_echo_request(*id, *seq).write(&mut frame, &packet.bytes),
            (false, true) => ip.icmpv6_echo_reply(*id, *seq).write(&mut frame, &packet.bytes),
        },
    }
    .expect("a frame");
    frame
}

fn check_network(ours: &Network, theirs: &NetSlice<'_>) {
    match theirs {
        NetSlice::Ipv4(slice) => {
            let header = slice.header();
            assert_eq!(ours.source, IpAddr::V4(header.source_addr()));
            assert_eq!(ours.destination, IpAddr::V4(header.destination_addr()));
            assert_eq!(ours.identification, u32::from(header.identification()));
            assert_eq!((ours.ttl, ours.protocol), (header.ttl(), header.protocol().0));
            assert_eq!(ours.header_length, u16::from(header.ihl()) * 4);
            assert_eq!(ours.total_length, u32::from(header.total_len()));
            assert_eq!(
                (ours.dont_fragment, ours.more_fragments),
                (header.dont_fragment(), header.more_fragments())
            );
        }
        NetSlice::Ipv6(slice) => {
            let header = slice.header();
            assert_eq!(ours.source, IpAddr::V6(header.source_addr()));
            assert_eq!(ours.destination, IpAddr::V6(header.destination_addr()));
            assert_eq!((ours.ttl, ours.protocol), (header.hop_limit(), header.next_header().0));
            assert_eq!(ours.traffic_class, header.traffic_class());
            assert_eq!(ours.total_length, u32::from(header.payload_length()) + 40);
        }
        NetSlice::Arp(_) => panic!("no ARP was generated"),
    }
}

fn check_tcp(ours: &Tcp, theirs: &TcpSlice<'_>) {
    assert_eq!((ours.source_port, ours.destination_port), (theirs.source_port(), theirs.destination_port()));
    assert_eq!((ours.seq, ours.ack), (theirs.sequence_number(), theirs.acknowledgment_number()));
    assert_eq!(ours.window, theirs.window_size());
    let flags =
        [theirs.fin(), theirs.syn(), theirs.rst(), theirs.psh(), theirs.ack(), theirs.urg(), theirs.ece()];
    let flags =
        flags.iter().chain([&theirs.cwr()]).enumerate().map(|(bit, &set)| u8::from(set) << bit).sum::<u8>();
    assert_eq!(ours.flags, flags);
    let mut timestamps = None;
    let mut sack = Vec::new();
    for option in theirs.options_iterator().flatten() {
        match option {
            TcpOptionElement::Timestamp(value, echo) => timestamps = Some((value, echo)),
            TcpOptionElement::SelectiveAcknowledgement(first, more) => {
                sack = [first].into_iter().chain(more.into_iter().flatten()).collect();
            }
            _ => {}
        }
    }
    assert_eq!(ours.timestamps, timestamps);
    assert_eq!(ours.sack[..usize::from(ours.sack_count)], sack);
}

/// Compares the innermost packet and returns its payload as etherparse sees it.
fn check<'a>(out: &Decoded, theirs: &SlicedPacket<'a>) -> &'a [u8] {
    check_network(&out.network.expect("IP"), theirs.net.as_ref().expect("IP"));
    let payload = match (&out.transport, theirs.transport.as_ref().expect("a transport")) {
        (Transport::Tcp(ours), TransportSlice::Tcp(slice)) => {
            check_tcp(ours, slice);
            slice.payload()
        }
        (Transport::Udp(ours), TransportSlice::Udp(slice)) => {
            let ports = (slice.source_port(), slice.destination_port());
            assert_eq!((ours.source_port, ours.destination_port), ports);
            slice.payload()
        }
        (Transport::Icmp(ours), TransportSlice::Icmpv4(slice)) => {
            let [a, b, c, d] = slice.bytes5to8();
            assert_eq!((ours.kind, ours.code), (slice.type_u8(), slice.code_u8()));
            assert_eq!((ours.id, ours.seq), (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])));
            slice.payload()
        }
        (Transport::Icmp(ours), TransportSlice::Icmpv6(slice)) => {
            let [a, b, c, d] = slice.bytes5to8();
            assert_eq!((ours.kind, ours.code), (slice.type_u8(), slice.code_u8()));
            assert_eq!((ours.id, ours.seq), (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])));
            slice.payload()
        }
        (ours, theirs) => panic!("ours {ours:?}, etherparse {theirs:?}"),
    };
    assert_eq!(out.payload.length as usize, payload.len());
    payload
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn generated_packets_agree_with_etherparse(packet in any_packet(), padding in 0_usize..20) {
        let mut frame = build(&packet);
        frame.resize(frame.len() + padding, 0x55);
        let theirs = SlicedPacket::from_ethernet(&frame).expect("etherparse reads what it wrote");
        let ours = decoded(&frame).expect("a valid frame");
        prop_assert_eq!(ours.payload.of(&frame), check(&ours, &theirs));
        let vlans: Vec<u16> = ours.vlans().iter().map(|tag| tag.id).collect();
        let their_vlans: Vec<u16> = theirs.vlan_ids().iter().map(|id| id.value()).collect();
        prop_assert_eq!(vlans, their_vlans);
    }

    #[test]
    fn generated_tunnels_agree_with_etherparse_at_both_levels(
        mut outer in any_packet(),
        inner in any_packet(),
        vni in 0_u32..(1 << 24),
    ) {
        outer.transport = Payload::Udp(40000, 4789);
        outer.bytes = vxlan(vni, &build(&inner));
        let frame = build(&outer);
        let ours = decoded(&frame).expect("a valid frame");

        let outer_slices = SlicedPacket::from_ethernet(&frame).expect("etherparse reads what it wrote");
        let [tunnel] = ours.encapsulations() else { panic!("one tunnel") };
        prop_assert_eq!(tunnel.id, vni);
        check_network(&tunnel.carrier, outer_slices.net.as_ref().expect("IP"));

        let Some(TransportSlice::Udp(udp)) = &outer_slices.transport else { panic!("UDP") };
        let inner_slices = SlicedPacket::from_ethernet(&udp.payload()[8..]).expect("an inner frame");
        prop_assert_eq!(ours.payload.of(&frame), check(&ours, &inner_slices));
    }

    #[test]
    fn a_raw_packet_is_the_frame_without_its_link_header(packet in any_packet()) {
        let frame = build(&Packet { vlan: Vlan::None, ..packet });
        let (mut framed, mut raw) = (Decoded::default(), Decoded::default());
        let config = DecodeConfig::default();
        decode(&config, LinkType::Ethernet, &frame, frame.len() as u32, &mut framed).expect("a valid frame");
        decode(&config, LinkType::Raw, &frame[14..], frame.len() as u32 - 14, &mut raw).expect("a valid packet");
        prop_assert_eq!(framed.transport, raw.transport);
        prop_assert_eq!(framed.payload.of(&frame), raw.payload.of(&frame[14..]));
    }
}
