//! One node's topology with the lookups a path needs.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use lastseen_packet::observation::OverlayKind;

use crate::fabric::prefix_table::PrefixTable;
use crate::fabric::topology::{
    ForwardingEntry, Interface, InterfaceKind, MacAddress, Neighbor, Route, RouteType, Topology,
};

/// The routing table that is consulted last by default and filled by everyone, `RT_TABLE_MAIN`.
const MAIN_TABLE: u32 = 254;

/// A node's tables, indexed.
#[derive(Debug)]
pub(crate) struct NodeTables<'a> {
    pub(crate) topology: &'a Topology,
    host: HashMap<u32, &'a Interface>,
    routes: PrefixTable<&'a Route>,
    neighbors: HashMap<IpAddr, Vec<&'a Neighbor>>,
    forwarding: HashMap<MacAddress, Vec<&'a ForwardingEntry>>,
    overlays: Vec<&'a Interface>,
    tunnels: HashSet<(OverlayKind, u32)>,
    holders: HashMap<IpAddr, &'a Interface>,
    underlays: Vec<u32>,
}

impl<'a> NodeTables<'a> {
    pub(crate) fn new(topology: &'a Topology) -> Self {
        let host = topology.interfaces.iter().filter(|i| i.is_host()).map(|i| (i.index, i)).collect();
        let mut tables = Self {
            topology,
            host,
            routes: PrefixTable::default(),
            neighbors: HashMap::new(),
            forwarding: HashMap::new(),
            overlays: topology.interfaces.iter().filter(|i| i.is_host() && i.overlay.is_some()).collect(),
            tunnels: HashSet::new(),
            holders: holders(topology),
            underlays: Vec::new(),
        };
        let mut routes: Vec<_> = topology.routes.iter().collect();
        routes.sort_by_key(|route| (route.table != MAIN_TABLE, route.metric));
        for route in routes {
            tables.routes.insert(route.destination, route);
        }
        for neighbor in &topology.neighbors {
            tables.neighbors.entry(neighbor.address).or_default().push(neighbor);
        }
        for entry in &topology.forwarding {
            tables.forwarding.entry(entry.mac).or_default().push(entry);
        }
        let devices = tables.overlays().filter_map(|device| device.overlay);
        tables.tunnels = devices.map(|device| (device.kind, device.id)).collect();
        tables.underlays = tables.overlays().filter_map(|device| tables.underlay_of(device)).collect();
        tables
    }

    /// The interface of the host's namespace with that index.
    pub(crate) fn interface(&self, index: u32) -> Option<&'a Interface> {
        self.host.get(&index).copied()
    }

    /// What an interface is to a path: a device that carries tunnels is physical, whatever it was classified as, and
    /// so is a veth that holds an address with a subnet and is no bridge port.
    pub(crate) fn kind(&self, interface: &Interface) -> InterfaceKind {
        use InterfaceKind::{Other, Physical, PodVeth, Veth};
        if !interface.is_host() {
            return interface.kind;
        }
        let on_subnet = || {
            interface.master_index.is_none()
                && interface
                    .addresses
                    .iter()
                    .any(|prefix| !prefix.is_host() && !is_link_local(prefix.address))
        };
        match interface.kind {
            PodVeth | Veth | Other if self.underlays.contains(&interface.index) || on_subnet() => Physical,
            kind => kind,
        }
    }

    /// Tunnel devices of the host's namespace.
    pub(crate) fn overlays(&self) -> impl Iterator<Item = &'a Interface> + use<'_, 'a> {
        self.overlays.iter().copied()
    }

    /// True if a tunnel device of the host's namespace has that id.
    pub(crate) fn has_tunnel(&self, kind: OverlayKind, id: u32) -> bool {
        self.tunnels.contains(&(kind, id))
    }

    /// The device that carries the packets of tunnel device `device`: the one it is bound to, the one that holds its
    /// local address, or the one that leads to its remote. An address of the node itself is on none.
    pub(crate) fn underlay_of(&self, device: &Interface) -> Option<u32> {
        let overlay = device.overlay.as_ref()?;
        let carries = |interface: &&Interface| interface.kind != InterfaceKind::Loopback;
        let holder =
            || overlay.local.and_then(|local| self.holder_of(local)).filter(carries).map(|i| i.index);
        let way = || overlay.remote.and_then(|remote| self.route(remote)?.output_index);
        overlay.underlay_index.or_else(holder).or_else(way)
    }

    /// The interface of the host's namespace that holds `address`.
    pub(crate) fn holder_of(&self, address: IpAddr) -> Option<&'a Interface> {
        self.holders.get(&address).copied()
    }

    /// The physical interface of the host's namespace that is on one network with `other`, an interface of another
    /// node.
    pub(crate) fn on_network_of(&self, other: &Interface) -> Option<&'a Interface> {
        let networks = || other.addresses.iter().filter(|prefix| !is_link_local(prefix.address));
        let is_near = |interface: &&Interface| {
            let mut own = interface.addresses.iter();
            own.any(|own| !own.is_host() && networks().any(|network| network.contains(own.address)))
        };
        let mut all = self.topology.interfaces.iter().filter(|interface| interface.is_host());
        all.find(|interface| self.kind(interface) == InterfaceKind::Physical && is_near(interface))
    }

    /// Every address an interface of the host's namespace holds.
    pub(crate) fn held(&self) -> impl Iterator<Item = (IpAddr, &'a Interface)> + use<'_, 'a> {
        self.holders.iter().map(|(&address, &interface)| (address, interface))
    }

    /// The forwarding route to `address`: longest prefix, then the main table, then the lowest metric.
    pub(crate) fn route(&self, address: IpAddr) -> Option<&'a Route> {
        let forwards = |route: &&Route| route.kind == RouteType::Unicast && route.output_index.is_some();
        self.routes.matches(address).map(|(_, route)| *route).find(forwards)
    }

    /// The route that decides, special ones included.
    pub(crate) fn deciding_route(&self, address: IpAddr) -> Option<&'a Route> {
        self.routes.matches(address).map(|(_, route)| *route).next()
    }

    /// True if a route other than the default leads `address` out of interface `index`.
    pub(crate) fn leads_to(&self, address: IpAddr, index: u32) -> bool {
        self.routes.matches(address).any(|(length, route)| length > 0 && route.output_index == Some(index))
    }

    /// The neighbour entry for `address` on interface `index`.
    pub(crate) fn neighbor(&self, address: IpAddr, index: u32) -> Option<&'a Neighbor> {
        self.neighbors.get(&address)?.iter().copied().find(|neighbor| neighbor.index == index)
    }

    /// The remote VTEP that tunnel device `index` sends frames for `mac` to.
    pub(crate) fn remote_of(&self, mac: MacAddress, index: u32) -> Option<IpAddr> {
        let entries = self.forwarding.get(&mac)?;
        entries.iter().find(|entry| entry.index == index).and_then(|entry| entry.remote)
    }

    /// The port of bridge `bridge` behind which `mac` is.
    pub(crate) fn port_of(&self, mac: MacAddress, bridge: u32) -> Option<&'a Interface> {
        let entries = self.forwarding.get(&mac)?;
        let ports = entries.iter().filter_map(|entry| self.interface(entry.index));
        ports.into_iter().find(|port| port.master_index == Some(bridge))
    }

    /// The tunnel device that is a port of bridge `bridge`.
    pub(crate) fn overlay_port(&self, bridge: u32) -> Option<&'a Interface> {
        self.overlays().find(|device| device.master_index == Some(bridge))
    }
}

fn holders(topology: &Topology) -> HashMap<IpAddr, &Interface> {
    let mut holders = HashMap::new();
    for interface in topology.interfaces.iter().filter(|interface| interface.is_host()) {
        for prefix in &interface.addresses {
            holders.entry(prefix.address).or_insert(interface);
        }
    }
    holders
}

/// True for addresses that every machine has: they place nothing.
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_loopback() || v4.is_unspecified(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_loopback() || v6.is_unspecified(),
    }
}
