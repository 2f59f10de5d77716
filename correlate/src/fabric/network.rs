//! The fabric of a job: every node's tables, who owns which address, and where the captured points are in it.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use lastseen_packet::observation::FlowKey;

use crate::evidence::flows::Flows;
use crate::fabric::domain::{Domain, Domains};
use crate::fabric::locate::{Locator, Owner, Place};
use crate::fabric::tables::NodeTables;
use crate::fabric::topology::{Direction, Interface, InterfaceKind, Topology};
use crate::fabric::tunnels::Tunnels;
use crate::infer::Tenancy;
use crate::input::{Job, Point};

/// What a point is to a path, in the order in which a packet from pod to pod meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Role {
    /// The sending pod's own interface.
    InsideOut,
    /// The host's end of its veth.
    PodIn,
    /// The bridge device, on the way up into routing.
    BridgeIn,
    /// The tunnel device, before encapsulation.
    OverlayOut,
    /// The underlay device.
    PhysicalOut,
    /// The underlay device of the receiving node.
    PhysicalIn,
    /// Its tunnel device, after decapsulation.
    OverlayIn,
    /// Its bridge device, on the way down from routing.
    BridgeOut,
    /// The host's end of the receiving pod's veth.
    PodOut,
    /// The receiving pod's own interface.
    InsideIn,
    /// Not known: neither the topology nor the direction tells.
    Unplaced,
}

impl Role {
    /// True for points a packet meets before it leaves its source node.
    pub(crate) fn is_sending(self) -> bool {
        self <= Self::PhysicalOut
    }

    /// True for points at which a pod's packets enter its node. A bridge that is the underlay's own is none for packets
    /// the node sends.
    pub(crate) fn is_leaving_pod(self) -> bool {
        matches!(self, Self::InsideOut | Self::PodIn | Self::BridgeIn)
    }

    /// True for the devices that carry tunnels.
    pub(crate) fn is_underlay(self) -> bool {
        matches!(self, Self::PhysicalOut | Self::PhysicalIn)
    }

    fn of(kind: InterfaceKind, is_inside: bool, direction: Option<Direction>) -> Self {
        use Direction::{In, Out};
        let Some(direction) = direction else { return Self::Unplaced };
        match (kind, direction) {
            _ if is_inside => {
                if direction == Out {
                    Self::InsideOut
                } else {
                    Self::InsideIn
                }
            }
            (InterfaceKind::PodVeth | InterfaceKind::Veth, In) => Self::PodIn,
            (InterfaceKind::PodVeth | InterfaceKind::Veth, Out) => Self::PodOut,
            (InterfaceKind::Bridge, In) => Self::BridgeIn,
            (InterfaceKind::Bridge, Out) => Self::BridgeOut,
            (InterfaceKind::Overlay, In) => Self::OverlayIn,
            (InterfaceKind::Overlay, Out) => Self::OverlayOut,
            (_, In) => Self::PhysicalIn,
            (_, Out) => Self::PhysicalOut,
        }
    }
}

/// A point with what the topology knows about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Station {
    pub(crate) node: usize,
    pub(crate) role: Role,
    /// What the interface is to a path, see [`NodeTables::kind`].
    pub(crate) kind: InterfaceKind,
    /// Interface index, absent where the topology does not have it.
    pub(crate) index: Option<u32>,
    /// Interface index as the topology has it, else as the point itself gave it.
    pub(crate) slot: u32,
}

/// The fabric.
#[derive(Debug)]
pub(crate) struct Network<'a> {
    pub(crate) tables: Vec<NodeTables<'a>>,
    pub(crate) domains: Domains,
    pub(crate) stations: Vec<Station>,
    pub(crate) tunnels: Tunnels,
    locator: Locator,
    /// Tenants as the packets show them, where there is no topology at all.
    tenancy: Option<Tenancy>,
    /// Node and interface by address; the first node where several hold one.
    holders: HashMap<IpAddr, (usize, &'a Interface)>,
    /// The interfaces of all pods were meant to be captured, see [`Job::named_interfaces`].
    pub(crate) captures_pods: bool,
    /// The filter names addresses or ports: it may match packets on one side of a translation only.
    pub(crate) hides_translations: bool,
    points: HashMap<(usize, &'a str, u32, Direction), usize>,
}

impl<'a> Network<'a> {
    pub(crate) fn new(job: &'a Job, flows: &Flows) -> Self {
        let tables: Vec<_> = job.nodes.iter().map(|node| NodeTables::new(&node.topology)).collect();
        let stations: Vec<_> = job.points.iter().map(|point| station(&tables, point)).collect();
        let holders = holders(&tables);
        let nodes = holders.iter().map(|(&address, &(node, _))| (address, node)).collect();
        let tunnels = Tunnels::new(flows, &stations, &nodes);
        let bystanders = job.nodes.iter().position(|node| node.is_bystander).unwrap_or(job.nodes.len());
        Self {
            points: points(job, &stations),
            domains: Domains::new(&tables, &tunnels, &nodes),
            locator: Locator::new(&tables, bystanders),
            tenancy: is_unmapped(job).then(|| Tenancy::new(flows)),
            holders,
            captures_pods: !job.named_interfaces,
            hides_translations: crate::translation::hidden::names_ends(&job.filter),
            tables,
            stations,
            tunnels,
        }
    }

    /// True if paths must be inferred from the packets.
    pub(crate) fn is_unmapped(&self) -> bool {
        self.tenancy.is_some()
    }

    /// The domain of a flow seen at a point.
    pub(crate) fn domain(&mut self, point: usize, flow: &FlowKey) -> Domain {
        let Station { node, index, .. } = self.stations[point];
        if let Some(tenancy) = &self.tenancy {
            return tenancy.domain(point, flow);
        }
        self.domains.of(&self.tables, node, index, flow)
    }

    /// The point on interface `index` of a namespace, if it was captured.
    pub(crate) fn point(&self, node: usize, netns: &str, index: u32, direction: Direction) -> Option<usize> {
        self.points.get(&(node, netns, index, direction)).copied()
    }

    /// Owners of `address` that belong to `domain`, where packets travel between `ends`.
    pub(crate) fn owners(&self, address: IpAddr, ends: (IpAddr, IpAddr), domain: Domain) -> Vec<Owner> {
        self.locator.owners(address, |owner| match &owner.place {
            Place::Host => true,
            Place::Pod(pod) => {
                let index = pod.bridge.or(pod.veth);
                index.is_none_or(|index| self.admits(owner.node, index, ends, domain))
            }
        })
    }

    /// True if `address` is a pod's in whatever tenant.
    pub(crate) fn is_pod_anywhere(&self, address: IpAddr) -> bool {
        let owners = self.locator.owners(address, |_| true);
        owners.iter().any(|owner| matches!(owner.place, Place::Pod(_)))
    }

    /// True if packets of `domain` between `ends` may be seen on interface `index` of `node`.
    pub(crate) fn admits(&self, node: usize, index: u32, ends: (IpAddr, IpAddr), domain: Domain) -> bool {
        self.domains.admits(&self.tables[node], node, index, ends, domain)
    }

    /// True if one node's underlay is several interfaces among `points`, so that each flow may take another.
    pub(crate) fn divides(&self, points: &[usize]) -> bool {
        let of_underlay = |point: &usize| {
            let Station { node, role, .. } = self.stations[*point];
            role.is_underlay().then_some((node, role))
        };
        let mut places = HashSet::new();
        points.iter().filter_map(of_underlay).any(|place| !places.insert(place))
    }

    /// The node whose own interface holds `address`, and that interface.
    pub(crate) fn holder(&self, address: IpAddr) -> Option<(usize, &'a Interface)> {
        self.holders.get(&address).copied()
    }

    /// The interface of `node` whose point has `role`, if it is the only one and the topology does not know it.
    pub(crate) fn unknown_interface(&self, node: usize, role: Role) -> Option<u32> {
        let mut there = self.stations.iter().filter(|station| station.node == node && station.role == role);
        let station = there.next().filter(|station| station.index.is_none())?;
        there.next().is_none().then_some(station.slot)
    }

    /// The tunnel device of `node` for packets of `domain`, preferring one that is up.
    pub(crate) fn overlay_of(&self, node: usize, domain: Domain) -> Option<&'a Interface> {
        let devices = self.tables[node].overlays();
        let fitting = devices.filter(|device| self.domains.of_device(node, device.index) == Some(domain));
        fitting.max_by_key(|device| (device.up, std::cmp::Reverse(device.index)))
    }
}

/// True if nothing is known of any node's network nor of any interface: capture files without a topology.
fn is_unmapped(job: &Job) -> bool {
    !job.points.is_empty()
        && job.nodes.iter().all(|node| node.topology == Topology::default())
        && job.points.iter().all(|point| point.kind == InterfaceKind::Unspecified)
}

/// Points by interface. One whose interface the topology does not know goes by its own index, unless that is taken.
fn points<'a>(job: &'a Job, stations: &[Station]) -> HashMap<(usize, &'a str, u32, Direction), usize> {
    let mut points = HashMap::new();
    for is_known in [true, false] {
        for (at, (point, station)) in job.points.iter().zip(stations).enumerate() {
            if let Some(direction) = point.direction
                && station.index.is_some() == is_known
            {
                points.entry((point.node, point.netns.as_str(), station.slot, direction)).or_insert(at);
            }
        }
    }
    points
}

fn holders<'a>(tables: &[NodeTables<'a>]) -> HashMap<IpAddr, (usize, &'a Interface)> {
    let mut holders = HashMap::new();
    for (node, tables) in tables.iter().enumerate() {
        for (address, interface) in tables.held() {
            holders.entry(address).or_insert((node, interface));
        }
    }
    holders
}

fn station(tables: &[NodeTables<'_>], point: &Point) -> Station {
    let node = &tables[point.node];
    let mut here =
        node.topology.interfaces.iter().filter(|i| i.netns == point.netns && i.name == point.interface);
    let exact = here.clone().find(|i| i.index == point.index);
    let interface = exact.or_else(|| here.next());
    let kind = interface.map_or(point.kind, |interface| node.kind(interface));
    Station {
        node: point.node,
        kind,
        role: Role::of(kind, !point.netns.is_empty(), point.direction),
        index: interface.map(|interface| interface.index),
        slot: interface.map_or(point.index, |interface| interface.index),
    }
}
