//! Link layers: from the capture's link type to the network layer's `EtherType`.

use crate::cursor::{Cursor, be16, be32};
use crate::decode::Next;
use crate::decoded::{Arp, Decoded, VlanTag};
use crate::error::{DecodeError, Layer, Reason};

/// `EtherType` values (IANA IEEE 802 numbers) that the decoder follows.
pub(crate) mod ethertype {
    pub(crate) const IPV4: u16 = 0x0800;
    pub(crate) const ARP: u16 = 0x0806;
    pub(crate) const TEB: u16 = 0x6558;
    pub(crate) const VLAN: u16 = 0x8100;
    pub(crate) const IPV6: u16 = 0x86dd;
    pub(crate) const MPLS: u16 = 0x8847;
    pub(crate) const MPLS_UPSTREAM: u16 = 0x8848;
    pub(crate) const SERVICE_VLAN: u16 = 0x88a8;
    pub(crate) const CISCO_METADATA: u16 = 0x8909;
    pub(crate) const NSH: u16 = 0x894f;
    pub(crate) const OLD_QINQ: u16 = 0x9100;
}

/// What the first bytes of a captured frame are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LinkType {
    /// Ethernet II with the destination address first.
    #[default]
    Ethernet,
    /// An IPv4 or IPv6 packet; the version nibble tells which.
    Raw,
    /// Four bytes of address family in the byte order of the capturing machine, then the packet.
    Null,
    /// As `Null`, in network byte order.
    Loop,
    /// Linux cooked capture, 16 bytes.
    LinuxSll,
    /// Linux cooked capture version 2, 20 bytes.
    LinuxSll2,
    /// An IPv4 packet.
    Ipv4,
    /// An IPv6 packet.
    Ipv6,
    /// PPP with or without the HDLC-like address and control bytes.
    Ppp,
}

impl LinkType {
    /// The link type with this number, absent if the decoder does not know it. Takes both the `LINKTYPE_` values of
    /// capture files and the `DLT_` values that libpcap returns (RAW is 101 in files, 12 on Linux, 14 on OpenBSD).
    /// The upper 16 bits, which in a capture file's header tell of frame check sequences, are ignored.
    pub const fn from_dlt(dlt: u32) -> Option<Self> {
        Some(match dlt & 0xffff {
            0 => Self::Null,
            1 => Self::Ethernet,
            9 => Self::Ppp,
            12 | 14 | 101 => Self::Raw,
            108 => Self::Loop,
            113 => Self::LinuxSll,
            228 => Self::Ipv4,
            229 => Self::Ipv6,
            276 => Self::LinuxSll2,
            _ => return None,
        })
    }

    /// The `LINKTYPE_` number for capture files.
    pub const fn dlt(self) -> u32 {
        match self {
            Self::Null => 0,
            Self::Ethernet => 1,
            Self::Ppp => 9,
            Self::Raw => 101,
            Self::Loop => 108,
            Self::LinuxSll => 113,
            Self::Ipv4 => 228,
            Self::Ipv6 => 229,
            Self::LinuxSll2 => 276,
        }
    }

    pub(crate) const fn first(self) -> Next {
        match self {
            Self::Ethernet => Next::Ethernet,
            Self::Raw => Next::Ip,
            Self::Ipv4 => Next::EtherType(ethertype::IPV4),
            Self::Ipv6 => Next::EtherType(ethertype::IPV6),
            Self::Null | Self::Loop | Self::LinuxSll | Self::LinuxSll2 | Self::Ppp => Next::Link(self),
        }
    }
}

/// Ethernet II. A length field in place of the `EtherType` (IEEE 802.3 with LLC) carries no IP.
#[inline]
pub(crate) fn ethernet(cursor: &mut Cursor<'_>) -> Result<Next, DecodeError> {
    let header = cursor.take::<14>(Layer::Ethernet)?;
    Ok(Next::EtherType(be16(header[12], header[13])))
}

pub(crate) fn other(link: LinkType, cursor: &mut Cursor<'_>) -> Result<Next, DecodeError> {
    match link {
        LinkType::LinuxSll => {
            let header = cursor.take::<16>(Layer::LinuxCooked)?;
            Ok(Next::EtherType(be16(header[14], header[15])))
        }
        LinkType::LinuxSll2 => {
            let header = cursor.take::<20>(Layer::LinuxCooked)?;
            Ok(Next::EtherType(be16(header[0], header[1])))
        }
        LinkType::Null | LinkType::Loop => loopback(cursor),
        LinkType::Ppp => ppp(cursor),
        LinkType::Ethernet | LinkType::Raw | LinkType::Ipv4 | LinkType::Ipv6 => Ok(link.first()),
    }
}

/// Address families are small, so the byte order shows: the wrong one gives a number above 65,535. IPv6 is 10 on
/// Linux, 24 on NetBSD and OpenBSD, 28 on FreeBSD, 30 on macOS.
fn loopback(cursor: &mut Cursor<'_>) -> Result<Next, DecodeError> {
    let header = cursor.take::<4>(Layer::Loopback)?;
    let big_endian = u32::from_be_bytes(*header);
    Ok(match big_endian.min(big_endian.swap_bytes()) {
        2 => Next::EtherType(ethertype::IPV4),
        10 | 24 | 28 | 30 => Next::EtherType(ethertype::IPV6),
        _ => Next::Done,
    })
}

/// RFC 1661 §2 with the address and control bytes of RFC 1662 §3.1 where present, and compressed protocol fields.
fn ppp(cursor: &mut Cursor<'_>) -> Result<Next, DecodeError> {
    if cursor.peek::<2>(Layer::Ppp)? == &[0xff, 0x03] {
        cursor.advance(2);
    }
    let protocol = match cursor.peek::<1>(Layer::Ppp)?[0] {
        odd if odd & 1 == 1 => {
            cursor.advance(1);
            u16::from(odd)
        }
        _ => u16::from_be_bytes(*cursor.take::<2>(Layer::Ppp)?),
    };
    Ok(match protocol {
        0x0021 => Next::EtherType(ethertype::IPV4),
        0x0057 => Next::EtherType(ethertype::IPV6),
        0x0281 => Next::EtherType(ethertype::MPLS),
        0x0283 => Next::EtherType(ethertype::MPLS_UPSTREAM),
        _ => Next::Done,
    })
}

/// One 802.1Q or 802.1ad tag.
pub(crate) fn vlan(cursor: &mut Cursor<'_>, out: &mut Decoded) -> Result<Next, DecodeError> {
    let header = *cursor.peek::<4>(Layer::Vlan)?;
    let id = be16(header[0], header[1]) & 0x0fff;
    if !out.push_vlan(VlanTag { level: out.level(), id }) {
        return Err(cursor.error(Layer::Vlan, Reason::TooDeep));
    }
    cursor.advance(4);
    Ok(Next::EtherType(be16(header[2], header[3])))
}

/// Cisco metadata (security group tag) between the MAC addresses and the packet: version, length, option, tag, type.
pub(crate) fn cisco_metadata(cursor: &mut Cursor<'_>) -> Result<Next, DecodeError> {
    let header = cursor.take::<8>(Layer::CiscoMetadata)?;
    Ok(Next::EtherType(be16(header[6], header[7])))
}

/// RFC 826 for IPv4 over six-byte hardware addresses; other combinations are named but not read.
pub(crate) fn arp(cursor: &mut Cursor<'_>, out: &mut Decoded) -> Result<Next, DecodeError> {
    let header = cursor.peek::<8>(Layer::Arp)?;
    let operation = be16(header[6], header[7]);
    let mut arp = Arp { operation, ..Arp::default() };
    if (header[2], header[3], header[4], header[5]) == (0x08, 0x00, 6, 4) {
        let body = cursor.peek::<28>(Layer::Arp)?;
        arp.sender = be32(body, 14).into();
        arp.target = be32(body, 24).into();
    }
    out.arp = Some(arp);
    Ok(Next::Done)
}
