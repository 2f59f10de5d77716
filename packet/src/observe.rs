//! From a decoded frame to rows of a batch.

use std::net::IpAddr;

use crate::datagrams::Datagrams;
use crate::decoded::{Decoded, Encapsulation, Network, Opaque, Tcp, Transport};
use crate::identity::{IdentityKey, TransportHash, transport_hash};
use crate::observation::{FlowKey, Observation, Overlay, gso, marks};

/// Offload fields of `struct virtio_net_hdr` that came with the frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gso {
    /// `gso_type`: one of [`gso`], with or without the ECN and UDP-tunnel bits; [`gso::UNKNOWN`] where the backend
    /// cannot say.
    pub kind: u8,
    /// `gso_size`: payload bytes per segment.
    pub size: u16,
}

impl Gso {
    /// What a backend without `PACKET_VNET_HDR` knows.
    pub const UNKNOWN: Self = Self { kind: gso::UNKNOWN, size: 0 };

    /// The type without `VIRTIO_NET_HDR_GSO_ECN` (0x80) and `VIRTIO_NET_HDR_GSO_UDP_TUNNEL_*` (0x20, 0x40), which do
    /// not change how it is segmented.
    fn masked_kind(self) -> u8 {
        if self.kind == gso::UNKNOWN { gso::UNKNOWN } else { self.kind & 0x1f }
    }
}

/// How a frame was captured.
#[derive(Clone, Copy, Debug)]
pub struct Capture {
    /// Receive stamp, nanoseconds since 1970.
    pub time_nanos: i64,
    /// Offload fields of the frame.
    pub gso: Gso,
}

/// Why a decoded frame gives no row. Callers count each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unobserved {
    /// An ARP message, bare or inside a tunnel.
    #[error("ARP, no IP packet")]
    Arp,
    /// Another protocol than IP straight on the link.
    #[error("no IP packet")]
    NotIp,
    /// A tunnel that carries another protocol than IP.
    #[error("tunnel without an IP packet inside")]
    TunnelNotIp,
}

/// Hands one row to `emit` for a decoded packet, or one per datagram for a UDP super-packet. `frame` is the frame that
/// was decoded.
///
/// - The flow is that of the innermost packet, within the innermost tunnel.
/// - An opaque tunnel gives a flow of its carrier's addresses and ports, with the tunnel's kind and index as overlay
///   and the low half of its sequence number in `tcp_seq`.
/// - AH hides nothing: the flow is the packet's own and the overlay says AH.
/// - A fragment that is not the first and may belong to a tunnel's carrier ([`Decoded::may_be_carrier_fragment`]) is
///   marked `OUTER_FRAGMENT`, with its identification in both `ip_id` and `outer_ip_id`. For UDP that is a
///   possibility: it is a tunnel's if a first fragment with the same addresses and identification was.
pub fn observe(
    decoded: &Decoded,
    frame: &[u8],
    capture: Capture,
    key: &IdentityKey,
    emit: &mut impl FnMut(&FlowKey, Observation),
) -> Result<(), Unobserved> {
    let Some(network) = &decoded.network else { return Err(unobserved(decoded)) };
    let flow = flow_key(decoded, network);
    let mut row = base_row(decoded, network, capture);
    if row.gso_type == gso::UDP_L4
        && let Some(datagrams) = Datagrams::of(decoded, frame, row.gso_size)
    {
        datagrams.each(&flow, &row, key, emit);
        return Ok(());
    }
    set_hash(&mut row, transport_hash(key, decoded, frame));
    emit(&flow, row);
    Ok(())
}

#[cold]
fn unobserved(decoded: &Decoded) -> Unobserved {
    match (decoded.arp, decoded.encapsulations()) {
        (Some(_), _) => Unobserved::Arp,
        (None, []) => Unobserved::NotIp,
        (None, _) => Unobserved::TunnelNotIp,
    }
}

#[inline]
pub(crate) fn flow_key(decoded: &Decoded, network: &Network) -> FlowKey {
    let (source_port, destination_port) = match &decoded.transport {
        Transport::None => (0, 0),
        Transport::Tcp(tcp) => (tcp.source_port, tcp.destination_port),
        Transport::Udp(udp) => (udp.source_port, udp.destination_port),
        Transport::Sctp(sctp) => (sctp.source_port, sctp.destination_port),
        Transport::Icmp(icmp) => (0, u16::from_be_bytes([icmp.kind, icmp.code])),
        Transport::Opaque(opaque) => (opaque.source_port, opaque.destination_port),
    };
    let overlay = match &decoded.transport {
        Transport::Opaque(opaque) => Some(opaque_overlay(opaque, network)),
        _ => decoded.innermost_encapsulation().map(overlay),
    };
    FlowKey {
        overlay,
        source: network.source,
        destination: network.destination,
        protocol: network.protocol,
        source_port,
        destination_port,
    }
}

#[inline]
fn overlay(tunnel: &Encapsulation) -> Overlay {
    Overlay {
        kind: tunnel.kind,
        id: tunnel.id,
        source: tunnel.carrier.source,
        destination: tunnel.carrier.destination,
        port: tunnel.destination_port,
    }
}

fn opaque_overlay(opaque: &Opaque, network: &Network) -> Overlay {
    Overlay {
        kind: opaque.kind,
        id: opaque.index,
        source: network.source,
        destination: network.destination,
        port: opaque.destination_port,
    }
}

/// Everything of a row but the hash.
#[inline]
fn base_row(decoded: &Decoded, network: &Network, capture: Capture) -> Observation {
    let mut row = Observation {
        time_nanos: capture.time_nanos,
        ip_length: network.total_length,
        payload_length: decoded.payload.length,
        fragment_offset: network.fragment_offset,
        ip_id: network.identification as u16,
        gso_size: capture.gso.size,
        gso_type: capture.gso.masked_kind(),
        ttl: network.ttl,
        traffic_class: network.traffic_class,
        marks: network_marks(network),
        ..Observation::default()
    };
    if let Some(tunnel) = decoded.innermost_encapsulation() {
        mark_carrier(&mut row, &tunnel.carrier);
        // Of nested carriers the outermost is the one whose later fragments show nothing of the others.
        if tunnel.carrier.is_fragment() && decoded.encapsulations().len() == 1 {
            row.outer_fragment_length = bytes_of_datagram(&tunnel.carrier);
        }
    } else if decoded.may_be_carrier_fragment() {
        mark_carrier(&mut row, network);
        row.marks |= marks::OUTER_FRAGMENT;
    }
    match &decoded.transport {
        Transport::Tcp(tcp) => put_tcp(&mut row, tcp),
        Transport::Opaque(opaque) => {
            row.tcp_seq = opaque.sequence as u32;
            mark_carrier(&mut row, network);
        }
        _ => {}
    }
    row
}

#[inline]
fn network_marks(network: &Network) -> u8 {
    let mark = |set: bool, bit: u8| if set { bit } else { 0 };
    mark(network.is_ipv4(), marks::IPV4)
        | mark(network.more_fragments, marks::MORE_FRAGMENTS)
        | mark(network.dont_fragment, marks::DONT_FRAGMENT)
}

#[inline]
fn mark_carrier(row: &mut Observation, carrier: &Network) {
    match carrier.source {
        IpAddr::V4(source) if !source.is_unspecified() => {
            row.outer_ip_id = carrier.identification as u16;
            row.marks |= marks::OUTER_IPV4;
        }
        // Labels straight on a link have no carrier and leave its addresses unspecified.
        IpAddr::V4(_) => {}
        IpAddr::V6(_) => {
            row.outer_ip_id = carrier.identification as u16;
            row.outer_ip_id_high = (carrier.identification >> 16) as u16;
        }
    }
}

/// Bytes of its datagram that a fragment carries.
#[cold]
fn bytes_of_datagram(fragment: &Network) -> u16 {
    let length = fragment.total_length.saturating_sub(u32::from(fragment.header_length));
    u16::try_from(length).unwrap_or(u16::MAX)
}

#[inline]
fn put_tcp(row: &mut Observation, tcp: &Tcp) {
    row.tcp_flags = tcp.flags;
    row.tcp_window = tcp.window;
    row.tcp_seq = tcp.seq;
    row.tcp_ack = tcp.ack;
    if let Some((value, echo)) = tcp.timestamps {
        (row.ts_value, row.ts_echo) = (value, echo);
        row.marks |= marks::TCP_TIMESTAMPS;
    }
    if tcp.sack_count != 0 {
        (row.sack_left, row.sack_right) = tcp.sack[0];
    }
}

#[inline]
pub(crate) fn set_hash(row: &mut Observation, hash: TransportHash) {
    row.transport_hash = hash.value;
    if hash.truncated {
        row.marks |= marks::HASH_TRUNCATED;
    }
}
