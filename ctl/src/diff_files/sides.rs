//! Which way a frame went through an interface, from what the topology says about addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;

use lastseen_correlate::topology::{Direction, Interface, InterfaceKind, MacAddress, Prefix, Topology};
use lastseen_packet::{Decoded, LinkType};

/// The two sides of an interface: its node, and what is beyond it.
#[derive(Clone, Debug, Default)]
pub(super) struct Sides {
    own: Option<MacAddress>,
    /// Beyond the interface: the pod behind a veth, other machines behind an underlay device.
    beyond: BTreeSet<MacAddress>,
    /// Other interfaces of the node.
    node: BTreeSet<MacAddress>,
    addresses: BTreeSet<IpAddr>,
    /// Addresses of the node's pods.
    pods: Vec<Prefix>,
    /// One of these pods is beyond the interface.
    is_pods: bool,
}

impl Sides {
    pub(super) fn new(topology: &Topology, interface: &Interface) -> Self {
        let here = || topology.interfaces.iter().filter(|other| other.netns == interface.netns);
        let node: BTreeSet<_> =
            here().filter(|other| other.index != interface.index).filter_map(|other| other.mac).collect();
        let is_behind = |other: &&Interface| {
            other.netns != interface.netns
                && other.peer_index == Some(interface.index)
                && interface.peer_index == Some(other.index)
        };
        let peers = topology.interfaces.iter().filter(is_behind).filter_map(|other| other.mac);
        let is_host = interface.is_host();
        let neighbors = topology.neighbors.iter().filter(|entry| is_host && entry.index == interface.index);
        let forwarding = topology.forwarding.iter().filter(|entry| is_host && entry.index == interface.index);
        let beyond =
            peers.chain(neighbors.filter_map(|entry| entry.mac)).chain(forwarding.map(|entry| entry.mac));
        // A bridge port's own address is in the forwarding table too.
        let beyond = beyond.filter(|mac| Some(*mac) != interface.mac && !node.contains(mac)).collect();
        let bridges = here().filter(|other| other.kind == InterfaceKind::Bridge);
        Self {
            own: interface.mac,
            beyond,
            addresses: here().flat_map(|other| &other.addresses).map(|prefix| prefix.address).collect(),
            pods: bridges.flat_map(|bridge| &bridge.addresses).copied().collect(),
            node,
            is_pods: is_host && interface.kind == InterfaceKind::PodVeth,
        }
    }

    /// By MAC addresses where there are any, else by the outermost IP addresses. Absent where neither tells.
    pub(super) fn direction(&self, link: LinkType, frame: &[u8], decoded: &Decoded) -> Option<Direction> {
        let by_mac = (link == LinkType::Ethernet).then(|| self.by_mac(frame)).flatten();
        by_mac.or_else(|| self.by_address(decoded))
    }

    fn by_mac(&self, frame: &[u8]) -> Option<Direction> {
        let (destination, rest) = frame.split_first_chunk::<6>()?;
        let (destination, source) = (MacAddress(*destination), MacAddress(*rest.first_chunk::<6>()?));
        if self.own == Some(source) || self.beyond.contains(&destination) {
            return Some(Direction::Out);
        }
        if self.own == Some(destination) || self.beyond.contains(&source) {
            return Some(Direction::In);
        }
        if self.node.contains(&source) {
            return Some(Direction::Out);
        }
        self.node.contains(&destination).then_some(Direction::In)
    }

    fn by_address(&self, decoded: &Decoded) -> Option<Direction> {
        let outermost =
            decoded.encapsulations().first().map(|tunnel| &tunnel.carrier).or(decoded.network.as_ref())?;
        let ends = [outermost.source, outermost.destination];
        match ends.map(|address| self.addresses.contains(&address)) {
            [true, false] if self.is_pods => return Some(Direction::Out),
            [false, true] if self.is_pods => return Some(Direction::In),
            _ => {}
        }
        match ends.map(|address| self.is_here(address)) {
            [true, false] => Some(if self.is_pods { Direction::In } else { Direction::Out }),
            [false, true] => Some(if self.is_pods { Direction::Out } else { Direction::In }),
            _ => None,
        }
    }

    fn is_here(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address) || self.pods.iter().any(|prefix| prefix.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use lastseen_correlate::topology::ForwardingEntry;

    use super::*;

    fn mac(last: u8) -> MacAddress {
        MacAddress([2, 0, 0, 0, 0, last])
    }

    fn interface(index: u32, kind: InterfaceKind) -> Interface {
        Interface { index, kind, mac: Some(mac(index as u8)), ..Interface::default() }
    }

    fn direction(sides: &Sides, source: u8, destination: u8) -> Option<Direction> {
        let frame = [mac(destination).0, mac(source).0, [8, 0, 0x45, 0, 0, 0]].concat();
        sides.direction(LinkType::Ethernet, &frame, &Decoded::default())
    }

    #[test]
    fn macs_tell_the_direction_at_devices_and_at_bridge_ports() {
        let entry = |mac, index| ForwardingEntry { mac, index, remote: None, vlan: 0 };
        let topology = Topology {
            interfaces: vec![
                interface(2, InterfaceKind::Physical),
                interface(4, InterfaceKind::Bridge),
                interface(5, InterfaceKind::PodVeth),
            ],
            forwarding: vec![entry(mac(100), 5), entry(mac(5), 5)],
            ..Topology::default()
        };
        let veth = Sides::new(&topology, &topology.interfaces[2]);
        assert_eq!(direction(&veth, 100, 4), Some(Direction::In));
        assert_eq!(direction(&veth, 4, 100), Some(Direction::Out));
        assert_eq!(direction(&veth, 100, 101), Some(Direction::In), "to another pod on the bridge");
        let nic = Sides::new(&topology, &topology.interfaces[0]);
        assert_eq!(direction(&nic, 2, 77), Some(Direction::Out));
        assert_eq!(direction(&nic, 77, 2), Some(Direction::In));
        assert_eq!(direction(&nic, 77, 78), None);
    }
    #[test]
    fn without_macs_addresses_tell_which_side_a_pod_is_on() {
        let prefix = |text: &str, length| Prefix { address: text.parse().unwrap(), length };
        let mut bridge = interface(4, InterfaceKind::Bridge);
        bridge.addresses = vec![prefix("10.244.2.1", 24)];
        let interfaces =
            vec![bridge, interface(5, InterfaceKind::PodVeth), interface(2, InterfaceKind::Physical)];
        let topology = Topology { interfaces, ..Topology::default() };
        let told = |of: usize, source: [u8; 4], destination: [u8; 4]| {
            let header = [0x45, 0, 0, 28, 0, 1, 0x40, 0, 64, 17, 0, 0];
            let packet = [&header[..], &source, &destination, &[0, 7, 0, 9, 0, 8, 0, 0]].concat();
            let mut decoded = Decoded::default();
            let config = lastseen_packet::DecodeConfig::default();
            lastseen_packet::decode(&config, LinkType::Raw, &packet, 28, &mut decoded).unwrap();
            Sides::new(&topology, &topology.interfaces[of]).direction(LinkType::Raw, &packet, &decoded)
        };
        let (pod, other, far, node) = ([10, 244, 2, 10], [10, 244, 2, 11], [10, 244, 1, 10], [10, 244, 2, 1]);
        let (into, out) = (Some(Direction::In), Some(Direction::Out));
        assert_eq!((told(1, pod, far), told(1, far, pod)), (into, out));
        assert_eq!((told(1, pod, node), told(1, node, pod)), (into, out));
        assert_eq!(told(1, pod, other), None, "either may be the one behind it");
        assert_eq!((told(2, pod, far), told(2, far, pod)), (out, into), "all pods are behind a node's own");
    }
}
