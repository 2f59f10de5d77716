//! Tunnels: headers behind which another frame or packet begins, or an encrypted one ends the view.

use crate::cursor::{Cursor, be16, be32};
use crate::decode::Next;
use crate::decoded::{Decoded, Encapsulation, Network, Opaque, Transport, Udp};
use crate::error::{DecodeError, Layer, Reason};
use crate::link::{LinkType, ethertype};
use crate::observation::OverlayKind;

/// The UDP ports of a carrier, zeroes for a tunnel straight over IP.
#[derive(Clone, Copy, Default)]
pub(crate) struct Carrier {
    source_port: u16,
    destination_port: u16,
}

impl From<Udp> for Carrier {
    fn from(udp: Udp) -> Self {
        Self { source_port: udp.source_port, destination_port: udp.destination_port }
    }
}

/// A tunnel by its UDP port. A datagram that does not begin with the tunnel's header stays plain UDP: a port number
/// alone proves nothing, and a sighting as UDP is worth more than none.
#[inline]
pub(crate) fn over_udp(
    kind: OverlayKind,
    carrier: Carrier,
    cursor: &mut Cursor<'_>,
    out: &mut Decoded,
) -> Result<Next, DecodeError> {
    match kind {
        OverlayKind::Vxlan => vxlan(cursor, out, carrier),
        OverlayKind::VxlanGpe => vxlan_gpe(cursor, out, carrier),
        OverlayKind::Geneve => geneve(cursor, out, carrier),
        OverlayKind::Mpls => mpls(cursor, out, carrier.source_port, carrier.destination_port),
        OverlayKind::WireGuard => wireguard(cursor, out, carrier),
        OverlayKind::Esp => esp_in_udp(cursor, out, carrier),
        OverlayKind::None | OverlayKind::Gre | OverlayKind::IpInIp | OverlayKind::Ah => Ok(Next::Done),
    }
}

/// The header of a tunnel, before it is entered.
struct Tunnel {
    kind: OverlayKind,
    id: u32,
    sequence: u32,
    ports: Carrier,
    layer: Layer,
}

/// Makes the packet read so far the carrier of `tunnel` and notes where the inside begins. Labels and nested headers
/// without an IP header of their own are carried by what carries the tunnel around them.
#[inline]
fn enter(tunnel: &Tunnel, inside: Next, cursor: &Cursor<'_>, out: &mut Decoded) -> Result<Next, DecodeError> {
    let around = || out.innermost_encapsulation().map_or(Network::UNSPECIFIED, |outer| outer.carrier);
    let encapsulation = Encapsulation {
        kind: tunnel.kind,
        id: tunnel.id,
        sequence: tunnel.sequence,
        source_port: tunnel.ports.source_port,
        destination_port: tunnel.ports.destination_port,
        carrier: out.network.unwrap_or_else(around),
    };
    if !out.enter_tunnel(encapsulation) {
        return Err(cursor.error(tunnel.layer, Reason::TooDeep));
    }
    Ok(begin_inside(inside, cursor, out))
}

/// Notes where the innermost frame begins.
#[inline]
fn begin_inside(inside: Next, cursor: &Cursor<'_>, out: &mut Decoded) -> Next {
    let inside = if matches!(inside, Next::EtherType(ethertype::TEB)) { Next::Ethernet } else { inside };
    out.inner_frame_offset = cursor.offset() as u32;
    out.inner_frame_link = if matches!(inside, Next::Ethernet) { LinkType::Ethernet } else { LinkType::Raw };
    inside
}

/// RFC 7348 §5. Without the I flag it is no VXLAN header.
#[inline]
fn vxlan(cursor: &mut Cursor<'_>, out: &mut Decoded, ports: Carrier) -> Result<Next, DecodeError> {
    let h = cursor.peek::<8>(Layer::Vxlan)?;
    if h[0] & 0x08 == 0 {
        return Ok(Next::Done);
    }
    cursor.advance(8);
    let tunnel =
        Tunnel { kind: OverlayKind::Vxlan, id: be32(h, 4) >> 8, sequence: 0, ports, layer: Layer::Vxlan };
    enter(&tunnel, Next::Ethernet, cursor, out)
}

/// draft-ietf-nvo3-vxlan-gpe §3: VXLAN with a next protocol where the P flag is set.
fn vxlan_gpe(cursor: &mut Cursor<'_>, out: &mut Decoded, ports: Carrier) -> Result<Next, DecodeError> {
    let h = cursor.peek::<8>(Layer::Vxlan)?;
    if h[0] & 0x08 == 0 {
        return Ok(Next::Done);
    }
    cursor.advance(8);
    let inside = if h[0] & 0x04 == 0 { Next::Ethernet } else { by_next_protocol(h[3]) };
    let tunnel =
        Tunnel { kind: OverlayKind::VxlanGpe, id: be32(h, 4) >> 8, sequence: 0, ports, layer: Layer::Vxlan };
    enter(&tunnel, inside, cursor, out)
}

/// The next-protocol registry that VXLAN-GPE and NSH share, RFC 8300 §11.2.5.
const fn by_next_protocol(value: u8) -> Next {
    match value {
        1 => Next::EtherType(ethertype::IPV4),
        2 => Next::EtherType(ethertype::IPV6),
        3 => Next::Ethernet,
        4 => Next::Nsh,
        5 => Next::EtherType(ethertype::MPLS),
        _ => Next::Done,
    }
}

/// RFC 8300 §2. A service header inside a tunnel, no tunnel of its own.
pub(crate) fn nsh(cursor: &mut Cursor<'_>, out: &mut Decoded) -> Result<Next, DecodeError> {
    let h = cursor.peek::<8>(Layer::Nsh)?;
    let length = usize::from(h[1] & 0x3f) * 4;
    if h[0] >> 6 != 0 {
        return Err(cursor.error(Layer::Nsh, Reason::Version));
    }
    if length < 8 {
        return Err(cursor.error(Layer::Nsh, Reason::HeaderLength));
    }
    let inside = by_next_protocol(h[3]);
    cursor.skip(length, Layer::Nsh)?;
    Ok(begin_inside(inside, cursor, out))
}

/// RFC 8926 §3.4. Options are skipped whole.
fn geneve(cursor: &mut Cursor<'_>, out: &mut Decoded, ports: Carrier) -> Result<Next, DecodeError> {
    let h = cursor.peek::<8>(Layer::Geneve)?;
    if h[0] >> 6 != 0 {
        return Ok(Next::Done);
    }
    cursor.skip(8 + usize::from(h[0] & 0x3f) * 4, Layer::Geneve)?;
    let tunnel =
        Tunnel { kind: OverlayKind::Geneve, id: be32(h, 4) >> 8, sequence: 0, ports, layer: Layer::Geneve };
    enter(&tunnel, Next::EtherType(be16(h[2], h[3])), cursor, out)
}

/// RFC 2784 with key and sequence of RFC 2890, and version 1 of RFC 2637 as an opaque tunnel.
pub(crate) fn gre(cursor: &mut Cursor<'_>, out: &mut Decoded) -> Result<Next, DecodeError> {
    const CHECKSUM_OR_ROUTING: u8 = 0xc0;
    const ROUTING: u8 = 0x40;
    const KEY: u8 = 0x20;
    const SEQUENCE: u8 = 0x10;

    let h = cursor.peek::<4>(Layer::Gre)?;
    let field = |bit: u8, length: usize| if h[0] & bit == 0 { 0 } else { length };
    let key_at = 4 + field(CHECKSUM_OR_ROUTING, 4);
    let sequence_at = key_at + field(KEY, 4);
    let length = sequence_at + field(SEQUENCE, 4);
    let version = h[1] & 0x07;
    // Source routing (RFC 1701) is a list of unbounded length that RFC 2784 §2.4 tells receivers to discard.
    if version > 1 || h[0] & ROUTING != 0 {
        let reason = if version > 1 { Reason::Version } else { Reason::Field };
        return Err(cursor.error(Layer::Gre, reason));
    }
    let header = cursor.peek_slice(length, Layer::Gre)?;
    let value = |at: usize, end: usize| if at == end { 0 } else { be32(header, at) };
    let (id, sequence) = (value(key_at, sequence_at), value(sequence_at, length));
    cursor.advance(length);
    if version == 1 {
        let opaque = Opaque {
            kind: OverlayKind::Gre,
            index: id & 0xffff,
            sequence: sequence.into(),
            ..Opaque::default()
        };
        out.transport = Transport::Opaque(opaque);
        return Ok(Next::Done);
    }
    let inside = gre_inside(be16(h[2], h[3]), cursor)?;
    let tunnel =
        Tunnel { kind: OverlayKind::Gre, id, sequence, ports: Carrier::default(), layer: Layer::Gre };
    enter(&tunnel, inside, cursor, out)
}

/// Cisco metadata inside GRE begins with the type of what follows, unlike the same shim behind Ethernet.
fn gre_inside(protocol_type: u16, cursor: &mut Cursor<'_>) -> Result<Next, DecodeError> {
    if protocol_type != ethertype::CISCO_METADATA {
        return Ok(Next::EtherType(protocol_type));
    }
    let shim = cursor.take::<8>(Layer::CiscoMetadata)?;
    Ok(Next::EtherType(be16(shim[0], shim[1])))
}

/// RFC 2003, RFC 4213 and RFC 2473.
pub(crate) fn ip_in_ip(cursor: &Cursor<'_>, out: &mut Decoded, inside: u16) -> Result<Next, DecodeError> {
    let layer = if inside == ethertype::IPV4 { Layer::Ipv4 } else { Layer::Ipv6 };
    let tunnel = Tunnel { kind: OverlayKind::IpInIp, id: 0, sequence: 0, ports: Carrier::default(), layer };
    enter(&tunnel, Next::EtherType(inside), cursor, out)
}

/// RFC 3032 label stack. The bottom label names the tunnel. What follows is told by its first nibble, as RFC 4928 and
/// RFC 4385 have it: IP, or a control word before an Ethernet pseudowire. Anything else cannot be told apart.
pub(crate) fn mpls(
    cursor: &mut Cursor<'_>,
    out: &mut Decoded,
    source_port: u16,
    destination_port: u16,
) -> Result<Next, DecodeError> {
    let id = loop {
        let entry = u32::from_be_bytes(*cursor.peek::<4>(Layer::Mpls)?);
        if !out.push_label(entry >> 12) {
            return Err(cursor.error(Layer::Mpls, Reason::TooDeep));
        }
        cursor.advance(4);
        if entry & 0x100 != 0 {
            break entry >> 12;
        }
    };
    let inside = match cursor.peek::<1>(Layer::Mpls)?[0] >> 4 {
        4 => Next::EtherType(ethertype::IPV4),
        6 => Next::EtherType(ethertype::IPV6),
        0 => {
            cursor.skip(4, Layer::Mpls)?;
            Next::Ethernet
        }
        _ => Next::Done,
    };
    let ports = Carrier { source_port, destination_port };
    enter(
        &Tunnel { kind: OverlayKind::Mpls, id, sequence: 0, ports, layer: Layer::Mpls },
        inside,
        cursor,
        out,
    )
}

/// RFC 4302. Authenticates and does not hide: in transport mode what follows is this packet's own transport, so its
/// IP header stays the innermost one and is the carrier as well.
pub(crate) fn ah(cursor: &mut Cursor<'_>, out: &mut Decoded) -> Result<Next, DecodeError> {
    let h = cursor.peek::<12>(Layer::Ah)?;
    let length = (usize::from(h[1]) + 2) * 4;
    if length < 12 {
        return Err(cursor.error(Layer::Ah, Reason::HeaderLength));
    }
    cursor.skip(length, Layer::Ah)?;
    let packet = out.network;
    let tunnel = Tunnel {
        kind: OverlayKind::Ah,
        id: be32(h, 4),
        sequence: be32(h, 8),
        ports: Carrier::default(),
        layer: Layer::Ah,
    };
    let (offset, link) = (out.inner_frame_offset, out.inner_frame_link);
    let next = enter(&tunnel, Next::Protocol(h[0]), cursor, out)?;
    // The frame that shows this packet to a filter is still the one around the IP header.
    (out.inner_frame_offset, out.inner_frame_link) = (offset, link);
    out.network = packet.map(|packet| Network {
        protocol: h[0],
        header_length: packet.header_length.saturating_add(length as u16),
        ..packet
    });
    Ok(next)
}

/// RFC 4303 §2: SPI and sequence number in the clear.
pub(crate) fn esp(cursor: &mut Cursor<'_>, out: &mut Decoded, ports: Carrier) -> Result<Next, DecodeError> {
    let h = cursor.take::<8>(Layer::Esp)?;
    out.transport = Transport::Opaque(Opaque {
        kind: OverlayKind::Esp,
        index: be32(h, 0),
        sequence: be32(h, 4).into(),
        source_port: ports.source_port,
        destination_port: ports.destination_port,
    });
    Ok(Next::Done)
}

/// RFC 3948 §2: SPI 0 marks a key exchange message and a single byte is a keepalive, both plain UDP.
fn esp_in_udp(cursor: &mut Cursor<'_>, out: &mut Decoded, ports: Carrier) -> Result<Next, DecodeError> {
    if !cursor.holds(8) || cursor.peek::<4>(Layer::Esp)? == &[0; 4] {
        return Ok(Next::Done);
    }
    esp(cursor, out, ports)
}

/// Bytes of a `WireGuard` header up to the end of a data message's counter.
pub(crate) const WIREGUARD_HEADER: usize = 16;

fn wireguard(cursor: &mut Cursor<'_>, out: &mut Decoded, ports: Carrier) -> Result<Next, DecodeError> {
    if !cursor.holds(WIREGUARD_HEADER) {
        return Ok(Next::Done);
    }
    let h = cursor.peek::<WIREGUARD_HEADER>(Layer::WireGuard)?;
    let Some((index, sequence)) = wireguard_index(h) else { return Ok(Next::Done) };
    cursor.advance(WIREGUARD_HEADER);
    out.transport = Transport::Opaque(Opaque {
        kind: OverlayKind::WireGuard,
        index,
        sequence,
        source_port: ports.source_port,
        destination_port: ports.destination_port,
    });
    Ok(Next::Done)
}

/// The `WireGuard` protocol paper, §5.4: type, three zero bytes, then by type sender or receiver index and counter,
/// all little-endian. None for anything else.
pub(crate) fn wireguard_index(h: &[u8; WIREGUARD_HEADER]) -> Option<(u32, u64)> {
    let word = |at: usize| u32::from_le_bytes([h[at], h[at + 1], h[at + 2], h[at + 3]]);
    match word(0) {
        1 | 3 => Some((word(4), 0)),
        2 => Some((word(8), 0)),
        4 => Some((word(4), u64::from(word(8)) | (u64::from(word(12)) << 32))),
        _ => None,
    }
}
