//! Which node an address is on, and behind which interface.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use crate::fabric::prefix_table::PrefixTable;
use crate::fabric::tables::{NodeTables, is_link_local};
use crate::fabric::topology::{Interface, InterfaceKind, MacAddress, RouteType, Topology};

/// Where an address is on its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The node itself holds it.
    Host,
    /// A pod holds it.
    Pod(Pod),
}

/// The way to a pod on its node, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pod {
    /// Host end of its veth pair.
    pub(crate) veth: Option<u32>,
    /// Bridge that veth is a port of.
    pub(crate) bridge: Option<u32>,
    /// Its own interface: namespace and index.
    pub(crate) inside: Option<(String, u32)>,
}

/// One answer to where an address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// Index of the node.
    pub(crate) node: usize,
    /// Where on it.
    pub(crate) place: Place,
}

/// How sure an answer is, the surest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Assigned,
    HostRoute,
    Neighbor,
}

/// Every address the fabric can place.
#[derive(Debug, Default)]
pub(crate) struct Locator {
    exact: HashMap<IpAddr, Vec<(Source, Owner)>>,
    connected: PrefixTable<Owner>,
    /// Nodes from this one on are bystanders: what a node that was asked for says of an address counts before what they
    /// last said, which may be long ago.
    bystanders: usize,
}

/// The nodes that an address is on, as the tables of all of them tell: none, one, or several if they disagree. Indices of
/// `topologies`.
pub fn nodes_with(topologies: &[Topology], address: IpAddr) -> Vec<usize> {
    let tables: Vec<_> = topologies.iter().map(NodeTables::new).collect();
    let owners = Locator::new(&tables, tables.len()).owners(address, |_| true);
    let mut nodes: Vec<usize> = owners.into_iter().map(|owner| owner.node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

/// Every node whose tables lead to an address on itself: more than [`nodes_with`] where some lead there by a route and
/// some by a network of pods, and packets may go to either. Indices of `topologies`.
pub fn nodes_claiming(topologies: &[Topology], address: IpAddr) -> Vec<usize> {
    let tables: Vec<_> = topologies.iter().map(NodeTables::new).collect();
    let locator = Locator::new(&tables, tables.len());
    let known = locator.exact.get(&address).map_or(&[][..], Vec::as_slice);
    let is_assigned = known.iter().any(|(source, _)| *source == Source::Assigned);
    let exact = known.iter().filter(|(source, _)| *source == Source::Assigned || !is_assigned);
    let mut nodes: BTreeSet<usize> = exact.map(|(_, owner)| owner.node).collect();
    if !is_assigned {
        let mut longest = None;
        let subnets = locator.connected.matches(address);
        let best = subnets.take_while(|(length, _)| *longest.get_or_insert(*length) == *length);
        nodes.extend(best.map(|(_, owner)| owner.node));
    }
    nodes.into_iter().collect()
}

impl Locator {
    pub(crate) fn new(nodes: &[NodeTables<'_>], bystanders: usize) -> Self {
        let mut locator = Self { bystanders, ..Self::default() };
        for (index, node) in nodes.iter().enumerate() {
            locator.add_assigned(index, node);
            locator.add_neighbors(index, node);
            locator.add_routes(index, node);
        }
        locator
    }

    /// Owners of `address` of the surest kind there is: several if the fabric disagrees or tenants overlap.
    pub(crate) fn owners(&self, address: IpAddr, accept: impl Fn(&Owner) -> bool) -> Vec<Owner> {
        let asked = self.owners_among(address, |owner| owner.node < self.bystanders && accept(owner));
        if asked.is_empty() { self.owners_among(address, accept) } else { asked }
    }

    fn owners_among(&self, address: IpAddr, accept: impl Fn(&Owner) -> bool) -> Vec<Owner> {
        let known = self.exact.get(&address).into_iter().flatten();
        let mut fitting: Vec<_> = known.filter(|(_, owner)| accept(owner)).collect();
        fitting.sort_by_key(|(source, owner)| (*source, owner.node));
        if let Some(&&(surest, _)) = fitting.first() {
            let best = fitting.into_iter().filter(|(source, _)| *source == surest);
            return best.map(|(_, owner)| owner.clone()).collect();
        }
        let mut longest = None;
        let subnets = self.connected.matches(address).filter(|(_, owner)| accept(owner));
        let best = subnets.take_while(|(length, _)| *longest.get_or_insert(*length) == *length);
        best.map(|(_, owner)| owner.clone()).collect()
    }

    fn add(&mut self, address: IpAddr, source: Source, node: usize, place: Place) {
        if !is_link_local(address) {
            self.exact.entry(address).or_default().push((source, Owner { node, place }));
        }
    }

    fn add_assigned(&mut self, index: usize, node: &NodeTables<'_>) {
        for interface in &node.topology.interfaces {
            for prefix in &interface.addresses {
                let place =
                    if interface.is_host() { Place::Host } else { Place::Pod(pod_of(node, interface)) };
                self.add(prefix.address, Source::Assigned, index, place);
            }
        }
    }

    fn add_neighbors(&mut self, index: usize, node: &NodeTables<'_>) {
        for neighbor in &node.topology.neighbors {
            let (Some(device), Some(mac)) = (node.interface(neighbor.index), neighbor.mac) else { continue };
            if let Some(pod) = pod_behind(node, device, Some(mac)) {
                self.add(neighbor.address, Source::Neighbor, index, Place::Pod(pod));
            }
        }
    }

    fn add_routes(&mut self, index: usize, node: &NodeTables<'_>) {
        for route in &node.topology.routes {
            let device = route.output_index.and_then(|output| node.interface(output));
            let (Some(device), RouteType::Unicast, None) = (device, route.kind, route.gateway) else {
                continue;
            };
            let Some(pod) = pod_behind(node, device, None) else { continue };
            if route.destination.is_host() {
                self.add(route.destination.address, Source::HostRoute, index, Place::Pod(pod));
            } else if !is_link_local(route.destination.address) {
                self.connected.insert(route.destination, Owner { node: index, place: Place::Pod(pod) });
            }
        }
    }
}

/// The pod behind a bridge or a pod's veth; nothing behind devices that reach other machines.
fn pod_behind(node: &NodeTables<'_>, device: &Interface, mac: Option<MacAddress>) -> Option<Pod> {
    match node.kind(device) {
        InterfaceKind::Bridge => {
            let port = mac.and_then(|mac| node.port_of(mac, device.index));
            let is_tunnel = port.is_some_and(|port| port.overlay.is_some());
            let inside = mac.and_then(|mac| inside_with_mac(node, mac));
            let veth =
                port.map(|port| port.index).or_else(|| inside.and_then(|i| host_end(node, i)?.index.into()));
            let inside = inside.map(|i| (i.netns.clone(), i.index));
            (!is_tunnel).then_some(Pod { veth, bridge: Some(device.index), inside })
        }
        InterfaceKind::PodVeth | InterfaceKind::Veth => {
            let inside = mac.and_then(|mac| inside_with_mac(node, mac)).map(|i| (i.netns.clone(), i.index));
            Some(Pod { veth: Some(device.index), bridge: None, inside })
        }
        _ => None,
    }
}

fn inside_with_mac<'a>(node: &NodeTables<'a>, mac: MacAddress) -> Option<&'a Interface> {
    node.topology.interfaces.iter().find(|i| !i.is_host() && i.mac == Some(mac))
}

fn pod_of(node: &NodeTables<'_>, inside: &Interface) -> Pod {
    let veth = host_end(node, inside);
    Pod {
        veth: veth.map(|veth| veth.index),
        bridge: veth.and_then(|veth| veth.master_index),
        inside: Some((inside.netns.clone(), inside.index)),
    }
}

/// The other end of a pod's veth. Indices count per namespace, so both ends must name each other.
fn host_end<'a>(node: &NodeTables<'a>, inside: &Interface) -> Option<&'a Interface> {
    let veth = node.interface(inside.peer_index?)?;
    let is_veth = matches!(veth.kind, InterfaceKind::PodVeth | InterfaceKind::Veth);
    (is_veth && veth.peer_index == Some(inside.index)).then_some(veth)
}
