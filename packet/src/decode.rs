//! The walk from the outermost header to the innermost.

use crate::config::DecodeConfig;
use crate::cursor::Cursor;
use crate::decoded::{Decoded, Network, Payload};
use crate::error::{DecodeError, Layer};
use crate::link::{self, LinkType, ethertype};
use crate::{ip, transport, tunnel};

/// What the next bytes are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Next {
    /// One of the link types that are not Ethernet.
    Link(LinkType),
    Ethernet,
    EtherType(u16),
    /// IPv4 or IPv6, told by the version nibble.
    Ip,
    /// IP payload by protocol number.
    Protocol(u8),
    Nsh,
    /// The rest is payload.
    Done,
}

/// Reads every layer of `frame` into `out`.
///
/// `frame` holds the captured bytes, `original_length` is the frame's length on the wire in bytes; a value below
/// `frame.len()` counts as `frame.len()`. What is no IP (ARP, spanning tree, control protocols) is no error:
/// `out.network` stays empty. On error `out` keeps the layers read before the one that failed.
pub fn decode(
    config: &DecodeConfig,
    link: LinkType,
    frame: &[u8],
    original_length: u32,
    out: &mut Decoded,
) -> Result<(), DecodeError> {
    out.reset(original_length.max(frame.len() as u32), link);
    let mut cursor = Cursor::new(frame, original_length);
    let walked = walk(config, link.first(), &mut cursor, out);
    out.payload = payload(&cursor, out.network.as_ref());
    walked
}

/// What lies behind the last header. A fragment carries the part of its datagram that its own IP header counts.
#[inline]
fn payload(cursor: &Cursor<'_>, network: Option<&Network>) -> Payload {
    let offset = cursor.offset() as u32;
    let length = match network {
        Some(network) if network.is_fragment() => {
            network.offset.saturating_add(network.total_length).saturating_sub(offset)
        }
        _ => cursor.wire_rest() as u32,
    };
    Payload { offset, captured: cursor.rest().len() as u32, length }
}

/// Every step consumes at least one byte or ends the walk, so it terminates.
#[inline]
fn walk(
    config: &DecodeConfig,
    first: Next,
    cursor: &mut Cursor<'_>,
    out: &mut Decoded,
) -> Result<(), DecodeError> {
    let mut next = first;
    loop {
        next = match next {
            Next::Ethernet => link::ethernet(cursor)?,
            Next::EtherType(ethertype::IPV4) => ip::v4(cursor, out)?,
            Next::EtherType(ethertype::IPV6) => ip::v6(cursor, out)?,
            Next::Protocol(protocol) => transport::read(protocol, config, cursor, out)?,
            Next::EtherType(other) => by_ethertype(other, cursor, out)?,
            Next::Ip => ip_by_version(cursor)?,
            Next::Link(link) => link::other(link, cursor)?,
            Next::Nsh => tunnel::nsh(cursor, out)?,
            Next::Done => return Ok(()),
        };
    }
}

fn by_ethertype(value: u16, cursor: &mut Cursor<'_>, out: &mut Decoded) -> Result<Next, DecodeError> {
    match value {
        ethertype::VLAN | ethertype::SERVICE_VLAN | ethertype::OLD_QINQ => link::vlan(cursor, out),
        ethertype::ARP => link::arp(cursor, out),
        ethertype::MPLS | ethertype::MPLS_UPSTREAM => tunnel::mpls(cursor, out, 0, 0),
        ethertype::TEB => Ok(Next::Ethernet),
        ethertype::NSH => Ok(Next::Nsh),
        ethertype::CISCO_METADATA => link::cisco_metadata(cursor),
        _ => Ok(Next::Done),
    }
}

fn ip_by_version(cursor: &Cursor<'_>) -> Result<Next, DecodeError> {
    let version = cursor.peek::<1>(Layer::Ipv4)?[0] >> 4;
    Ok(Next::EtherType(if version == 6 { ethertype::IPV6 } else { ethertype::IPV4 }))
}
