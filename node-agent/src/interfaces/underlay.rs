//! Which physical interfaces can take pods' packets to other machines, and which, such as a separate management
//! network's, cannot.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use lastseen_proto::v1::{InterfaceKind, NodeTopology, OverlayDevice, Route};

use super::{Link, Snapshot};

/// Longest chain of masters that is followed: a port in a bond in a bridge.
const MAX_MASTERS: usize = 4;

/// The physical interfaces that are up and that a tunnel's packets or a route with a gateway leave by. All that are up
/// if none is known to, or if what carries a tunnel or such a route cannot be traced to its interfaces.
pub(super) fn physical(snapshot: &Snapshot) -> HashSet<u32> {
    let usable = |link: &&Link| link.interface.up && link.frames.is_some();
    let of_kind = |link: &&Link| link.interface.kind() == InterfaceKind::Physical;
    let all: HashSet<u32> =
        snapshot.links.iter().filter(usable).filter(of_kind).map(|link| link.interface.index).collect();
    match carriers(&snapshot.topology).and_then(|carriers| below(&snapshot.links, &carriers)) {
        Some(carrying) if !carrying.is_disjoint(&all) => &carrying & &all,
        _ => all,
    }
}

/// Devices that tunnels and routes with a gateway leave by; `None` if a tunnel does not tell.
fn carriers(topology: &NodeTopology) -> Option<HashSet<u32>> {
    let routes = topology.routes.iter().filter(|route| !route.gateway.is_empty());
    let mut all: HashSet<u32> = routes.filter_map(|route| route.output_index).collect();
    let ways: Vec<Way> = topology.routes.iter().filter_map(Way::of).collect();
    for interface in &topology.interfaces {
        let Some(tunnel) = &interface.overlay else { continue };
        let mut under = underlay(topology, &ways, interface.index, tunnel);
        under.remove(&interface.index);
        if under.is_empty() {
            return None;
        }
        all.extend(under);
    }
    Some(all)
}

/// Devices that a tunnel's packets leave by: as it was set up, where its own address is, and where routes lead to the
/// other ends.
fn underlay(topology: &NodeTopology, ways: &[Way], index: u32, tunnel: &OverlayDevice) -> HashSet<u32> {
    let mut devices: HashSet<u32> = tunnel.underlay_index.into_iter().collect();
    if let Ok(local) = tunnel.local.parse::<IpAddr>() {
        let holds = |text: &String| text.split_once('/').and_then(|(a, _)| a.parse().ok()) == Some(local);
        let holding = topology.interfaces.iter().filter(|i| i.addresses.iter().any(holds));
        devices.extend(holding.map(|interface| interface.index));
    }
    let entries = topology.forwarding.iter().filter(|entry| entry.index == index);
    let routes = topology.routes.iter().filter(|route| route.output_index == Some(index));
    let ends = entries.map(|entry| &entry.remote).chain(routes.map(|route| &route.gateway));
    let ends: HashSet<IpAddr> =
        ends.chain([&tunnel.remote]).filter_map(|address| address.parse().ok()).collect();
    devices.extend(ends.into_iter().flat_map(|end| outputs(ways, end)));
    devices
}

/// A route that leads somewhere.
struct Way {
    network: IpAddr,
    length: u8,
    table: u32,
    output: u32,
}

impl Way {
    fn of(route: &Route) -> Option<Self> {
        let (network, length) = route.destination.split_once('/').filter(|_| route.r#type == "unicast")?;
        let (network, length) = (network.parse().ok()?, length.parse().ok()?);
        Some(Self { network, length, table: route.table, output: route.output_index? })
    }

    fn leads_to(&self, address: IpAddr) -> bool {
        let (width, difference) = match (self.network, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (32, u128::from(a.to_bits() ^ b.to_bits())),
            (IpAddr::V6(a), IpAddr::V6(b)) => (128, a.to_bits() ^ b.to_bits()),
            _ => return false,
        };
        let host_bits = u32::saturating_sub(width, self.length.into());
        difference.checked_shr(host_bits).unwrap_or(0) == 0
    }
}

/// Where each routing table sends packets for `address`.
fn outputs(ways: &[Way], address: IpAddr) -> HashSet<u32> {
    let mut best: HashMap<u32, (u8, Vec<u32>)> = HashMap::new();
    for way in ways.iter().filter(|way| way.leads_to(address)) {
        let (longest, outputs) = best.entry(way.table).or_default();
        if way.length > *longest {
            (*longest, *outputs) = (way.length, Vec::new());
        }
        if way.length == *longest {
            outputs.push(way.output);
        }
    }
    best.into_values().flat_map(|(_, outputs)| outputs).collect()
}

/// The physical interfaces among `devices` and below them; `None` if one of them sends through something that its
/// master does not show, as a VLAN device does.
fn below(links: &[Link], devices: &HashSet<u32>) -> Option<HashSet<u32>> {
    let master_of: HashMap<u32, u32> =
        links.iter().filter_map(|l| Some((l.interface.index, l.interface.master_index?))).collect();
    let mut physical = HashSet::new();
    let mut reached = HashSet::new();
    for link in links.iter().filter(|link| link.interface.kind() == InterfaceKind::Physical) {
        let index = link.interface.index;
        let chain = std::iter::successors(Some(index), |at| master_of.get(at).copied()).take(MAX_MASTERS);
        let mut above = chain.filter(|at| devices.contains(at)).peekable();
        if above.peek().is_some() {
            physical.insert(index);
            reached.extend(above);
        }
    }
    let is_hidden = |link: &Link| {
        let interface = &link.interface;
        interface.kind() == InterfaceKind::Other
            && devices.contains(&interface.index)
            && !reached.contains(&interface.index)
    };
    (!links.iter().any(is_hidden)).then_some(physical)
}

#[cfg(test)]
mod tests {
    use lastseen_packet::LinkType;
    use lastseen_proto::v1::{ForwardingEntry, Interface};

    use super::*;

    const ETH0: u32 = 2;
    const MGMT0: u32 = 3;
    const TUNNEL: u32 = 4;
    const OTHER: u32 = 5;

    fn interface(index: u32, kind: InterfaceKind, address: &str) -> Interface {
        let mut interface =
            Interface { index, up: true, addresses: vec![address.into()], ..Default::default() };
        interface.set_kind(kind);
        interface
    }

    fn route(destination: &str, gateway: &str, output: u32) -> Route {
        Route {
            destination: destination.into(),
            gateway: gateway.into(),
            output_index: Some(output),
            table: 254,
            r#type: "unicast".into(),
            ..Default::default()
        }
    }

    /// Two physical interfaces in networks of their own, and whatever `change` adds.
    fn chosen(change: impl FnOnce(&mut NodeTopology)) -> Vec<u32> {
        let mut topology = NodeTopology {
            interfaces: vec![
                interface(ETH0, InterfaceKind::Physical, "10.0.0.1/24"),
                interface(MGMT0, InterfaceKind::Physical, "172.16.0.1/24"),
            ],
            routes: vec![route("10.0.0.0/24", "", ETH0), route("172.16.0.0/24", "", MGMT0)],
            ..Default::default()
        };
        change(&mut topology);
        let link =
            |interface: &Interface| Link { interface: interface.clone(), frames: Some(LinkType::Ethernet) };
        let snapshot = Snapshot { links: topology.interfaces.iter().map(link).collect(), topology };
        let mut chosen: Vec<_> = physical(&snapshot).into_iter().collect();
        chosen.sort_unstable();
        chosen
    }

    fn tunnel(change: impl FnOnce(&mut OverlayDevice)) -> Interface {
        let mut device = OverlayDevice::default();
        change(&mut device);
        Interface { overlay: Some(device), ..interface(TUNNEL, InterfaceKind::Overlay, "10.244.1.0/32") }
    }

    fn with_tunnel(change: impl FnOnce(&mut OverlayDevice)) -> Vec<u32> {
        chosen(|topology| topology.interfaces.push(tunnel(change)))
    }

    #[test]
    fn a_tunnel_shows_its_underlay_by_device_address_or_far_end() {
        assert_eq!(with_tunnel(|t| t.underlay_index = Some(ETH0)), [ETH0]);
        assert_eq!(with_tunnel(|t| t.local = "10.0.0.1".into()), [ETH0]);
        assert_eq!(with_tunnel(|t| t.remote = "10.0.0.9".into()), [ETH0]);
        let by_entry = chosen(|topology| {
            topology.interfaces.push(tunnel(|_| {}));
            let remote = "10.0.0.9".into();
            topology.forwarding.push(ForwardingEntry { index: TUNNEL, remote, ..Default::default() });
        });
        assert_eq!(by_entry, [ETH0]);
        let by_gateway = chosen(|topology| {
            topology.interfaces.push(tunnel(|_| {}));
            topology.routes.push(route("10.244.2.0/24", "10.0.0.9", TUNNEL));
        });
        assert_eq!(by_gateway, [ETH0]);
    }

    #[test]
    fn the_longest_prefix_of_each_table_decides() {
        let to = |routes: &[Route], address: &str| {
            let ways: Vec<_> = routes.iter().filter_map(Way::of).collect();
            outputs(&ways, address.parse().unwrap())
        };
        let routes = [route("0.0.0.0/0", "", MGMT0), route("10.0.0.0/24", "", ETH0)];
        assert_eq!(to(&routes, "10.0.0.9"), [ETH0].into());
        assert_eq!(to(&routes, "10.0.1.9"), [MGMT0].into());
        assert_eq!(to(&routes, "fd00::1"), [].into());
        let other_table = Route { table: 100, ..route("0.0.0.0/0", "", OTHER) };
        assert_eq!(to(&[routes[1].clone(), other_table], "10.0.0.9"), [ETH0, OTHER].into());
        let v6 = [route("fd00::/64", "", ETH0), route("::/0", "", MGMT0)];
        assert_eq!(to(&v6, "fd00::1:2"), [ETH0].into());
        assert_eq!(to(&v6, "fd00:0:0:1::2"), [MGMT0].into());
        let dead = Route { r#type: "blackhole".into(), ..route("10.0.0.9/32", "", OTHER) };
        assert_eq!(to(&[dead, routes[1].clone()], "10.0.0.9"), [ETH0].into());
    }

    #[test]
    fn a_route_with_a_gateway_leaves_by_an_interface_that_counts() {
        assert_eq!(chosen(|t| t.routes.push(route("0.0.0.0/0", "172.16.0.254", MGMT0))), [MGMT0]);
        let both = chosen(|topology| {
            topology.interfaces.push(tunnel(|t| t.underlay_index = Some(ETH0)));
            topology.routes.push(route("0.0.0.0/0", "172.16.0.254", MGMT0));
        });
        assert_eq!(both, [ETH0, MGMT0]);
    }

    #[test]
    fn ports_of_a_carrying_bond_or_bridge_count() {
        let bonded = chosen(|topology| {
            topology.interfaces.push(interface(OTHER, InterfaceKind::Other, "10.0.1.1/24"));
            topology.interfaces[0].master_index = Some(OTHER);
            topology.interfaces.push(tunnel(|t| t.underlay_index = Some(OTHER)));
        });
        assert_eq!(bonded, [ETH0]);
    }

    #[test]
    fn all_count_where_nothing_tells() {
        assert_eq!(chosen(|_| {}), [ETH0, MGMT0]);
        // A tunnel whose ends are set per packet, beside a route that says something.
        let unknown = chosen(|topology| {
            topology.interfaces.push(tunnel(|_| {}));
            topology.routes.push(route("0.0.0.0/0", "172.16.0.254", MGMT0));
        });
        assert_eq!(unknown, [ETH0, MGMT0]);
        // A VLAN device does not show what is below it.
        let vlan = chosen(|topology| {
            topology.interfaces.push(interface(OTHER, InterfaceKind::Other, "10.0.1.1/24"));
            topology.interfaces.push(tunnel(|t| t.underlay_index = Some(OTHER)));
            topology.routes.push(route("0.0.0.0/0", "172.16.0.254", MGMT0));
        });
        assert_eq!(vlan, [ETH0, MGMT0]);
        let down = chosen(|topology| {
            topology.interfaces.push(tunnel(|t| t.underlay_index = Some(ETH0)));
            topology.interfaces[0].up = false;
        });
        assert_eq!(down, [MGMT0]);
    }
}
