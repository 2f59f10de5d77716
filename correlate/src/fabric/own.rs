//! By which addresses a node's host can be reached.

use std::net::IpAddr;

use crate::fabric::tables::{NodeTables, is_link_local};
use crate::fabric::topology::{Interface, InterfaceKind, RouteType, Topology};

/// `RT_TABLE_MAIN`, include/uapi/linux/rtnetlink.h.
const MAIN_TABLE: u32 = 254;

/// Of which network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostNetwork {
    /// What carries its tunnels.
    Underlay,
    /// What its tunnels carry.
    Overlay,
}

/// The address that stands for a node's host, of those that `accept` takes. Of the underlay: where its tunnels end, or else
/// one of the interface of its default route; of the overlay: one of its tunnel device, or of the bridge that device is a
/// port of. None: its tables tell none.
pub fn host_address(
    topology: &Topology,
    network: HostNetwork,
    accept: impl Fn(IpAddr) -> bool,
) -> Option<IpAddr> {
    let tables = NodeTables::new(topology);
    let all = match network {
        HostNetwork::Underlay => [tunnel_ends(&tables), at_default_routes(&tables)].concat(),
        HostNetwork::Overlay => in_tunnels(&tables),
    };
    all.into_iter().find(|address| !is_link_local(*address) && accept(*address))
}

/// Every address of a node's host that its packets may come from, those first that they are likely to come from.
pub fn host_addresses(topology: &Topology) -> Vec<IpAddr> {
    let tables = NodeTables::new(topology);
    let mut hosts: Vec<&Interface> = topology.interfaces.iter().filter(|i| i.is_host()).collect();
    // Devices such as `kube-ipvs0` hold the address of every service, and send nothing.
    hosts.sort_by_key(|i| (matches!(i.kind, InterfaceKind::Other | InterfaceKind::Loopback), i.index));
    let rest = hosts.into_iter().flat_map(addresses);
    let mut all: Vec<IpAddr> = Vec::new();
    for address in [tunnel_ends(&tables), at_default_routes(&tables)].concat().into_iter().chain(rest) {
        if !is_link_local(address) && !all.contains(&address) {
            all.push(address);
        }
    }
    all
}

/// IPv4 first.
fn addresses(interface: &Interface) -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = interface.addresses.iter().map(|prefix| prefix.address).collect();
    all.sort_by_key(IpAddr::is_ipv6);
    all
}

fn tunnel_ends(tables: &NodeTables<'_>) -> Vec<IpAddr> {
    let of = |device: &Interface| {
        let local = device.overlay.and_then(|overlay| overlay.local);
        let below = tables.underlay_of(device).and_then(|index| tables.interface(index));
        local.into_iter().chain(below.map(addresses).unwrap_or_default()).collect::<Vec<_>>()
    };
    in_order(tables).into_iter().flat_map(of).collect()
}

fn at_default_routes(tables: &NodeTables<'_>) -> Vec<IpAddr> {
    let is_default = |kind, table, length| kind == RouteType::Unicast && table == MAIN_TABLE && length == 0;
    let mut routes: Vec<_> = tables
        .topology
        .routes
        .iter()
        .filter(|route| is_default(route.kind, route.table, route.destination.length))
        .collect();
    routes.sort_by_key(|route| route.metric);
    let interface = |index: Option<u32>| index.and_then(|index| tables.interface(index));
    routes.into_iter().filter_map(|route| interface(route.output_index)).flat_map(addresses).collect()
}

fn in_tunnels(tables: &NodeTables<'_>) -> Vec<IpAddr> {
    let of = |device: &Interface| {
        let bridge = device.master_index.and_then(|index| tables.interface(index));
        [addresses(device), bridge.map(addresses).unwrap_or_default()].concat()
    };
    in_order(tables).into_iter().flat_map(of).collect()
}

/// Tunnel devices in the order in which the kernel numbered them.
fn in_order<'a>(tables: &NodeTables<'a>) -> Vec<&'a Interface> {
    let mut devices: Vec<_> = tables.overlays().collect();
    devices.sort_by_key(|device| device.index);
    devices
}

#[cfg(test)]
mod tests {
    use lastseen_packet::observation::OverlayKind;

    use super::*;
    use crate::fabric::topology::{OverlayDevice, Prefix, Route};

    fn interface(index: u32, kind: InterfaceKind, addresses: &[&str]) -> Interface {
        let addresses = addresses.iter().map(|text| text.parse::<Prefix>().unwrap()).collect();
        Interface { index, name: format!("i{index}"), kind, addresses, ..Interface::default() }
    }

    fn vxlan(index: u32, local: Option<&str>, underlay_index: Option<u32>, addresses: &[&str]) -> Interface {
        let local = local.map(|local| local.parse().unwrap());
        let kind = OverlayKind::Vxlan;
        let overlay = Some(OverlayDevice { kind, local, underlay_index, ..OverlayDevice::default() });
        Interface { overlay, ..interface(index, InterfaceKind::Overlay, addresses) }
    }

    fn default_route(output_index: u32, metric: u32) -> Route {
        Route {
            destination: "0.0.0.0/0".parse().unwrap(),
            gateway: Some("10.0.0.1".parse().unwrap()),
            output_index: Some(output_index),
            table: MAIN_TABLE,
            metric,
            kind: RouteType::Unicast,
        }
    }

    fn node() -> Topology {
        let physical = InterfaceKind::Physical;
        Topology {
            interfaces: vec![
                interface(1, InterfaceKind::Loopback, &["127.0.0.1/8", "::1/128"]),
                interface(2, physical, &["192.0.2.9/24"]),
                interface(3, physical, &["fd01::3/64", "fe80::3/64", "192.168.0.3/24", "192.168.0.4/24"]),
                interface(4, InterfaceKind::Other, &["10.96.0.1/32"]),
                vxlan(5, Some("192.168.0.4"), Some(3), &["10.244.1.0/32", "fd00:10::/128"]),
            ],
            routes: vec![default_route(2, 100)],
            ..Topology::default()
        }
    }

    fn found(topology: &Topology, network: HostNetwork, v6: bool) -> Option<String> {
        host_address(topology, network, |address| address.is_ipv6() == v6).map(|address| address.to_string())
    }

    #[test]
    fn a_host_stands_where_its_tunnels_end_or_else_at_its_default_route() {
        use HostNetwork::{Overlay, Underlay};
        let mut node = node();
        let told = |node: &Topology| {
            [(Underlay, false), (Underlay, true), (Overlay, false), (Overlay, true)]
                .map(|(network, v6)| found(node, network, v6).unwrap_or_default())
        };
        assert_eq!(told(&node), ["192.168.0.4", "fd01::3", "10.244.1.0", "fd00:10::"]);
        node.interfaces[4] = vxlan(5, None, Some(3), &[]);
        assert_eq!(told(&node), ["192.168.0.3", "fd01::3", "", ""], "the device below it");
        node.interfaces[4].master_index = Some(6);
        node.interfaces.push(interface(6, InterfaceKind::Bridge, &["10.244.1.1/24"]));
        assert_eq!(told(&node)[2], "10.244.1.1", "a bridged overlay");
        node.interfaces.truncate(4);
        assert_eq!(told(&node), ["192.0.2.9", "", "", ""]);
        node.routes.insert(0, default_route(3, 200));
        assert_eq!(told(&node)[..2], ["192.0.2.9", "fd01::3"], "the lower metric first");
        node.routes.clear();
        assert_eq!(told(&node), ["", "", "", ""]);
    }

    #[test]
    fn packets_of_a_host_come_from_any_of_its_addresses() {
        let all: Vec<String> = host_addresses(&node()).iter().map(ToString::to_string).collect();
        assert_eq!(all[..3], ["192.168.0.4", "192.168.0.3", "fd01::3"]);
        assert_eq!(all[3..], ["192.0.2.9", "10.244.1.0", "fd00:10::", "10.96.0.1"], "services last");
    }
}
