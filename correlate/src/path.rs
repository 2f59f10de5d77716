//! The points a packet should meet: from routes, neighbours, forwarding entries and bridges, so that a packet that
//! got nowhere still has a next point; completed by the points that saw it.

mod tunnel;

use std::collections::BTreeSet;
use std::net::IpAddr;

use lastseen_packet::observation::{Overlay, OverlayKind};

use crate::fabric::domain::{Domain, is_unknown};
use crate::fabric::locate::{Owner, Place, Pod};
use crate::fabric::network::{Network, Role};
use crate::fabric::topology::{Direction, Interface, InterfaceKind};

/// Most points on one path.
pub(crate) const MAX_HOPS: usize = 32;

/// The expected way of the packets between two addresses of a domain.
#[allow(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Path {
    /// Captured points in the order packets meet them.
    pub(crate) points: Vec<usize>,
    /// Node of the source address.
    pub(crate) source_node: Option<usize>,
    /// Node of the destination address, or the one the tunnel leads to.
    pub(crate) destination_node: Option<usize>,
    /// Tunnel device on the sending node: its index.
    pub(crate) overlay: Option<u32>,
    /// The destination's own interface was meant to be captured and is not: the last point is not the end.
    pub(crate) is_cut_short: bool,
    /// The packets' tenant is not known, and some node knows a pod by their destination: they may go on to it.
    pub(crate) is_tenant_unknown: bool,
    /// Packets may be translated beyond the last point, and nothing was recognised there.
    pub(crate) is_open: bool,
    /// Several points saw the packets and nothing tells their order.
    pub(crate) is_unordered: bool,
}

/// What was seen of the packets between two addresses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Points that saw them, ascending.
    pub(crate) points: Vec<usize>,
    /// Tunnels they were seen in.
    pub(crate) carriers: BTreeSet<Overlay>,
}

/// How packets leave a node.
struct Exit<'a> {
    device: Option<&'a Interface>,
    tunnel: Option<Tunnel>,
    next_hop: IpAddr,
    /// The tunnel is a port of the pod's bridge: the frame never reaches the bridge device.
    is_bridged: bool,
}

/// The tunnel packets leave a node in.
#[derive(Clone, Copy)]
struct Tunnel {
    kind: OverlayKind,
    port: u16,
    /// Index of its device.
    device: Option<u32>,
}

struct Builder<'n, 'a> {
    network: &'n Network<'a>,
    domain: Domain,
    ends: (IpAddr, IpAddr),
    seen: &'n [usize],
    carriers: &'n BTreeSet<Overlay>,
    path: Path,
}

/// The path from `source` to `destination` in `domain`, where so much of their packets was seen.
pub(crate) fn find(
    network: &Network<'_>,
    domain: Domain,
    source: IpAddr,
    destination: IpAddr,
    seen: &Seen,
) -> Path {
    let Seen { points, carriers } = seen;
    let ends = (source, destination);
    if source.is_unspecified() {
        // Whoever has no address yet sends from this one, so that these are the packets of many.
        let points = points.first().copied().into_iter().collect();
        return Path { points, is_unordered: true, ..Path::default() };
    }
    let mut builder = Builder { network, domain, ends, seen: points, carriers, path: Path::default() };
    let (from, to) = builder.lay();
    builder.complete(from.as_ref(), to.as_ref());
    builder.ensure_seen();
    builder.path.is_cut_short = builder.is_cut_short(to.as_ref());
    builder.path
}

/// The path of packets that no point saw, as the tables have it.
pub(crate) fn expect(network: &Network<'_>, domain: Domain, source: IpAddr, destination: IpAddr) -> Path {
    let (ends, carriers) = ((source, destination), BTreeSet::new());
    let mut builder =
        Builder { network, domain, ends, seen: &[], carriers: &carriers, path: Path::default() };
    let (_, to) = builder.lay();
    builder.path.is_cut_short = builder.is_cut_short(to.as_ref());
    builder.path
}

impl<'a> Builder<'_, 'a> {
    /// Lays the path as the tables have it between the owners of source and destination, which it returns.
    fn lay(&mut self) -> (Option<Owner>, Option<Owner>) {
        let (source, destination) = self.ends;
        let from = self.end(source, Role::is_sending).or_else(|| self.encapsulator());
        let to = self.end(destination, |role| !role.is_sending());
        self.path.source_node = from.as_ref().map(|owner| owner.node);
        self.path.destination_node = to.as_ref().map(|owner| owner.node);
        if let Some(from) = &from {
            self.depart(from, to.as_ref(), destination);
        } else if let Some(to) = &to {
            self.deliver(to, None);
        }
        (from, to)
    }

    /// The owner of an address. The pod interface that saw the packets says more than any table; among several
    /// candidates the node that saw them is meant.
    fn end(&self, address: IpAddr, side: impl Fn(Role) -> bool) -> Option<Owner> {
        let mut owners = self.network.owners(address, self.ends, self.domain);
        let at_pod = self.seen.iter().map(|&point| self.network.stations[point]);
        let mut at_pod = at_pod.filter(|station| side(station.role) && is_veth(station.role));
        if let (Some(station), None) = (at_pod.next(), at_pod.next()) {
            owners.retain(|owner| owner.node == station.node);
            return Some(at_veth(self.network, station.node, station.index, owners.into_iter().next()));
        }
        if owners.len() > 1 {
            let saw = |owner: &Owner| {
                let mut stations = self.seen.iter().map(|&point| self.network.stations[point]);
                stations.any(|station| station.node == owner.node && side(station.role))
            };
            owners.retain(saw);
        }
        let first = owners.first()?.clone();
        owners.iter().all(|owner| owner.node == first.node).then_some(first)
    }

    fn push(&mut self, node: usize, index: u32, direction: Direction) {
        if self.network.admits(node, index, self.ends, self.domain) {
            self.push_in("", node, index, direction);
        }
    }

    fn push_in(&mut self, netns: &str, node: usize, index: u32, direction: Direction) {
        if let Some(point) = self.network.point(node, netns, index, direction)
            && !self.path.points.contains(&point)
            && self.path.points.len() < MAX_HOPS
        {
            self.path.points.push(point);
        }
    }

    /// From the source to the edge of its node, and on.
    fn depart(&mut self, from: &Owner, to: Option<&Owner>, destination: IpAddr) {
        let pod = pod_of(from);
        if let Some((netns, index)) = pod.and_then(|pod| pod.inside.as_ref()) {
            self.push_in(netns, from.node, *index, Direction::Out);
        }
        if let Some(veth) = pod.and_then(|pod| pod.veth) {
            self.push(from.node, veth, Direction::In);
        }
        let bridge = pod.and_then(|pod| pod.bridge);
        match to {
            Some(to) if to.node == from.node => self.stay(from.node, bridge, to),
            _ => self.leave(from, bridge, to, destination),
        }
    }

    /// Source and destination are on one node. Frames between ports of one bridge do not pass the bridge device.
    fn stay(&mut self, node: usize, bridge: Option<u32>, to: &Owner) {
        let is_bridged = bridge.is_some() && pod_of(to).and_then(|pod| pod.bridge) == bridge;
        if let (Some(bridge), false) = (bridge, is_bridged) {
            self.push(node, bridge, Direction::In);
        }
        self.deliver(to, bridge.filter(|_| is_bridged));
    }

    fn leave(&mut self, from: &Owner, bridge: Option<u32>, to: Option<&Owner>, destination: IpAddr) {
        let exit = self.exit(from.node, bridge, to, destination);
        if let (Some(bridge), false) = (bridge, exit.is_bridged) {
            if self.may_hide(from, to) && !self.saw(from.node, bridge, Direction::In) {
                self.path.is_open = true;
                return;
            }
            self.push(from.node, bridge, Direction::In);
        }
        let carried = || self.carrier(from.node).map(|carrier| self.carried_by(from.node, carrier));
        match exit.tunnel.or_else(carried) {
            Some(tunnel) => self.tunnel(from.node, tunnel, &exit, to, destination),
            None => self.route_bare(from, &exit, to),
        }
    }

    /// How `node` sends packets to `destination`.
    ///
    /// A missing, special or default route does not say that a pod on another node is reached without the tunnel: a
    /// fabric that tunnels this domain meant to tunnel it.
    fn exit(&self, node: usize, bridge: Option<u32>, to: Option<&Owner>, destination: IpAddr) -> Exit<'a> {
        let tables = &self.network.tables[node];
        let route = tables.route(destination);
        let device = route.and_then(|route| tables.interface(route.output_index?));
        let next_hop = route.and_then(|route| route.gateway).unwrap_or(destination);
        let is_default = route.is_none_or(|route| route.destination.length == 0);
        let to_pod = to.is_some_and(|to| pod_of(to).is_some());
        let port = bridge.and_then(|bridge| tables.overlay_port(bridge)).filter(|_| to_pod);
        if let Some(port) = port {
            return Exit { device: None, tunnel: Tunnel::of(port), next_hop: destination, is_bridged: true };
        }
        let is_own =
            |device: &&Interface| self.network.domains.of_device(node, device.index) == Some(self.domain);
        let overlay = device.filter(|device| device.overlay.is_some());
        let is_foreign = overlay.is_some_and(|device| !is_own(&device));
        let overlay = overlay.filter(is_own);
        let meant =
            || self.network.overlay_of(node, self.domain).filter(|_| is_foreign || to_pod && is_default);
        let tunnel = overlay.or_else(meant).and_then(Tunnel::of);
        Exit { device, tunnel, next_hop, is_bridged: false }
    }

    /// Without a tunnel. A pod's packets to anything but a pod may be translated on the way out, and then they are no
    /// longer these packets: what lies beyond is part of the path only if it saw them as they were.
    fn route_bare(&mut self, from: &Owner, exit: &Exit<'a>, to: Option<&Owner>) {
        self.path.is_tenant_unknown =
            to.is_none() && is_unknown(self.domain) && self.network.is_pod_anywhere(self.ends.1);
        let Some(device) = exit.device else {
            self.path.is_open = self.may_hide(from, to);
            return;
        };
        let is_translated = pod_of(from).is_some() && to.is_none_or(|to| pod_of(to).is_none());
        if is_translated && !self.saw(from.node, device.index, Direction::Out) {
            let is_captured = self.network.point(from.node, "", device.index, Direction::Out).is_some();
            self.path.is_open = is_captured && self.network.hides_translations;
            return;
        }
        // In a fabric of several tenants bare underlay packets are nobody's, so they cannot continue a tenant's path.
        if self.domain != crate::fabric::domain::SHARED {
            return;
        }
        self.push(from.node, device.index, Direction::Out);
        let Some(to) = to else { return };
        if let Some(entry) = self.entry(to, exit) {
            self.push(to.node, entry, Direction::In);
        }
        self.deliver(to, None);
    }

    /// True if a pod sends to an address that nobody owns and the filter may not match what comes of it: the node
    /// replaces the address of a service at once, in the bridge where it filters bridged packets.
    fn may_hide(&self, from: &Owner, to: Option<&Owner>) -> bool {
        self.network.hides_translations
            && pod_of(from).is_some()
            && to.is_none()
            && !self.ends.1.is_multicast()
    }

    fn saw(&self, node: usize, index: u32, direction: Direction) -> bool {
        self.network.point(node, "", index, direction).is_some_and(|point| self.seen.contains(&point))
    }

    /// The interface by which routed packets enter the node of `to`: the one that holds the next hop.
    fn entry(&self, to: &Owner, exit: &Exit<'_>) -> Option<u32> {
        let tables = &self.network.tables[to.node];
        let holder = tables.holder_of(exit.next_hop).filter(|i| tables.kind(i) == InterfaceKind::Physical);
        let physical = || {
            tables
                .topology
                .interfaces
                .iter()
                .find(|i| i.is_host() && tables.kind(i) == InterfaceKind::Physical)
        };
        holder.or_else(physical).map(|interface| interface.index)
    }

    /// From routing, or from a port of bridge `arrived_on`, to the destination.
    fn deliver(&mut self, to: &Owner, arrived_on: Option<u32>) {
        let Some(pod) = pod_of(to) else { return };
        if let Some(bridge) = pod.bridge.filter(|bridge| arrived_on != Some(*bridge)) {
            self.push(to.node, bridge, Direction::Out);
        }
        if let Some(veth) = pod.veth {
            self.push(to.node, veth, Direction::Out);
        }
        if let Some((netns, index)) = &pod.inside {
            self.push_in(netns, to.node, *index, Direction::In);
        }
    }

    /// Adds points that saw the packets where the topology left a place open.
    fn complete(&mut self, from: Option<&Owner>, to: Option<&Owner>) {
        for &point in self.seen {
            if !self.path.points.contains(&point) && self.fits(point, from, to) {
                self.insert(point);
            }
        }
    }

    fn fits(&self, point: usize, from: Option<&Owner>, to: Option<&Owner>) -> bool {
        let station = self.network.stations[point];
        let end = if station.role.is_sending() { from } else { to };
        let node = if station.role.is_sending() { self.path.source_node } else { self.path.destination_node };
        let veth_known = end.and_then(pod_of).is_some_and(|pod| pod.veth.is_some());
        let stations = self.path.points.iter().map(|&other| self.network.stations[other]);
        let mut same_place =
            stations.filter(|other| other.node == station.node && other.role == station.role);
        node == Some(station.node) && !(is_veth(station.role) && veth_known) && same_place.next().is_none()
    }

    fn insert(&mut self, point: usize) {
        if self.path.points.len() < MAX_HOPS {
            let role = self.network.stations[point].role;
            let at = self.path.points.partition_point(|&other| self.network.stations[other].role < role);
            self.path.points.insert(at, point);
        }
    }

    /// Where nobody owns either address, or none of the expected points saw a packet that others saw, the order is that
    /// of the roles, if every role was seen once. What leaves by an interface and what comes in by it are not one packet:
    /// every node sends the same to a group.
    fn ensure_seen(&mut self) {
        if self.path.points.iter().any(|point| self.seen.contains(point)) {
            return;
        }
        let role = |point: &usize| self.network.stations[*point].role;
        let mut points = self.seen.to_vec();
        points.sort_by_key(role);
        if let [out, into] = points[..]
            && self.is_forwarding(into, out)
        {
            points = vec![into, out];
        }
        let is_return = |pair: &[usize]| {
            let [before, after] = [pair[0], pair[1]].map(|point| self.network.stations[point]);
            (before.node, before.slot) == (after.node, after.slot)
        };
        self.path.is_unordered =
            points.windows(2).any(|pair| role(&pair[0]) == role(&pair[1]) || is_return(pair));
        points.truncate(if self.path.is_unordered { 1 } else { MAX_HOPS });
        self.path.points = points;
    }

    /// True if a node takes packets in by one underlay device and lets them out by another: it is a router on their way.
    fn is_forwarding(&self, into: usize, out: usize) -> bool {
        let [into, out] = [into, out].map(|point| self.network.stations[point]);
        (into.role, out.role) == (Role::PhysicalIn, Role::PhysicalOut)
            && into.node == out.node
            && into.slot != out.slot
    }

    /// True if a pod's interface lies beyond the last point: the pods' interfaces were meant to be captured, and no
    /// point of the path is one that the path ends at. A node without a snapshot has its pods somewhere.
    fn is_cut_short(&self, to: Option<&Owner>) -> bool {
        let Some(node) = self.path.destination_node else { return false };
        let is_pod = match to.map(pod_of) {
            Some(pod) => pod.is_some_and(|pod| pod.veth.is_some() || pod.inside.is_none()),
            None => self.network.tables[node].topology.interfaces.is_empty(),
        };
        let mut roles = self.path.points.iter().map(|&point| self.network.stations[point].role);
        is_pod && !roles.any(is_pod_end) && self.network.captures_pods
    }
}

/// True where a path to a pod ends.
fn is_pod_end(role: Role) -> bool {
    matches!(role, Role::PodOut | Role::InsideIn)
}

fn is_veth(role: Role) -> bool {
    matches!(role, Role::PodIn | Role::PodOut)
}

fn pod_of(owner: &Owner) -> Option<&Pod> {
    match &owner.place {
        Place::Pod(pod) => Some(pod),
        Place::Host => None,
    }
}

/// The end behind the veth that saw the packets, with what the tables knew about it.
fn at_veth(network: &Network<'_>, node: usize, index: Option<u32>, known: Option<Owner>) -> Owner {
    let inside = known.and_then(|owner| match owner.place {
        Place::Pod(pod) if pod.veth == index => pod.inside,
        _ => None,
    });
    let bridge = index.and_then(|index| network.tables[node].interface(index)?.master_index);
    Owner { node, place: Place::Pod(Pod { veth: index, bridge, inside }) }
}
