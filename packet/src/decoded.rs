//! What a frame turned out to be: every layer that was read, flat and without heap.

use std::net::{IpAddr, Ipv4Addr};

use crate::link::LinkType;
use crate::observation::OverlayKind;

/// Most nested tunnels that are decoded.
pub const MAX_ENCAPSULATIONS: usize = 6;
/// Most VLAN tags over all levels.
pub const MAX_VLANS: usize = 8;
/// Most MPLS labels over all levels.
pub const MAX_LABELS: usize = 16;
/// Most SACK blocks a TCP header has room for, RFC 2018 §3.
pub const MAX_SACK_BLOCKS: usize = 4;

/// An IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Source address; its variant is the IP version.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Where the header starts, in bytes from the start of the frame.
    pub offset: u32,
    /// Header and payload in bytes, from the header or, where it says 0 (super-packets), from the frame's length.
    pub total_length: u32,
    /// Identification: 16 bits in IPv4, 32 in an IPv6 fragment header, 0 without one.
    pub identification: u32,
    /// Header in bytes, options and extension headers included.
    pub header_length: u16,
    /// Offset of this fragment in its datagram, in bytes.
    pub fragment_offset: u16,
    /// IANA protocol number behind all extension headers.
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// DSCP (upper six bits) and ECN (lower two).
    pub traffic_class: u8,
    /// IPv4 do-not-fragment.
    pub dont_fragment: bool,
    /// More fragments follow this one.
    pub more_fragments: bool,
}

impl Network {
    pub(crate) const UNSPECIFIED: Self = Self {
        source: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        destination: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        offset: 0,
        total_length: 0,
        identification: 0,
        header_length: 0,
        fragment_offset: 0,
        protocol: 0,
        ttl: 0,
        traffic_class: 0,
        dont_fragment: false,
        more_fragments: false,
    };

    /// True for a header of RFC 791.
    #[inline]
    pub const fn is_ipv4(&self) -> bool {
        self.source.is_ipv4()
    }

    /// True for every fragment of a datagram, the first included.
    #[inline]
    pub const fn is_fragment(&self) -> bool {
        self.more_fragments || self.fragment_offset != 0
    }
}

/// One tunnel around the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encapsulation {
    /// Which tunnel protocol.
    pub kind: OverlayKind,
    /// VNI, key, bottom label or SPI, as [`OverlayKind`] says.
    pub id: u32,
    /// GRE or AH sequence number, 0 without one.
    pub sequence: u32,
    /// UDP source port of the carrier, 0 for tunnels that have none.
    pub source_port: u16,
    /// UDP destination port of the carrier, 0 for tunnels that have none.
    pub destination_port: u16,
    /// The IP header that carries the tunnel. For labels straight on a link there is none: addresses unspecified.
    pub carrier: Network,
}

/// A VLAN tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VlanTag {
    /// How many tunnels are around the Ethernet header that the tag belongs to.
    pub level: u8,
    /// VLAN identifier, 12 bits.
    pub id: u16,
}

/// An ARP message for IPv4 over Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// 1 request, 2 reply.
    pub operation: u16,
    /// Sender protocol address.
    pub sender: Ipv4Addr,
    /// Target protocol address.
    pub target: Ipv4Addr,
}

impl Default for Arp {
    fn default() -> Self {
        Self { operation: 0, sender: Ipv4Addr::UNSPECIFIED, target: Ipv4Addr::UNSPECIFIED }
    }
}

/// A TCP header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tcp {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// The low eight flag bits, CWR to FIN.
    pub flags: u8,
    /// Blocks in `sack`.
    pub sack_count: u8,
    /// Window as sent, unscaled.
    pub window: u16,
    /// `TSval` and `TSecr`, RFC 7323.
    pub timestamps: Option<(u32, u32)>,
    /// Left and right edges, RFC 2018.
    pub sack: [(u32, u32); MAX_SACK_BLOCKS],
}

/// A UDP header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Udp {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
}

/// An `ICMPv4` or `ICMPv6` header; the protocol of [`Network`] tells which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Identifier of an echo request or reply.
    pub id: u16,
    /// Sequence number of an echo request or reply.
    pub seq: u16,
    /// Echo request or reply of either version.
    pub is_echo: bool,
    /// What an error message quotes.
    pub embedded: Option<Embedded>,
}

/// The packet that an ICMP error quotes, as far as it is quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// IANA protocol number. For IPv6 the first next-header value; extension headers are not followed.
    pub protocol: u8,
    /// IPv4 identification, 0 for IPv6.
    pub ip_id: u16,
    /// Total length of the quoted packet in bytes, as its header says.
    pub total_length: u16,
    /// First eight bytes behind the IP header and how many of them are quoted.
    pub transport: [u8; 8],
    /// Valid bytes in `transport`.
    pub transport_length: u8,
}

/// An SCTP common header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sctp {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Verification tag.
    pub verification_tag: u32,
}

/// A tunnel whose inside cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opaque {
    /// `WireGuard`, `Esp` or `Gre` (version 1, PPTP).
    pub kind: OverlayKind,
    /// Receiver index, SPI or call id. For a `WireGuard` initiation the sender index.
    pub index: u32,
    /// ESP sequence number, `WireGuard` counter or GRE sequence number, 0 for messages without one.
    pub sequence: u64,
    /// UDP source port of the carrier, 0 for tunnels that have none.
    pub source_port: u16,
    /// UDP destination port of the carrier, 0 for tunnels that have none.
    pub destination_port: u16,
}

/// The innermost transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// None read: no IP, a fragment that is not the first, or a protocol that is not decoded.
    #[default]
    None,
    /// TCP, RFC 9293.
    Tcp(Tcp),
    /// UDP, RFC 768.
    Udp(Udp),
    /// ICMP, RFC 792 and RFC 4443.
    Icmp(Icmp),
    /// SCTP, RFC 9260.
    Sctp(Sctp),
    /// An encrypted tunnel.
    Opaque(Opaque),
}

/// What the innermost header that was read carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    /// Where it starts, in bytes from the start of the frame.
    pub offset: u32,
    /// Bytes of it in the frame. Link-layer padding is not counted.
    pub captured: u32,
    /// Bytes of it on the wire.
    pub length: u32,
}

impl Payload {
    /// Its bytes in `frame`, which must be the frame that was decoded; empty for another, shorter one.
    #[inline]
    pub fn of<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        let start = self.offset as usize;
        frame.get(start..start + self.captured as usize).unwrap_or_default()
    }
}

/// A decoded frame. Reused from frame to frame: decoding overwrites it.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The innermost IP header. None where the inside of the innermost tunnel, or of the frame, is not IP.
    pub network: Option<Network>,
    /// The innermost transport.
    pub transport: Transport,
    /// An ARP message in place of an IP header.
    pub arp: Option<Arp>,
    /// What the innermost header carries.
    pub payload: Payload,
    /// Length of the frame on the wire, in bytes.
    pub original_length: u32,
    /// Where the innermost frame starts: 0 for a frame without tunnels, else the byte behind the innermost tunnel
    /// header. A filter that speaks of the inner packet runs on the bytes from here.
    pub inner_frame_offset: u32,
    /// What the bytes at `inner_frame_offset` are.
    pub inner_frame_link: LinkType,
    encapsulations: [Encapsulation; MAX_ENCAPSULATIONS],
    vlans: [VlanTag; MAX_VLANS],
    labels: [u32; MAX_LABELS],
    encapsulation_count: u8,
    vlan_count: u8,
    label_count: u8,
}

impl Default for Decoded {
    fn default() -> Self {
        const NO_TUNNEL: Encapsulation = Encapsulation {
            kind: OverlayKind::None,
            id: 0,
            sequence: 0,
            source_port: 0,
            destination_port: 0,
            carrier: Network::UNSPECIFIED,
        };
        Self {
            network: None,
            transport: Transport::None,
            arp: None,
            payload: Payload::default(),
            original_length: 0,
            inner_frame_offset: 0,
            inner_frame_link: LinkType::Ethernet,
            encapsulations: [NO_TUNNEL; MAX_ENCAPSULATIONS],
            vlans: [VlanTag::default(); MAX_VLANS],
            labels: [0; MAX_LABELS],
            encapsulation_count: 0,
            vlan_count: 0,
            label_count: 0,
        }
    }
}

impl Decoded {
    /// The tunnels around the packet, outermost first.
    #[inline]
    pub fn encapsulations(&self) -> &[Encapsulation] {
        &self.encapsulations[..self.encapsulation_count as usize]
    }

    /// The innermost tunnel.
    #[inline]
    pub fn innermost_encapsulation(&self) -> Option<&Encapsulation> {
        self.encapsulations().last()
    }

    /// VLAN tags of all levels, outermost first.
    pub fn vlans(&self) -> &[VlanTag] {
        &self.vlans[..self.vlan_count as usize]
    }

    /// MPLS labels of all levels, outermost first.
    pub fn labels(&self) -> &[u32] {
        &self.labels[..self.label_count as usize]
    }

    /// True when the packet, itself in no tunnel, is a fragment, not the first, of something that carries or may carry
    /// one: GRE, IP in IP, MPLS, ESP and AH by their protocol number, and UDP, since the port that would tell is in the
    /// first fragment only.
    pub fn may_be_carrier_fragment(&self) -> bool {
        self.encapsulation_count == 0
            && self.network.is_some_and(|network| {
                network.fragment_offset != 0 && matches!(network.protocol, 4 | 17 | 41 | 47 | 50 | 51 | 137)
            })
    }

    #[inline]
    pub(crate) fn reset(&mut self, original_length: u32, link: LinkType) {
        self.network = None;
        self.transport = Transport::None;
        self.arp = None;
        self.payload = Payload::default();
        self.original_length = original_length;
        self.inner_frame_offset = 0;
        self.inner_frame_link = link;
        self.encapsulation_count = 0;
        self.vlan_count = 0;
        self.label_count = 0;
    }

    /// How many tunnels are around the layer being decoded.
    #[inline]
    pub(crate) fn level(&self) -> u8 {
        self.encapsulation_count
    }

    /// The packet read so far becomes the carrier of a tunnel. False when the tunnels are nested too deeply.
    #[inline]
    #[must_use]
    pub(crate) fn enter_tunnel(&mut self, tunnel: Encapsulation) -> bool {
        let Some(slot) = self.encapsulations.get_mut(self.encapsulation_count as usize) else { return false };
        *slot = tunnel;
        self.encapsulation_count += 1;
        self.network = None;
        self.transport = Transport::None;
        true
    }

    #[must_use]
    pub(crate) fn push_vlan(&mut self, tag: VlanTag) -> bool {
        let Some(slot) = self.vlans.get_mut(self.vlan_count as usize) else { return false };
        *slot = tag;
        self.vlan_count += 1;
        true
    }

    #[must_use]
    pub(crate) fn push_label(&mut self, label: u32) -> bool {
        let Some(slot) = self.labels.get_mut(self.label_count as usize) else { return false };
        *slot = label;
        self.label_count += 1;
        true
    }
}
