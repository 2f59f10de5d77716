//! One sighting of one packet, kept as columns.
//!
//! A capture sees millions of packets and only a few thousand flows, so a batch stores each flow once in a
//! dictionary and every other fact as an array. Rows of one batch come from one observation point (node,
//! network namespace, interface, direction).

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr};

use siphasher::sip::SipHasher13;

/// IANA protocol numbers that the identity treats specially.
pub mod protocol {
    /// Internet Control Message Protocol for IPv4.
    pub const ICMP: u8 = 1;
    /// Transmission Control Protocol.
    pub const TCP: u8 = 6;
    /// User Datagram Protocol.
    pub const UDP: u8 = 17;
    /// Internet Control Message Protocol for IPv6.
    pub const ICMPV6: u8 = 58;
    /// Stream Control Transmission Protocol.
    pub const SCTP: u8 = 132;
}

/// How a packet was carried when it was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum OverlayKind {
    /// Not inside a tunnel at this point.
    #[default]
    None = 0,
    /// VXLAN, RFC 7348. The id is the 24-bit VNI.
    Vxlan = 1,
    /// VXLAN-GPE, draft-ietf-nvo3-vxlan-gpe. The id is the 24-bit VNI.
    VxlanGpe = 2,
    /// Geneve, RFC 8926. The id is the 24-bit VNI.
    Geneve = 3,
    /// GRE, RFC 2784 and RFC 2890. The id is the key, or 0 without one.
    Gre = 4,
    /// IPv4 in IPv4, RFC 2003; IPv6 in IPv4, RFC 4213; and both in IPv6, RFC 2473. No id.
    IpInIp = 5,
    /// MPLS, RFC 3032. The id is the bottom label.
    Mpls = 6,
    /// `WireGuard`. The id is the receiver index. The inside is opaque.
    WireGuard = 7,
    /// ESP, RFC 4303. The id is the SPI. The inside is opaque.
    Esp = 8,
    /// AH, RFC 4302. The id is the SPI. The inside is readable.
    Ah = 9,
}

impl OverlayKind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::None,
        Self::Vxlan,
        Self::VxlanGpe,
        Self::Geneve,
        Self::Gre,
        Self::IpInIp,
        Self::Mpls,
        Self::WireGuard,
        Self::Esp,
        Self::Ah,
    ];

    /// Lower-case name, `vxlan-gpe`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Vxlan => "vxlan",
            Self::VxlanGpe => "vxlan-gpe",
            Self::Geneve => "geneve",
            Self::Gre => "gre",
            Self::IpInIp => "ip-in-ip",
            Self::Mpls => "mpls",
            Self::WireGuard => "wireguard",
            Self::Esp => "esp",
            Self::Ah => "ah",
        }
    }

    /// The kind with this [`name`](Self::name).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// The innermost tunnel around a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Overlay {
    /// Which tunnel protocol.
    pub kind: OverlayKind,
    /// VNI, key, label, SPI or index, as `kind` says.
    pub id: u32,
    /// Source address of the packet that carries the tunnel header.
    pub source: IpAddr,
    /// Destination address of the packet that carries the tunnel header.
    pub destination: IpAddr,
    /// UDP destination port of the tunnel, 0 for tunnels that have none. The source port is flow entropy
    /// and no identity, so it is left out.
    pub port: u16,
}

/// The 5-tuple of the innermost readable packet and the tunnel around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowKey {
    /// The innermost tunnel, absent where the packet was seen bare.
    pub overlay: Option<Overlay>,
    /// Inner source address.
    pub source: IpAddr,
    /// Inner destination address.
    pub destination: IpAddr,
    /// IANA protocol number of the innermost transport.
    pub protocol: u8,
    /// Transport source port. 0 where there is none, and for every fragment but the first.
    pub source_port: u16,
    /// Transport destination port. For ICMP `type << 8 | code`, as IPFIX element 32 (icmpTypeCodeIPv4).
    pub destination_port: u16,
}

impl FlowKey {
    /// A key of zeroes, for rows that are about to be filled.
    pub const UNSPECIFIED: Self = Self {
        overlay: None,
        source: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        destination: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        protocol: 0,
        source_port: 0,
        destination_port: 0,
    };
}

/// TCP flag bits, RFC 9293 §3.1.
pub mod tcp_flags {
    /// No more data from sender.
    pub const FIN: u8 = 0x01;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push function.
    pub const PSH: u8 = 0x08;
    /// Acknowledgment field is significant.
    pub const ACK: u8 = 0x10;
}

/// `gso_type` of `struct virtio_net_hdr`, `include/uapi/linux/virtio_net.h`, as stored in observations.
pub mod gso {
    /// Not a super-packet.
    pub const NONE: u8 = 0;
    /// TCP over IPv4.
    pub const TCPV4: u8 = 1;
    /// UDP, IPv4 fragmentation offload (obsolete in Linux, still a legal value).
    pub const UDP_FRAGMENT: u8 = 3;
    /// TCP over IPv6.
    pub const TCPV6: u8 = 4;
    /// UDP segmentation (`UDP_SEGMENT`, `SKB_GSO_UDP_L4`).
    pub const UDP_L4: u8 = 5;
    /// The backend cannot say: a capture file or libpcap. The packet may or may not be a super-packet.
    pub const UNKNOWN: u8 = 255;
}

/// Bits of [`Observation::marks`].
pub mod marks {
    /// The snap length cut the bytes the identity hash needs; `transport_hash` covers fewer bytes.
    pub const HASH_TRUNCATED: u8 = 0x01;
    /// TCP carried a timestamp option (RFC 7323), so `ts_value` and `ts_echo` are meaningful.
    pub const TCP_TIMESTAMPS: u8 = 0x02;
    /// An IPv4 header, so `ip_id` is meaningful.
    pub const IPV4: u8 = 0x04;
    /// More fragments follow this one.
    pub const MORE_FRAGMENTS: u8 = 0x08;
    /// The carrier of the tunnel is IPv4, so `outer_ip_id` is meaningful.
    pub const OUTER_IPV4: u8 = 0x10;
    /// IPv4 do-not-fragment.
    pub const DONT_FRAGMENT: u8 = 0x20;
    /// A fragment of a tunnel's carrier that is not the first: the inner packet is not in it. The flow's
    /// addresses are the carrier's, `fragment_offset` and `payload_length` are the carrier's, and the row joins the
    /// first fragment by [`Observation::outer_id`].
    pub const OUTER_FRAGMENT: u8 = 0x40;
}

/// One row: one packet as one observation point saw it. Fields that do not apply are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// Kernel receive stamp, nanoseconds since 1970 on the capturing node's `CLOCK_REALTIME`.
    pub time_nanos: i64,
    /// Index into the batch's flow dictionary.
    pub flow: u32,
    /// Inner IP total length in bytes, header included. A super-packet may exceed 65,535.
    pub ip_length: u32,
    /// Bytes of transport payload in this packet (all segments of a super-packet together).
    pub payload_length: u32,
    /// Byte offset of this fragment in its datagram; with `marks::MORE_FRAGMENTS` it says whether the packet
    /// is a fragment.
    pub fragment_offset: u16,
    /// Inner IPv4 identification, RFC 791; for an IPv6 fragment the low half of its identification.
    pub ip_id: u16,
    /// Identification of the innermost tunnel's carrier: of IPv4, or the low half of an IPv6 fragment's.
    pub outer_ip_id: u16,
    /// The upper half of the identification of an IPv6 carrier in fragments, RFC 8200 §4.5.
    pub outer_ip_id_high: u16,
    /// Bytes of the carrier's payload in this frame, where it is the first fragment of the carrier of the packet's only
    /// tunnel; 0 where the carrier is whole. The others are rows of [`marks::OUTER_FRAGMENT`].
    pub outer_fragment_length: u16,
    /// Bytes of payload per segment of a super-packet, 0 if it is none.
    pub gso_size: u16,
    /// One of [`gso`].
    pub gso_type: u8,
    /// Inner TTL or hop limit.
    pub ttl: u8,
    /// Inner DSCP (upper six bits) and ECN (lower two).
    pub traffic_class: u8,
    /// Bits of [`marks`].
    pub marks: u8,
    /// TCP flags, the low eight.
    pub tcp_flags: u8,
    /// TCP window as sent, unscaled.
    pub tcp_window: u16,
    /// TCP sequence number.
    pub tcp_seq: u32,
    /// TCP acknowledgment number.
    pub tcp_ack: u32,
    /// `TSval`, RFC 7323.
    pub ts_value: u32,
    /// `TSecr`, RFC 7323.
    pub ts_echo: u32,
    /// Left edge of the first SACK block, RFC 2018; 0 with `sack_right` 0 means none.
    pub sack_left: u32,
    /// Right edge of the first SACK block.
    pub sack_right: u32,
    /// Identity hash of what is not TCP: of the payload (UDP, SCTP), of type, sequence and payload (ICMP echo), of the
    /// embedded packet (ICMP errors). Keyed per capture, so it does not reveal payload.
    pub transport_hash: u64,
}

impl Observation {
    /// The identification of the carrier: 16 bits in IPv4, 32 in an IPv6 fragment, else 0.
    #[inline]
    pub fn outer_id(&self) -> u32 {
        u32::from(self.outer_ip_id_high) << 16 | u32::from(self.outer_ip_id)
    }

    /// True for every fragment of a datagram, the first included; of a carrier only for those that are not the first.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.fragment_offset != 0 || self.marks & marks::MORE_FRAGMENTS != 0
    }
}

macro_rules! columns {
    ($($(#[$doc:meta])* $name:ident: $type:ty),+ $(,)?) => {
        /// Observations of one point as arrays of equal length, with their flow dictionary.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Columns {
            /// The dictionary that `flow` indexes.
            pub flows: Vec<FlowKey>,
            $($(#[$doc])* pub $name: Vec<$type>,)+
        }

        impl Columns {
            /// Empty arrays with room for `rows` rows.
            pub fn with_capacity(rows: usize) -> Self {
                Self { flows: Vec::new(), $($name: Vec::with_capacity(rows),)+ }
            }

            /// Appends a row. `row.flow` must index `flows`.
            #[inline]
            pub fn push(&mut self, row: &Observation) {
                $(self.$name.push(row.$name);)+
            }

            /// The row at `index`.
            ///
            /// # Panics
            /// If `index` is not below [`Columns::len`].
            #[inline]
            pub fn row(&self, index: usize) -> Observation {
                Observation { $($name: self.$name[index],)+ }
            }

            /// Removes every row and flow and keeps the memory.
            pub fn clear(&mut self) {
                self.flows.clear();
                $(self.$name.clear();)+
            }

            /// True when every column has the same length and every flow index is in the dictionary.
            pub fn is_consistent(&self) -> bool {
                let rows = self.time_nanos.len();
                $(self.$name.len() == rows &&)+ self.flow.iter().all(|&f| (f as usize) < self.flows.len())
            }
        }
    };
}

columns! {
    /// See [`Observation::time_nanos`].
    time_nanos: i64,
    /// See [`Observation::flow`].
    flow: u32,
    /// See [`Observation::ip_length`].
    ip_length: u32,
    /// See [`Observation::payload_length`].
    payload_length: u32,
    /// See [`Observation::fragment_offset`].
    fragment_offset: u16,
    /// See [`Observation::ip_id`].
    ip_id: u16,
    /// See [`Observation::outer_ip_id`].
    outer_ip_id: u16,
    /// See [`Observation::outer_ip_id_high`].
    outer_ip_id_high: u16,
    /// See [`Observation::outer_fragment_length`].
    outer_fragment_length: u16,
    /// See [`Observation::gso_size`].
    gso_size: u16,
    /// See [`Observation::gso_type`].
    gso_type: u8,
    /// See [`Observation::ttl`].
    ttl: u8,
    /// See [`Observation::traffic_class`].
    traffic_class: u8,
    /// See [`Observation::marks`].
    marks: u8,
    /// See [`Observation::tcp_flags`].
    tcp_flags: u8,
    /// See [`Observation::tcp_window`].
    tcp_window: u16,
    /// See [`Observation::tcp_seq`].
    tcp_seq: u32,
    /// See [`Observation::tcp_ack`].
    tcp_ack: u32,
    /// See [`Observation::ts_value`].
    ts_value: u32,
    /// See [`Observation::ts_echo`].
    ts_echo: u32,
    /// See [`Observation::sack_left`].
    sack_left: u32,
    /// See [`Observation::sack_right`].
    sack_right: u32,
    /// See [`Observation::transport_hash`].
    transport_hash: u64,
}

impl Columns {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.time_nanos.len()
    }

    /// True without a single row.
    pub fn is_empty(&self) -> bool {
        self.time_nanos.is_empty()
    }
}

/// A 128-bit key that hash tables over untrusted keys are built with.
#[derive(Clone, Copy, Default)]
pub struct SipKey(pub [u8; 16]);

impl std::fmt::Debug for SipKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SipKey(..)")
    }
}

impl BuildHasher for SipKey {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_key(&self.0)
    }
}

/// Fills a [`Columns`] batch and keeps its flow dictionary. Reused from batch to batch without giving memory back.
#[derive(Debug, Default)]
pub struct ColumnsBuilder {
    columns: Columns,
    index: HashMap<FlowKey, u32, SipKey>,
}

impl ColumnsBuilder {
    /// A builder with room for `rows` rows. The dictionary hashes with `key`, because who sends the packets
    /// chooses the addresses and ports in it.
    pub fn new(rows: usize, key: [u8; 16]) -> Self {
        Self { columns: Columns::with_capacity(rows), index: HashMap::with_hasher(SipKey(key)) }
    }

    /// Appends `row`, whose `flow` field is replaced by the dictionary index of `flow`.
    pub fn push(&mut self, flow: &FlowKey, mut row: Observation) {
        let flows = &mut self.columns.flows;
        row.flow = *self.index.entry(*flow).or_insert_with(|| {
            flows.push(*flow);
            flows.len() as u32 - 1
        });
        self.columns.push(&row);
    }

    /// Rows so far.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// True without a single row.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// The batch so far.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// Starts the next batch.
    pub fn clear(&mut self) {
        self.columns.clear();
        self.index.clear();
    }
}
