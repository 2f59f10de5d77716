//! Why a frame could not be decoded to the end.

use std::fmt;

/// The header that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Layer {
    /// Ethernet II, IEEE 802.3.
    Ethernet,
    /// Linux cooked header, `LINKTYPE_LINUX_SLL` and `LINKTYPE_LINUX_SLL2`.
    LinuxCooked,
    /// BSD loopback header, `LINKTYPE_NULL` and `LINKTYPE_LOOP`.
    Loopback,
    /// PPP, RFC 1661.
    Ppp,
    /// 802.1Q or 802.1ad tag.
    Vlan,
    /// Cisco metadata shim, `EtherType` 0x8909.
    CiscoMetadata,
    /// ARP, RFC 826.
    Arp,
    /// IPv4, RFC 791.
    Ipv4,
    /// IPv6 base header, RFC 8200.
    Ipv6,
    /// IPv6 extension header, RFC 8200 §4.
    Ipv6Extension,
    /// TCP, RFC 9293.
    Tcp,
    /// UDP, RFC 768.
    Udp,
    /// `ICMPv4` or `ICMPv6`, RFC 792 and RFC 4443.
    Icmp,
    /// SCTP, RFC 9260.
    Sctp,
    /// VXLAN, RFC 7348, or VXLAN-GPE.
    Vxlan,
    /// Geneve, RFC 8926.
    Geneve,
    /// GRE, RFC 2784.
    Gre,
    /// NSH, RFC 8300.
    Nsh,
    /// MPLS label stack, RFC 3032.
    Mpls,
    /// `WireGuard`.
    WireGuard,
    /// ESP, RFC 4303.
    Esp,
    /// AH, RFC 4302.
    Ah,
}

impl Layer {
    /// The layer's name as it is written in messages and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ethernet => "ethernet",
            Self::LinuxCooked => "linux-cooked",
            Self::Loopback => "loopback",
            Self::Ppp => "ppp",
            Self::Vlan => "vlan",
            Self::CiscoMetadata => "cisco-metadata",
            Self::Arp => "arp",
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Ipv6Extension => "ipv6-extension",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Sctp => "sctp",
            Self::Vxlan => "vxlan",
            Self::Geneve => "geneve",
            Self::Gre => "gre",
            Self::Nsh => "nsh",
            Self::Mpls => "mpls",
            Self::WireGuard => "wireguard",
            Self::Esp => "esp",
            Self::Ah => "ah",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is wrong with the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
#[repr(u8)]
pub enum Reason {
    /// The header was on the wire, but the snap length or a fragment boundary cut it.
    #[error("cut off by the snap length or a fragment boundary")]
    Truncated,
    /// The enclosing layer ends before the header does: malformed on the wire.
    #[error("the enclosing layer is too short for it")]
    TooShort,
    /// The version field has another value than the layer requires.
    #[error("unexpected version")]
    Version,
    /// A header length field is below the minimum or does not fit its header.
    #[error("invalid header length")]
    HeaderLength,
    /// A total or payload length field contradicts the header or the enclosing layer.
    #[error("length field contradicts the enclosing layer")]
    Length,
    /// A field that must have one value has another.
    #[error("invalid field")]
    Field,
    /// More nested layers than are decoded.
    #[error("nested too deeply")]
    TooDeep,
}

impl Reason {
    /// The reason as one word, for metrics and counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::TooShort => "too-short",
            Self::Version => "version",
            Self::HeaderLength => "header-length",
            Self::Length => "length",
            Self::Field => "field",
            Self::TooDeep => "too-deep",
        }
    }
}

/// A frame could not be decoded to the end. What was decoded before stays in [`crate::Decoded`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{layer} header at byte {offset}: {reason}")]
pub struct DecodeError {
    /// The header that could not be read.
    pub layer: Layer,
    /// Where that header starts, in bytes from the start of the frame.
    pub offset: u32,
    /// What is wrong with it.
    pub reason: Reason,
}
