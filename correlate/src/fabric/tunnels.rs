//! What the packets themselves say about tunnels. A node's snapshot may be older or younger than the packets, taken
//! while its tunnel device was being replaced, or missing: then the packets are right.
//!
//! A pod can send whatever looks like a tunnel packet, and a translation on its node makes it look like the node's own.
//! So a packet tells of a node's tunnels only if the node's tunnel device saw what is in it, and no pod of the node sent
//! it. Whoever holds an address of the underlay, and pods whose own interfaces are not captured, can still forge both:
//! that is why no packet makes one tenant of two that snapshots know.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use lastseen_packet::observation::{FlowKey, Overlay, OverlayKind};

use crate::evidence::flows::{Flow, Flows};
use crate::fabric::domain::is_opaque;
use crate::fabric::network::{Role, Station};

/// A tunnel as its outer headers show it, and the nodes at its ends where they are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SeenTunnel {
    pub(crate) kind: OverlayKind,
    pub(crate) id: u32,
    pub(crate) port: u16,
    pub(crate) sender: Option<usize>,
    pub(crate) receiver: Option<usize>,
}

/// Every tunnel that packets were seen in.
#[derive(Debug, Default)]
pub(crate) struct Tunnels {
    /// At underlay devices and not sent by a pod. Distinct, in an order of their own.
    pub(crate) seen: BTreeSet<SeenTunnel>,
    /// Those of them that the sender's tunnel device made.
    pub(crate) made: BTreeSet<SeenTunnel>,
    /// Node by address of a tunnel's end.
    ends: HashMap<IpAddr, usize>,
    /// Ids that a node's tunnel devices made packets with.
    sent: BTreeMap<(usize, OverlayKind), BTreeSet<u32>>,
}

impl Tunnels {
    /// From the flows at all devices. `holders` are the nodes of the addresses that snapshots know.
    pub(crate) fn new(flows: &Flows, stations: &[Station], holders: &HashMap<IpAddr, usize>) -> Self {
        let origins = Origins::new(flows, stations);
        let carried = || {
            let carried = carried(flows, stations).filter(|(_, station, _)| station.role.is_underlay());
            carried.filter(|(overlay, station, key)| !origins.is_of_pod(station.node, overlay, key))
        };
        let ends = ends(carried().map(|(overlay, station, _)| (overlay, station)), holders);
        let mut tunnels = Self { ends, ..Self::default() };
        for (overlay, station, key) in carried() {
            let Overlay { kind, id, port, source, destination } = overlay;
            let (sender, receiver) = (tunnels.end(source), tunnels.end(destination));
            if sender.is_some_and(|sender| origins.is_of_pod(sender, &overlay, key)) {
                continue;
            }
            let seen = SeenTunnel { kind, id, port, sender, receiver };
            tunnels.seen.insert(seen);
            let is_own = station.role == Role::PhysicalOut && sender == Some(station.node);
            if is_own && origins.was_encapsulated(station.node, key) {
                tunnels.made.insert(seen);
                tunnels.sent.entry((station.node, kind)).or_default().insert(id);
            }
        }
        tunnels
    }

    /// The node a tunnel's end is on.
    pub(crate) fn end(&self, address: IpAddr) -> Option<usize> {
        self.ends.get(&address).copied()
    }

    /// Ids with which `node` sent tunnel packets, ascending.
    pub(crate) fn sent(&self, node: usize, kind: OverlayKind) -> impl Iterator<Item = u32> + use<'_> {
        self.sent.get(&(node, kind)).into_iter().flatten().copied()
    }

    /// True if `node` sent tunnel packets with that id.
    pub(crate) fn sends(&self, node: usize, kind: OverlayKind, id: u32) -> bool {
        self.sent.get(&(node, kind)).is_some_and(|ids| ids.contains(&id))
    }
}

/// Flows that were seen in a tunnel which can be looked into, where, and in which.
fn carried<'f>(
    flows: &'f Flows,
    stations: &'f [Station],
) -> impl Iterator<Item = (Overlay, Station, &'f FlowKey)> {
    flows.all.iter().filter_map(|flow| {
        let overlay = flow.key.overlay.filter(|overlay| !is_opaque(overlay.kind))?;
        Some((overlay, stations[usize::from(flow.point)], &flow.key))
    })
}

/// Where tunnel packets come from.
struct Origins {
    /// Node and flow at the tunnel devices of sending nodes.
    encapsulated: HashSet<(usize, FlowKey)>,
    /// Node and flow, with the kind and id of the tunnel that pods sent it in. Addresses may be translated.
    of_pods: HashSet<(usize, OverlayKind, u32, FlowKey)>,
}

impl Origins {
    fn new(flows: &Flows, stations: &[Station]) -> Self {
        let entering = |flow: &Flow| {
            let station = stations[usize::from(flow.point)];
            (station.role == Role::OverlayOut).then_some((station.node, flow.key))
        };
        let sent = carried(flows, stations).filter(|(_, station, _)| station.role.is_leaving_pod());
        Self {
            encapsulated: flows.all.iter().filter_map(entering).collect(),
            of_pods: sent.map(|(o, station, key)| (station.node, o.kind, o.id, inner(key))).collect(),
        }
    }

    fn was_encapsulated(&self, node: usize, key: &FlowKey) -> bool {
        self.encapsulated.contains(&(node, inner(key)))
    }

    fn is_of_pod(&self, node: usize, overlay: &Overlay, key: &FlowKey) -> bool {
        self.of_pods.contains(&(node, overlay.kind, overlay.id, inner(key)))
    }
}

/// What is in the tunnel.
fn inner(key: &FlowKey) -> FlowKey {
    FlowKey { overlay: None, ..*key }
}

/// An address is on the node that its packets leave and do not enter, or that packets to it enter and do not leave:
/// on a router on the way they do both.
fn ends(
    carried: impl Iterator<Item = (Overlay, Station)>,
    holders: &HashMap<IpAddr, usize>,
) -> HashMap<IpAddr, usize> {
    let (mut own, mut passing) = (BTreeSet::new(), BTreeSet::new());
    for (overlay, Station { node, role, .. }) in carried {
        let (here, beyond) = match role {
            Role::PhysicalOut => (overlay.source, overlay.destination),
            Role::PhysicalIn => (overlay.destination, overlay.source),
            _ => continue,
        };
        own.insert((here, node));
        passing.insert((beyond, node));
    }
    let mut candidates: BTreeMap<IpAddr, Vec<usize>> = BTreeMap::new();
    for (address, node) in own.difference(&passing) {
        candidates.entry(*address).or_default().push(*node);
    }
    let mut ends = holders.clone();
    for (address, nodes) in candidates {
        if let [node] = nodes[..] {
            ends.entry(address).or_insert(node);
        }
    }
    ends
}
