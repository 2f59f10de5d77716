//! Packets as points on the way capture them.

use std::net::Ipv4Addr;

use etherparse::{
    EtherType, Ethernet2Header, IcmpEchoHeader, Icmpv4Type, IpFragOffset, IpHeaders, IpNumber, Ipv4Header,
    PacketBuilder, SingleVlanHeader, TcpOptionElement, UdpHeader, VlanId, VlanPcp,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::case::{Carriage, Case, Service};
use super::cast::Cast;
use super::traffic::{Content, Packet};

/// Time to live at each point of the way.
const TTL: [u8; 6] = [64, 63, 63, 63, 63, 62];
/// The tag on tagged underlays.
const VLAN: u16 = 120;
/// A Geneve option of class 0x0104 (Antrea's), type 0x80, one word of data: RFC 8926 §3.5.
const GENEVE_OPTION: [u8; 8] = [0x01, 0x04, 0x80, 0x01, 0, 0, 0, 7];

/// Source and destination with their ports.
type Tuple = ((Ipv4Addr, u16), (Ipv4Addr, u16));

/// True for devices without a link layer.
pub(super) fn is_raw(case: &Case, interface: &str) -> bool {
    interface == case.device() && matches!(case.carriage, Carriage::IpInIp | Carriage::WireGuard)
}

/// The tuple a packet has at a point of its way. The first node translates between its pod and its tunnel device.
pub(super) fn tuple(case: &Case, cast: &Cast, packet: &Packet, hop: usize) -> Tuple {
    let has_ports = !matches!(packet.content, Content::Echo(_));
    let [here, there] = [0, 1].map(|node| (cast.pods[node], if has_ports { cast.ports[node] } else { 0 }));
    let service = (*cast.service.ip(), cast.service.port());
    let is_service = case.service != Service::None && has_ports;
    let is_before = if packet.from == 0 { hop == 0 } else { hop == 5 };
    let outer = if case.service == Service::BothWays && is_service && !is_before {
        (cast.own(0), cast.port_on_node)
    } else {
        here
    };
    let inner = if is_service && is_before { service } else { there };
    if packet.from == 0 { (outer, inner) } else { (inner, outer) }
}

/// The frame that the point at `hop` of the packet's way captures. `number` tells packets apart.
pub(super) fn frame(case: &Case, cast: &Cast, packet: &Packet, hop: usize, number: u64) -> Vec<u8> {
    let inner = ip_packet(case, cast, packet, hop);
    let (from, to) = (packet.from, 1 - packet.from);
    let mac = |node: usize, device: u8| [2, 0, 0, 0, node as u8 + 1, device];
    match hop {
        0 => ethernet(mac(from, 100), mac(from, 4), &inner),
        5 => ethernet(mac(to, 4), mac(to, 100), &inner),
        1 | 4 if is_raw(case, case.device()) => inner,
        1 | 4 => ethernet(mac(from, 3), mac(to, 3), &inner),
        _ => {
            let inner_frame = ethernet(mac(from, 3), mac(to, 3), &inner);
            let outer = carried(case, cast, from, &inner, &inner_frame, number);
            let tagged = case.carriage == Carriage::TaggedVxlan;
            let (type_, outer) = if tagged { tag(&outer) } else { (EtherType::IPV4, outer) };
            link(mac(from, 2), mac(to, 2), type_, &outer)
        }
    }
}

fn ip_packet(case: &Case, cast: &Cast, packet: &Packet, hop: usize) -> Vec<u8> {
    let ((source, source_port), (destination, destination_port)) = tuple(case, cast, packet, hop);
    let header = Ipv4Header {
        identification: packet.ip_id,
        dont_fragment: true,
        fragment_offset: IpFragOffset::ZERO,
        time_to_live: TTL[hop],
        source: source.octets(),
        destination: destination.octets(),
        ..Ipv4Header::default()
    };
    let builder = PacketBuilder::ip(IpHeaders::Ipv4(header, etherparse::Ipv4Extensions::default()));
    let mut bytes = Vec::new();
    let written = match &packet.content {
        Content::Datagram(payload) => builder.udp(source_port, destination_port).write(&mut bytes, payload),
        Content::Echo(seq) => {
            let echo = IcmpEchoHeader { id: 77, seq: *seq };
            let kind =
                if packet.from == 0 { Icmpv4Type::EchoRequest(echo) } else { Icmpv4Type::EchoReply(echo) };
            builder.icmpv4(kind).write(&mut bytes, &[7; 56])
        }
        Content::Segment(segment) => {
            let stamps = [
                TcpOptionElement::Noop,
                TcpOptionElement::Noop,
                TcpOptionElement::Timestamp(segment.stamps.0, segment.stamps.1),
            ];
            let tcp = builder.tcp(source_port, destination_port, segment.seq, 64_000);
            let tcp = tcp.options(&stamps).expect("twelve bytes fit");
            let tcp = if segment.is_syn { tcp.syn() } else { tcp };
            let tcp = if let Some(ack) = segment.ack { tcp.ack(ack) } else { tcp };
            tcp.write(&mut bytes, &vec![0x2a; segment.length])
        }
    };
    written.expect("a packet of the size of an Ethernet frame");
    bytes
}

/// The packet between the nodes.
fn carried(case: &Case, cast: &Cast, from: usize, packet: &[u8], frame: &[u8], number: u64) -> Vec<u8> {
    let vni = (cast.tunnel_id << 8).to_be_bytes();
    let over_udp = |port: u16, payload: &[u8]| {
        let source_port = if case.carriage == Carriage::WireGuard { port } else { 50_000 + from as u16 };
        let header = UdpHeader {
            source_port,
            destination_port: port,
            length: (8 + payload.len()) as u16,
            checksum: 0,
        };
        outer(cast, from, number, IpNumber::UDP, &[&header.to_bytes(), payload].concat())
    };
    match case.carriage {
        Carriage::Geneve => {
            let header = [2, 0, 0x65, 0x58];
            over_udp(6081, &[&header[..], &vni, &GENEVE_OPTION, frame].concat())
        }
        Carriage::Vxlan | Carriage::TaggedVxlan => over_udp(8472, &[&[8, 0, 0, 0][..], &vni, frame].concat()),
        Carriage::IpInIp => outer(cast, from, number, IpNumber::IPV4, packet),
        Carriage::WireGuard => over_udp(51_820, &encrypted(cast, from, packet, number)),
    }
}

/// A transport data message: type, receiver index, counter, and as many bytes as the padded packet and its tag have.
fn encrypted(cast: &Cast, from: usize, packet: &[u8], number: u64) -> Vec<u8> {
    let receiver = cast.tunnel_id + from as u32;
    let mut random = StdRng::seed_from_u64(number);
    let mut hidden = vec![0_u8; packet.len().next_multiple_of(16) + 16];
    random.fill(&mut hidden[..]);
    [&[4, 0, 0, 0][..], &receiver.to_le_bytes(), &number.to_le_bytes(), &hidden].concat()
}

fn outer(cast: &Cast, from: usize, number: u64, protocol: IpNumber, payload: &[u8]) -> Vec<u8> {
    let mut header = Ipv4Header {
        identification: number as u16 ^ 0x2d2d,
        time_to_live: 64,
        protocol,
        source: cast.underlay[from].octets(),
        destination: cast.underlay[1 - from].octets(),
        ..Ipv4Header::default()
    };
    header.set_payload_len(payload.len()).expect("a packet of the size of an Ethernet frame");
    header.header_checksum = header.calc_header_checksum();
    [&header.to_bytes()[..], payload].concat()
}

fn tag(packet: &[u8]) -> (EtherType, Vec<u8>) {
    let header = SingleVlanHeader {
        pcp: VlanPcp::ZERO,
        drop_eligible_indicator: false,
        vlan_id: VlanId::try_new(VLAN).expect("twelve bits"),
        ether_type: EtherType::IPV4,
    };
    (EtherType::VLAN_TAGGED_FRAME, [&header.to_bytes()[..], packet].concat())
}

fn ethernet(source: [u8; 6], destination: [u8; 6], packet: &[u8]) -> Vec<u8> {
    link(source, destination, EtherType::IPV4, packet)
}

fn link(source: [u8; 6], destination: [u8; 6], ether_type: EtherType, payload: &[u8]) -> Vec<u8> {
    let header = Ethernet2Header { source, destination, ether_type };
    [&header.to_bytes()[..], payload].concat()
}
