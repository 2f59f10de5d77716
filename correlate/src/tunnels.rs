//! What the packets themselves say about tunnels. A node's snapshot may be older or younger than the packets, taken
//! while its tunnel device was being replaced, or missing: then the packets are right.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use lastseen_packet::observation::{Overlay, OverlayKind};

use crate::domain::is_opaque;
use crate::flows::Flows;
use crate::network::{Role, Station};

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
    /// Distinct, in an order of their own.
    pub(crate) seen: BTreeSet<SeenTunnel>,
    /// Node by address of a tunnel's end.
    ends: HashMap<IpAddr, usize>,
    /// Ids that a node sent tunnel packets with.
    sent: BTreeMap<(usize, OverlayKind), BTreeSet<u32>>,
}

impl Tunnels {
    /// From the flows at the underlay devices. `holders` are the nodes of the addresses that snapshots know.
    pub(crate) fn new(flows: &Flows, stations: &[Station], holders: &HashMap<IpAddr, usize>) -> Self {
        let carried = || {
            flows.all.iter().filter_map(|flow| {
                let overlay = flow.key.overlay.filter(|overlay| !is_opaque(overlay.kind))?;
                Some((overlay, stations[usize::from(flow.point)]))
            })
        };
        let mut tunnels = Self { ends: ends(carried(), holders), ..Self::default() };
        for (overlay, station) in carried() {
            let Overlay { kind, id, port, source, destination } = overlay;
            let (sender, receiver) = (tunnels.end(source), tunnels.end(destination));
            tunnels.seen.insert(SeenTunnel { kind, id, port, sender, receiver });
            if station.role == Role::PhysicalOut && sender == Some(station.node) {
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
