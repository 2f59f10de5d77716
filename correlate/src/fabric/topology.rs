//! What a node's network looks like: the facts netlink tells, as plain tables.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use lastseen_packet::observation::OverlayKind;

/// What an interface is, which decides what its packets look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum InterfaceKind {
    /// Not known.
    #[default]
    Unspecified,
    /// The host's end of a veth pair whose other end is in another network namespace.
    PodVeth,
    /// A veth whose peer is in the same namespace, or unknown.
    Veth,
    /// A Linux bridge.
    Bridge,
    /// A tunnel device: VXLAN, Geneve, IPIP, GRE.
    Overlay,
    /// A device that reaches other machines.
    Physical,
    /// The loopback device.
    Loopback,
    /// Anything else: bonds, macvlan, TUN.
    Other,
}

/// Direction of a packet through an interface, as `sockaddr_ll.sll_pkttype` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Received by the interface.
    In,
    /// Sent by the interface (`PACKET_OUTGOING`).
    Out,
}

/// A text that is no address, prefix or MAC address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} is not valid: expected {expected}")]
pub struct ParseError {
    what: &'static str,
    text: String,
    expected: &'static str,
}

/// An IEEE 802 MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0;
        write!(f, "{:02x}", bytes[0])?;
        bytes[1..].iter().try_for_each(|byte| write!(f, ":{byte:02x}"))
    }
}

impl FromStr for MacAddress {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error =
            || ParseError { what: "MAC address", text: text.to_owned(), expected: "aa:bb:cc:dd:ee:ff" };
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(error)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() { Err(error()) } else { Ok(Self(bytes)) }
    }
}

/// An address with a prefix length: an interface's address, or a route's destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    /// Address; bits beyond `length` may be set, as in `10.244.1.1/24`.
    pub address: IpAddr,
    /// Leading bits that count: at most 32 for IPv4 and 128 for IPv6.
    pub length: u8,
}

impl Prefix {
    /// True if `address` is of the same family and agrees in the leading bits.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let kept = 32_u32.saturating_sub(u32::from(self.length));
                (a.to_bits() ^ b.to_bits()).checked_shr(kept).unwrap_or(0) == 0
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let kept = 128_u32.saturating_sub(u32::from(self.length));
                (a.to_bits() ^ b.to_bits()).checked_shr(kept).unwrap_or(0) == 0
            }
            _ => false,
        }
    }

    /// True if it names one address.
    pub fn is_host(&self) -> bool {
        self.length == if self.address.is_ipv4() { 32 } else { 128 }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl FromStr for Prefix {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = || ParseError { what: "prefix", text: text.to_owned(), expected: "10.244.1.0/24" };
        let (address, length) = text.split_once('/').ok_or_else(error)?;
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let length: u8 = length.parse().map_err(|_| error())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        if length > longest { Err(error()) } else { Ok(Self { address, length }) }
    }
}

/// Parameters of a tunnel device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OverlayDevice {
    /// Protocol.
    pub kind: OverlayKind,
    /// VNI, key or 0.
    pub id: u32,
    /// UDP destination port, 0 for tunnels without one.
    pub port: u16,
    /// Local underlay address, if set.
    pub local: Option<IpAddr>,
    /// Fixed remote underlay address, if set.
    pub remote: Option<IpAddr>,
    /// Index of the underlay device, if bound to one.
    pub underlay_index: Option<u32>,
}

/// One network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Kernel interface index in its namespace.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Network namespace: empty for the host's, else the name the agent knows it by.
    pub netns: String,
    /// What it is.
    pub kind: InterfaceKind,
    /// MAC address, absent for devices without one.
    pub mac: Option<MacAddress>,
    /// Layer 3 MTU in bytes.
    pub mtu: u32,
    /// Addresses with prefix length.
    pub addresses: Vec<Prefix>,
    /// Index of the bridge this is a port of.
    pub master_index: Option<u32>,
    /// Index of the veth peer in its namespace.
    pub peer_index: Option<u32>,
    /// The tunnel, for overlay devices.
    pub overlay: Option<OverlayDevice>,
    /// `IFF_UP`.
    pub up: bool,
    /// `IFF_LOWER_UP`: carrier.
    pub running: bool,
}

impl Interface {
    /// True in the host's network namespace.
    pub fn is_host(&self) -> bool {
        self.netns.is_empty()
    }
}

/// What a route does with a packet, rtnetlink's `rtm_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RouteType {
    /// Forwards it.
    #[default]
    Unicast,
    /// Drops it silently.
    Blackhole,
    /// Drops it and answers with host unreachable.
    Unreachable,
    /// Drops it and answers with administratively prohibited.
    Prohibit,
    /// Anything else.
    Other,
}

/// A routing table entry of the host's network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination prefix.
    pub destination: Prefix,
    /// Next hop, absent for on-link.
    pub gateway: Option<IpAddr>,
    /// Output interface; absent for special routes.
    pub output_index: Option<u32>,
    /// Table id; 254 is main.
    pub table: u32,
    /// Preference; lower wins.
    pub metric: u32,
    /// What it does.
    pub kind: RouteType,
}

/// An ARP or NDP entry of the host's network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbor {
    /// IP address.
    pub address: IpAddr,
    /// MAC address, absent while unresolved.
    pub mac: Option<MacAddress>,
    /// Interface index.
    pub index: u32,
    /// True in the NUD states `failed` and `incomplete`.
    pub is_unresolved: bool,
}

/// A bridge or VXLAN forwarding entry of the host's network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardingEntry {
    /// MAC address.
    pub mac: MacAddress,
    /// The bridge port or the VXLAN device.
    pub index: u32,
    /// Remote VTEP, for VXLAN devices.
    pub remote: Option<IpAddr>,
    /// VLAN id, 0 if none.
    pub vlan: u16,
}

/// A node's tables. Default is a node about which nothing is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// Every interface of the namespaces the agent can see.
    pub interfaces: Vec<Interface>,
    /// Routes of the host's network namespace, all tables but `local`.
    pub routes: Vec<Route>,
    /// Neighbours of the host's network namespace.
    pub neighbors: Vec<Neighbor>,
    /// Forwarding entries of the host's network namespace.
    pub forwarding: Vec<ForwardingEntry>,
}
