//! IPv4 (RFC 791) and IPv6 with its extension headers (RFC 8200).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::cursor::{Cursor, be16, be32};
use crate::decode::Next;
use crate::decoded::{Decoded, Network};
use crate::error::{DecodeError, Layer, Reason};

/// Most extension headers that are followed.
const MAX_EXTENSIONS: usize = 12;
/// RFC 8200 §4.7.
const NO_NEXT_HEADER: u8 = 59;

#[inline]
pub(crate) fn v4(cursor: &mut Cursor<'_>, out: &mut Decoded) -> Result<Next, DecodeError> {
    let h = cursor.peek::<20>(Layer::Ipv4)?;
    let header_length = usize::from(h[0] & 0x0f) * 4;
    if h[0] >> 4 != 4 {
        return Err(cursor.error(Layer::Ipv4, Reason::Version));
    }
    if header_length < 20 {
        return Err(cursor.error(Layer::Ipv4, Reason::HeaderLength));
    }
    cursor.peek_slice(header_length, Layer::Ipv4)?;
    let total_length = v4_total_length(cursor, be16(h[2], h[3]), header_length)?;
    let fragment = be16(h[6], h[7]);
    let network = Network {
        source: IpAddr::V4(Ipv4Addr::from_octets([h[12], h[13], h[14], h[15]])),
        destination: IpAddr::V4(Ipv4Addr::from_octets([h[16], h[17], h[18], h[19]])),
        offset: cursor.offset() as u32,
        total_length: total_length as u32,
        identification: u32::from(be16(h[4], h[5])),
        header_length: header_length as u16,
        fragment_offset: (fragment & 0x1fff) << 3,
        protocol: h[9],
        ttl: h[8],
        traffic_class: h[1],
        dont_fragment: fragment & 0x4000 != 0,
        more_fragments: fragment & 0x2000 != 0,
    };
    cursor.advance(header_length);
    Ok(finish(network, cursor, out))
}

/// Total length 0 is what segmentation offload leaves of a length that does not fit 16 bits: the frame's length
/// decides then.
#[inline]
fn v4_total_length(cursor: &mut Cursor<'_>, field: u16, header_length: usize) -> Result<usize, DecodeError> {
    let total_length = if field == 0 { cursor.wire_rest() } else { usize::from(field) };
    if total_length < header_length || !cursor.narrow(total_length) {
        return Err(cursor.error(Layer::Ipv4, Reason::Length));
    }
    Ok(total_length)
}

#[inline]
pub(crate) fn v6(cursor: &mut Cursor<'_>, out: &mut Decoded) -> Result<Next, DecodeError> {
    let h = cursor.peek::<40>(Layer::Ipv6)?;
    if h[0] >> 4 != 6 {
        return Err(cursor.error(Layer::Ipv6, Reason::Version));
    }
    let mut network = Network {
        source: IpAddr::V6(v6_address(h, 8)),
        destination: IpAddr::V6(v6_address(h, 24)),
        offset: cursor.offset() as u32,
        header_length: 40,
        protocol: h[6],
        ttl: h[7],
        traffic_class: (h[0] << 4) | (h[1] >> 4),
        ..Network::UNSPECIFIED
    };
    let payload_length = usize::from(be16(h[4], h[5]));
    let start = *cursor;
    cursor.advance(40);
    let payload_length = match payload_length {
        0 => v6_length_without_field(cursor, h[6])?,
        length => length,
    };
    if !cursor.narrow(payload_length) {
        return Err(start.error(Layer::Ipv6, Reason::Length));
    }
    network.total_length = u32::try_from(40 + payload_length).unwrap_or(u32::MAX);
    out.network = Some(network);
    extensions(cursor, &mut network).inspect_err(|_| out.network = Some(network))?;
    Ok(finish(network, cursor, out))
}

/// Sixteen address bytes of a header that is long enough.
#[inline]
pub(crate) fn v6_address(header: &[u8], at: usize) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&header[at..at + 16]);
    Ipv6Addr::from_octets(octets)
}

/// Payload length 0: a jumbogram (RFC 2675), or a super-packet of newer kernels, which leave the option out. The
/// frame's length decides then.
fn v6_length_without_field(cursor: &Cursor<'_>, next_header: u8) -> Result<usize, DecodeError> {
    match next_header {
        NO_NEXT_HEADER => Ok(0),
        0 => match cursor.peek::<8>(Layer::Ipv6Extension)? {
            [_, _, 0xc2, 4, a, b, c, d] => Ok(u32::from_be_bytes([*a, *b, *c, *d]) as usize),
            _ => Ok(cursor.wire_rest()),
        },
        _ => Ok(cursor.wire_rest()),
    }
}

/// Walks extension headers up to the transport, or up to the end of what a later fragment shows.
#[inline]
fn extensions(cursor: &mut Cursor<'_>, network: &mut Network) -> Result<(), DecodeError> {
    for _ in 0..MAX_EXTENSIONS {
        match network.protocol {
            // Hop-by-hop, routing, destination options, mobility, HIP, Shim6: all of the layout of RFC 6564.
            0 | 43 | 60 | 135 | 139 | 140 => {
                let header = cursor.peek::<2>(Layer::Ipv6Extension)?;
                let length = (usize::from(header[1]) + 1) * 8;
                cursor.skip(length, Layer::Ipv6Extension)?;
                network.protocol = header[0];
                network.header_length += length as u16;
            }
            44 => {
                let header = cursor.take::<8>(Layer::Ipv6Extension)?;
                let field = be16(header[2], header[3]);
                network.protocol = header[0];
                network.header_length += 8;
                network.fragment_offset = field & 0xfff8;
                network.more_fragments = field & 1 != 0;
                network.identification = be32(header, 4);
                if network.fragment_offset != 0 {
                    return Ok(());
                }
            }
            _ => return Ok(()),
        }
    }
    Err(cursor.error(Layer::Ipv6Extension, Reason::TooDeep))
}

/// A fragment that is not the first has no transport header; the first is the beginning of a longer datagram.
#[inline]
fn finish(network: Network, cursor: &mut Cursor<'_>, out: &mut Decoded) -> Next {
    let next = if network.fragment_offset != 0 { Next::Done } else { Next::Protocol(network.protocol) };
    if network.more_fragments && network.fragment_offset == 0 {
        cursor.open_end();
    }
    out.network = Some(network);
    next
}
