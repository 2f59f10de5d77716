//! The part of a path that packets travel inside a tunnel.

use std::cmp::Reverse;
use std::net::IpAddr;

use lastseen_packet::observation::Overlay;

use super::{Builder, Exit, Tunnel, pod_of};
use crate::fabric::locate::{Owner, Place, Pod};
use crate::fabric::network::Role;
use crate::fabric::topology::{Direction, Interface, InterfaceKind, MacAddress};

impl Tunnel {
    pub(super) fn of(device: &Interface) -> Option<Self> {
        let overlay = device.overlay?;
        Some(Self { kind: overlay.kind, port: overlay.port, device: Some(device.index) })
    }
}

impl<'a> Builder<'_, 'a> {
    /// The tunnel in which the packets were seen to come from `node`.
    pub(super) fn carrier(&self, node: usize) -> Option<&Overlay> {
        self.carriers.iter().find(|carrier| self.network.tunnels.end(carrier.source) == Some(node))
    }

    /// The tunnel of a node whose tables do not lead into it, but whose packets were seen in it.
    pub(super) fn carried_by(&self, node: usize, carrier: &Overlay) -> Tunnel {
        let tunnel = Tunnel { kind: carrier.kind, port: carrier.port, device: None };
        Tunnel { device: self.tunnel_device(node, tunnel, Role::OverlayOut), ..tunnel }
    }

    /// The node that put the packets into a tunnel, where nobody owns their source address.
    pub(super) fn encapsulator(&self) -> Option<Owner> {
        let mut nodes = self.carriers.iter().map(|carrier| self.network.tunnels.end(carrier.source));
        let node = nodes.next()??;
        nodes.all(|other| other == Some(node)).then(|| Owner { node, place: Place::Pod(Pod::default()) })
    }

    /// Through the tunnel: out of its device and the underlay's, into those of the node it leads to.
    pub(super) fn tunnel(
        &mut self,
        node: usize,
        tunnel: Tunnel,
        exit: &Exit<'a>,
        to: Option<&Owner>,
        destination: IpAddr,
    ) {
        let tables = &self.network.tables[node];
        self.path.overlay = tunnel.device;
        if let Some(device) = tunnel.device {
            self.push(node, device, Direction::Out);
        }
        let device = tunnel.device.and_then(|device| tables.interface(device));
        let programmed = device.and_then(|device| self.remote(node, device, exit, destination));
        let remote = programmed.or_else(|| self.carrier(node).map(|carrier| carrier.destination));
        let way = remote.and_then(|remote| tables.route(remote)?.output_index);
        let unknown = || self.network.unknown_interface(node, Role::PhysicalOut);
        let told = device.and_then(|device| tables.underlay_of(device)).or(way).or_else(unknown);
        let underlay = self.seeing(node, Role::PhysicalOut, told);
        if let Some(underlay) = underlay {
            self.push(node, underlay, Direction::Out);
        }
        let end = remote.and_then(|remote| self.network.tunnels.end(remote));
        let Some(arrival) = end.or(to.map(|to| to.node)) else { return };
        self.path.destination_node = Some(arrival);
        let device = self.tunnel_device(arrival, tunnel, Role::OverlayIn);
        let left_by = underlay.and_then(|underlay| tables.interface(underlay));
        self.arrive(arrival, device, remote, left_by);
        if let Some(to) = to.filter(|to| to.node == arrival) {
            let device = device.and_then(|device| self.network.tables[arrival].interface(device));
            self.deliver(to, device.and_then(|device| device.master_index));
        }
    }

    /// The underlay address the tunnel packet goes to: forwarding entry of the next hop's MAC address, the device's
    /// fixed remote, or the next hop itself where tunnels have no MAC addresses.
    fn remote(
        &self,
        node: usize,
        device: &Interface,
        exit: &Exit<'_>,
        destination: IpAddr,
    ) -> Option<IpAddr> {
        let tables = &self.network.tables[node];
        let neighbor = tables.neighbor(exit.next_hop, device.index).and_then(|neighbor| neighbor.mac);
        let mac = if exit.is_bridged { self.mac_of(destination) } else { neighbor };
        let learned = mac.and_then(|mac| tables.remote_of(mac, device.index));
        let fixed = device.overlay.and_then(|overlay| overlay.remote);
        let is_underlay = self.network.holder(exit.next_hop).is_some_and(|(holder, _)| holder != node);
        learned.or(fixed).or((device.mac.is_none() && is_underlay).then_some(exit.next_hop))
    }

    /// The MAC address of a pod, from whichever node can see its interface.
    fn mac_of(&self, address: IpAddr) -> Option<MacAddress> {
        let owners = self.network.owners(address, self.ends, self.domain);
        let inside = owners.iter().find_map(|owner| Some((owner.node, pod_of(owner)?.inside.as_ref()?)));
        let (node, (netns, index)) = inside?;
        let interfaces = &self.network.tables[node].topology.interfaces;
        interfaces.iter().find(|i| i.netns == *netns && i.index == *index)?.mac
    }

    /// The device of a node that packets in `tunnel` come from or are meant for: that of their domain, else one of the
    /// same kind, rather of the same port, else one that is captured and that the snapshot does not have.
    fn tunnel_device(&self, node: usize, tunnel: Tunnel, role: Role) -> Option<u32> {
        let is_of_kind = |device: &&Interface| device.overlay.is_some_and(|o| o.kind == tunnel.kind);
        let rank = |device: &&Interface| {
            let is_of_port = device.overlay.is_some_and(|o| o.port == tunnel.port);
            (is_of_port, device.up, Reverse(device.index))
        };
        let of_kind = || self.network.tables[node].overlays().filter(is_of_kind).max_by_key(rank);
        let known = self.network.overlay_of(node, self.domain).filter(is_of_kind).or_else(of_kind);
        known.map(|device| device.index).or_else(|| self.network.unknown_interface(node, role))
    }

    /// The underlay device of `node` that saw the packets, where the one that tables tell of did not and one other did: a
    /// node may have several underlays, and which one a flow takes no table says.
    fn seeing(&self, node: usize, role: Role, told: Option<u32>) -> Option<u32> {
        let stations = self.seen.iter().map(|&point| self.network.stations[point]);
        let here = stations.filter(|station| station.node == node && station.role == role);
        let mut seeing: Vec<_> = here.map(|station| station.slot).collect();
        seeing.dedup();
        match seeing[..] {
            [only] if told != Some(only) => Some(only),
            _ => told,
        }
    }

    /// Into a node. Its tunnel device is expected to see packets of another id too: it is there that they vanish.
    ///
    /// With several underlays they come in where they are addressed to, or by the network that they left by.
    fn arrive(
        &mut self,
        node: usize,
        device: Option<u32>,
        remote: Option<IpAddr>,
        left_by: Option<&Interface>,
    ) {
        let tables = &self.network.tables[node];
        let known = device.and_then(|device| tables.interface(device));
        let is_physical =
            |index: &u32| tables.interface(*index).is_some_and(|i| tables.kind(i) == InterfaceKind::Physical);
        let holder = remote.and_then(|remote| tables.holder_of(remote)).map(|interface| interface.index);
        let neighbor = || left_by.and_then(|interface| tables.on_network_of(interface)).map(|i| i.index);
        let unknown = || self.network.unknown_interface(node, Role::PhysicalIn);
        let addressed = holder.filter(is_physical);
        let bound = known.and_then(|device| tables.underlay_of(device)).or_else(neighbor);
        let told = addressed.or(bound).or(holder).or_else(unknown);
        let underlay = self.seeing(node, Role::PhysicalIn, told);
        if let Some(underlay) = underlay {
            self.push(node, underlay, Direction::In);
        }
        if let Some(device) = device {
            self.push_in("", node, device, Direction::In);
        }
    }
}
