//! What an IP header carries: transports, and tunnels told by protocol number or UDP port.

use std::net::IpAddr;

use crate::config::DecodeConfig;
use crate::cursor::{Cursor, be16, be32};
use crate::decode::Next;
use crate::decoded::{Decoded, Embedded, Icmp, MAX_SACK_BLOCKS, Sctp, Tcp, Transport, Udp};
use crate::error::{DecodeError, Layer, Reason};
use crate::ip::v6_address;
use crate::link::ethertype;
use crate::observation::{OverlayKind, protocol as ip_protocol};
use crate::tunnel::{self, Carrier};

/// Reads the header of `protocol`. A protocol that is not decoded ends the walk: its bytes are payload.
#[inline]
pub(crate) fn read(
    protocol: u8,
    config: &DecodeConfig,
    cursor: &mut Cursor<'_>,
    out: &mut Decoded,
) -> Result<Next, DecodeError> {
    match protocol {
        ip_protocol::TCP => tcp(cursor, out),
        ip_protocol::UDP => udp(config, cursor, out),
        ip_protocol::ICMP | ip_protocol::ICMPV6 => icmp(protocol, cursor, out),
        ip_protocol::SCTP => sctp(cursor, out),
        4 => tunnel::ip_in_ip(cursor, out, ethertype::IPV4),
        41 => tunnel::ip_in_ip(cursor, out, ethertype::IPV6),
        47 => tunnel::gre(cursor, out),
        50 => tunnel::esp(cursor, out, Carrier::default()),
        51 => tunnel::ah(cursor, out),
        137 => tunnel::mpls(cursor, out, 0, 0),
        _ => Ok(Next::Done),
    }
}

/// RFC 9293 §3.1. Options that contradict themselves end the list, as in `tcp_parse_options` of
/// `net/ipv4/tcp_input.c`: the segment is as valid without them.
#[inline]
fn tcp(cursor: &mut Cursor<'_>, out: &mut Decoded) -> Result<Next, DecodeError> {
    let h = cursor.peek::<20>(Layer::Tcp)?;
    let header_length = usize::from(h[12] >> 4) * 4;
    let mut tcp = Tcp {
        source_port: be16(h[0], h[1]),
        destination_port: be16(h[2], h[3]),
        seq: be32(h, 4),
        ack: be32(h, 8),
        flags: h[13],
        window: be16(h[14], h[15]),
        ..Tcp::default()
    };
    if header_length < 20 {
        return Err(cursor.error(Layer::Tcp, Reason::HeaderLength));
    }
    let header = cursor.peek_slice(header_length, Layer::Tcp)?;
    tcp_options(&header[20..], &mut tcp);
    out.transport = Transport::Tcp(tcp);
    cursor.advance(header_length);
    Ok(Next::Done)
}

/// Option kinds: 0 end, 1 padding, 5 SACK, 8 timestamps.
#[inline]
fn tcp_options(mut options: &[u8], tcp: &mut Tcp) {
    // The layout that nearly every segment of an established connection has.
    if let [1, 1, 8, 10, timestamps @ ..] = options
        && timestamps.len() == 8
    {
        tcp.timestamps = Some((be32(timestamps, 0), be32(timestamps, 4)));
        return;
    }
    while let [kind, rest @ ..] = options {
        options = match kind {
            0 => return,
            1 => rest,
            _ => {
                let Some(&length) = rest.first() else { return };
                let Some((option, rest)) = options.split_at_checked(usize::from(length).max(2)) else {
                    return;
                };
                tcp_option(option, tcp);
                rest
            }
        };
    }
}

fn tcp_option(option: &[u8], tcp: &mut Tcp) {
    match option {
        [8, 10, values @ ..] if values.len() == 8 => {
            tcp.timestamps = Some((be32(values, 0), be32(values, 4)));
        }
        [5, _, blocks @ ..] if blocks.len() % 8 == 0 => {
            // A second option, which no sender should add, replaces the first.
            (tcp.sack, tcp.sack_count) = ([(0, 0); MAX_SACK_BLOCKS], 0);
            for (block, slot) in blocks.chunks_exact(8).take(MAX_SACK_BLOCKS).zip(&mut tcp.sack) {
                *slot = (be32(block, 0), be32(block, 4));
                tcp.sack_count += 1;
            }
        }
        _ => {}
    }
}

/// RFC 768. Length 0 stands for a length that does not fit 16 bits (RFC 2675 §4, and super-packets).
#[inline]
fn udp(config: &DecodeConfig, cursor: &mut Cursor<'_>, out: &mut Decoded) -> Result<Next, DecodeError> {
    let h = cursor.peek::<8>(Layer::Udp)?;
    let udp = Udp { source_port: be16(h[0], h[1]), destination_port: be16(h[2], h[3]) };
    let length = usize::from(be16(h[4], h[5]));
    if length != 0 && (length < 8 || !cursor.narrow(length)) {
        return Err(cursor.error(Layer::Udp, Reason::Length));
    }
    out.transport = Transport::Udp(udp);
    cursor.advance(8);
    match config.kind(udp.destination_port) {
        OverlayKind::None => Ok(Next::Done),
        kind => tunnel::over_udp(kind, Carrier::from(udp), cursor, out),
    }
}

/// RFC 792 and RFC 4443: eight bytes, of which the last four depend on the type.
fn icmp(protocol: u8, cursor: &mut Cursor<'_>, out: &mut Decoded) -> Result<Next, DecodeError> {
    let h = cursor.peek::<8>(Layer::Icmp)?;
    let is_v6 = protocol == ip_protocol::ICMPV6;
    let is_echo = if is_v6 { matches!(h[0], 128 | 129) } else { matches!(h[0], 0 | 8) };
    let is_error = if is_v6 { (1..=4).contains(&h[0]) } else { matches!(h[0], 3 | 4 | 5 | 11 | 12) };
    let mut icmp = Icmp { kind: h[0], code: h[1], is_echo, ..Icmp::default() };
    if is_echo {
        icmp.id = be16(h[4], h[5]);
        icmp.seq = be16(h[6], h[7]);
    }
    cursor.advance(8);
    if is_error {
        icmp.embedded = embedded(cursor.rest());
    }
    out.transport = Transport::Icmp(icmp);
    Ok(Next::Done)
}

/// The quoted packet: its sender decides how much of it there is, so what is missing is no error.
fn embedded(quote: &[u8]) -> Option<Embedded> {
    let (header_length, mut embedded) = match quote.first()? >> 4 {
        4 => embedded_v4(quote.first_chunk()?),
        6 => embedded_v6(quote.first_chunk()?),
        _ => return None,
    };
    let rest = quote.get(header_length..).unwrap_or_default();
    let quoted = rest.len().min(embedded.transport.len());
    embedded.transport[..quoted].copy_from_slice(&rest[..quoted]);
    embedded.transport_length = quoted as u8;
    Some(embedded)
}

fn embedded_v4(h: &[u8; 20]) -> (usize, Embedded) {
    let embedded = Embedded {
        source: IpAddr::from([h[12], h[13], h[14], h[15]]),
        destination: IpAddr::from([h[16], h[17], h[18], h[19]]),
        protocol: h[9],
        ip_id: be16(h[4], h[5]),
        total_length: be16(h[2], h[3]),
        transport: [0; 8],
        transport_length: 0,
    };
    (usize::from(h[0] & 0x0f).max(5) * 4, embedded)
}

fn embedded_v6(h: &[u8; 40]) -> (usize, Embedded) {
    let embedded = Embedded {
        source: IpAddr::V6(v6_address(h, 8)),
        destination: IpAddr::V6(v6_address(h, 24)),
        protocol: h[6],
        ip_id: 0,
        total_length: be16(h[4], h[5]).saturating_add(40),
        transport: [0; 8],
        transport_length: 0,
    };
    (40, embedded)
}

/// RFC 9260 §3.1.
fn sctp(cursor: &mut Cursor<'_>, out: &mut Decoded) -> Result<Next, DecodeError> {
    let h = cursor.take::<12>(Layer::Sctp)?;
    out.transport = Transport::Sctp(Sctp {
        source_port: be16(h[0], h[1]),
        destination_port: be16(h[2], h[3]),
        verification_tag: be32(h, 4),
    });
    Ok(Next::Done)
}
