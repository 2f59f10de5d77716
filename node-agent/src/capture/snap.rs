//! The classic BPF program that decides, per packet, how many bytes a ring keeps.
//!
//! The return value of a socket filter is the captured length (`net/packet/af_packet.c`, `tpacket_rcv`). Packets
//! up to the MTU keep the snap length. A UDP super-packet is kept whole, because each of its datagrams is identified
//! by a hash of its own payload; a TCP super-packet needs only its headers, inside a tunnel too.

use lastseen_packet::LinkType;
use lastseen_packet::observation::protocol;

use super::assembler::{
    AND, Instruction, JEQ, JGT, LD_LENGTH, LDB_ABS, LDB_IND, LDH_ABS, LDH_IND, LDX_IMM, RET, SHIFT_LEFT,
    Step, TO_X, assemble,
};
use super::backend::Direction;

/// More than any packet is long.
const WHOLE: u32 = 0x0004_0000;
/// `PACKET_OUTGOING`, `include/uapi/linux/if_packet.h`.
const PACKET_OUTGOING: u32 = 4;
/// `SKF_AD_OFF + SKF_AD_PKTTYPE`: loads `skb->pkt_type`.
const PACKET_TYPE: u32 = 0xffff_f000 + 4;

const ETHERTYPE_IPV4: u32 = 0x0800;
const ETHERTYPE_IPV6: u32 = 0x86dd;
const IPV4_HEADER: u32 = 20;
const IPV6_HEADER: u32 = 40;
const UDP_HEADER: u32 = 8;
const ETHERNET_HEADER: u32 = 14;
/// VXLAN, and Geneve without options.
const TUNNEL_HEADER: u32 = 8;
/// Room for one VLAN tag in a frame that is no super-packet.
const VLAN_TAG: u32 = 4;

/// RFC 791: what every IPv4 host accepts. Longer than all headers the program reads.
const SHORTEST_MTU: u32 = 576;
/// UDP ports of VXLAN and Geneve, whose inner header the program looks into.
const VXLAN_PORTS: [u32; 2] = [4789, 8472];
const GENEVE_PORT: u32 = 6081;

/// Where a conditional jump of an unfinished program goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Label {
    /// Nowhere: the next instruction.
    Next,
    Plain,
    Whole,
    Drop,
    Size,
    Ipv6,
    Vxlan,
    Geneve,
    Inner,
    InnerIpv6,
}

/// The program for a point whose frames start with `link`, on an interface with `mtu`.
pub(crate) fn program(link: LinkType, mtu: u32, snap_length: u32, direction: Direction) -> Vec<Instruction> {
    use Label::{Drop, Next, Plain, Size, Whole};
    let header = if link == LinkType::Ethernet { ETHERNET_HEADER } else { 0 };
    let (outgoing, incoming) = match direction {
        Direction::Out => (Size, Drop),
        Direction::In => (Drop, Size),
    };
    let mut steps = vec![
        Step::Do(LDB_ABS, PACKET_TYPE),
        Step::If(JEQ, PACKET_OUTGOING, outgoing, incoming),
        Step::At(Size),
        Step::Do(LD_LENGTH, 0),
        // A load behind the end of a packet would reject it, so short frames are never looked into.
        Step::If(JGT, mtu.max(SHORTEST_MTU).saturating_add(header + VLAN_TAG), Next, Plain),
    ];
    super_packet(header, &mut steps);
    steps.extend([
        Step::At(Plain),
        Step::Do(RET, snap_length),
        Step::At(Whole),
        Step::Do(RET, WHOLE),
        Step::At(Drop),
        Step::Do(RET, 0),
    ]);
    assemble(&steps)
}

/// Steps that tell UDP super-packets from TCP ones, also behind VXLAN and Geneve over IPv4 without options.
fn super_packet(header: u32, steps: &mut Vec<Step<Label>>) {
    use Label::{Ipv6, Next};
    // Without a link header the first byte tells the version.
    if header == 0 {
        steps.extend([Step::Do(LDB_ABS, 0), Step::Do(AND, 0xf0), Step::If(JEQ, 0x40, Next, Ipv6)]);
    } else {
        steps.extend([Step::Do(LDH_ABS, header - 2), Step::If(JEQ, ETHERTYPE_IPV4, Next, Ipv6)]);
    }
    outer_ipv4(header, steps);
    inner(header, steps);
    steps.push(Step::At(Ipv6));
    outer_ipv6(header, steps);
}

/// IPv4 outside: behind a tunnel's port the steps go on with the inner frame.
fn outer_ipv4(header: u32, steps: &mut Vec<Step<Label>>) {
    use Label::{Geneve, Inner, Next, Plain, Vxlan, Whole};
    let udp = header + IPV4_HEADER;
    steps.extend([
        Step::Do(LDB_ABS, header + 9),
        Step::If(JEQ, u32::from(protocol::UDP), Next, Plain),
        Step::Do(LDB_ABS, header),
        Step::If(JEQ, 0x45, Next, Whole),
        Step::Do(LDH_ABS, udp + 2),
        Step::If(JEQ, VXLAN_PORTS[0], Vxlan, Next),
        Step::If(JEQ, VXLAN_PORTS[1], Vxlan, Next),
        Step::If(JEQ, GENEVE_PORT, Geneve, Whole),
        Step::At(Geneve),
        // Option length in four-byte words, in the low six bits of the first byte.
        Step::Do(LDB_ABS, udp + UDP_HEADER),
        Step::Do(AND, 0x3f),
        Step::Do(SHIFT_LEFT, 2),
        Step::Do(TO_X, 0),
        Step::If(JEQ, u32::MAX, Inner, Inner),
        Step::At(Vxlan),
        Step::Do(LDX_IMM, 0),
        Step::At(Inner),
    ]);
}

/// The Ethernet frame behind a tunnel header of eight bytes; X holds the length of the options between them.
fn inner(header: u32, steps: &mut Vec<Step<Label>>) {
    use Label::{InnerIpv6, Next, Plain, Whole};
    let udp = u32::from(protocol::UDP);
    let inner = header + IPV4_HEADER + UDP_HEADER + TUNNEL_HEADER;
    steps.extend([
        Step::Do(LDH_IND, inner + 12),
        Step::If(JEQ, ETHERTYPE_IPV4, Next, InnerIpv6),
        Step::Do(LDB_IND, inner + ETHERNET_HEADER + 9),
        Step::If(JEQ, udp, Whole, Plain),
        Step::At(InnerIpv6),
        Step::If(JEQ, ETHERTYPE_IPV6, Next, Plain),
        Step::Do(LDB_IND, inner + ETHERNET_HEADER + 6),
        Step::If(JEQ, udp, Whole, Plain),
    ]);
}

/// IPv6 outside: a tunnel's ports mean a TCP super-packet far more often than a UDP one, so it keeps its headers.
fn outer_ipv6(header: u32, steps: &mut Vec<Step<Label>>) {
    use Label::{Next, Plain, Whole};
    let version = if header == 0 { 0x60 } else { ETHERTYPE_IPV6 };
    let port = header + IPV6_HEADER + 2;
    steps.extend([
        Step::If(JEQ, version, Next, Plain),
        Step::Do(LDB_ABS, header + 6),
        Step::If(JEQ, u32::from(protocol::UDP), Next, Plain),
        Step::Do(LDH_ABS, port),
        Step::If(JEQ, VXLAN_PORTS[0], Plain, Next),
        Step::If(JEQ, VXLAN_PORTS[1], Plain, Next),
        Step::If(JEQ, GENEVE_PORT, Plain, Whole),
    ]);
}
