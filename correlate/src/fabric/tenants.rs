//! Tenants of a fabric: which tunnel ids belong together, from the tunnel devices and from the packets.
//!
//! Ids that some snapshot knows are made one by snapshots alone. Packets only place ids that no snapshot knows, and only
//! where all of them say the same tenant: so nothing that is sent can bring two tenants together.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use lastseen_packet::observation::OverlayKind;

use crate::fabric::domain::{Domain, is_opaque};
use crate::fabric::tables::NodeTables;
use crate::fabric::topology::{Interface, OverlayDevice};
use crate::fabric::tunnels::{SeenTunnel, Tunnels};

/// A node that sends with more ids than this that no snapshot knows is not misconfigured: they place nothing.
const STRANGE_IDS: usize = 64;

type TunnelId = (OverlayKind, u32);

/// Tunnel ids of the fabric, numbered from 1. Tunnels without an id separate nobody and belong to the first tenant.
/// `holders` are the nodes of the addresses that snapshots know.
pub(crate) fn tenants(
    nodes: &[NodeTables<'_>],
    tunnels: &Tunnels,
    holders: &HashMap<IpAddr, usize>,
) -> HashMap<TunnelId, Domain> {
    let mut tenants = of_devices(nodes, holders);
    place_made(nodes, tunnels, &mut tenants);
    adopt_unknown(nodes, tunnels, &mut tenants);
    renumber(&mut tenants);
    tenants
}

/// The ids of all tunnel devices, those of a mismatch joined.
fn of_devices(nodes: &[NodeTables<'_>], holders: &HashMap<IpAddr, usize>) -> HashMap<TunnelId, Domain> {
    let devices = nodes.iter().flat_map(NodeTables::overlays).filter_map(|i| i.overlay);
    let ids: BTreeSet<_> = devices.map(|overlay| (overlay.kind, overlay.id)).collect();
    let mut numbers = HashMap::new();
    let mut groups = Groups::default();
    let first = groups.make();
    let mut next = first;
    for (kind, id) in ids {
        let separates = id != 0 && !is_opaque(kind);
        numbers.insert((kind, id), if separates { next } else { first });
        if separates {
            next = groups.make();
        }
    }
    for (one, other) in mismatched(nodes, holders) {
        groups.join(numbers[&one], numbers[&other]);
    }
    numbers.into_iter().map(|(id, number)| (id, groups.find(number) as Domain + 1)).collect()
}

/// Two ids are one tenant if a tunnel is aimed at a node that lacks its id but has one other tunnel of its kind: a
/// configuration error must not look like two tenants.
fn mismatched(nodes: &[NodeTables<'_>], holders: &HashMap<IpAddr, usize>) -> Vec<(TunnelId, TunnelId)> {
    let only_devices: Vec<_> = nodes.iter().map(only_devices).collect();
    let mut pairs = Vec::new();
    for node in nodes {
        for (device, target) in aimed(node, holders) {
            let Some(own) = node.interface(device).and_then(|device| device.overlay) else { continue };
            let Some(Some(other)) = only_devices[target].get(&own.kind) else { continue };
            // A node that has both has two tenants.
            if other.id != own.id && !node.has_tunnel(other.kind, other.id) {
                pairs.push(((own.kind, own.id), (other.kind, other.id)));
            }
        }
    }
    pairs
}

/// The device of each kind of which a node has just one.
fn only_devices(node: &NodeTables<'_>) -> BTreeMap<OverlayKind, Option<OverlayDevice>> {
    let mut devices = BTreeMap::new();
    for device in node.overlays().filter_map(|i| i.overlay) {
        devices.entry(device.kind).and_modify(|only| *only = None).or_insert(Some(device));
    }
    devices
}

/// Tunnel devices of a node, with the nodes they send to.
fn aimed(node: &NodeTables<'_>, holders: &HashMap<IpAddr, usize>) -> BTreeSet<(u32, usize)> {
    let entries = node.topology.forwarding.iter().filter_map(|entry| Some((entry.index, entry.remote?)));
    let fixed = |device: &Interface| Some((device.index, device.overlay?.remote?));
    let remotes = entries.chain(node.overlays().filter_map(fixed));
    remotes.filter_map(|(device, remote)| Some((device, *holders.get(&remote)?))).collect()
}

/// An id that no snapshot knows is of the tenant of the devices that stand in for it at the ends of its tunnel, if that
/// is one: the id was changed on one of the nodes, or since its snapshot was taken.
fn place_made(nodes: &[NodeTables<'_>], tunnels: &Tunnels, tenants: &mut HashMap<TunnelId, Domain>) {
    let mut places: BTreeMap<TunnelId, BTreeSet<Domain>> = BTreeMap::new();
    for seen in strange(tunnels.made.iter().filter(|seen| seen.id != 0), tenants) {
        for end in [seen.sender, seen.receiver].into_iter().flatten() {
            let known = stand_in(nodes, tunnels, seen, end).and_then(|id| tenants.get(&(seen.kind, id)));
            places.entry((seen.kind, seen.id)).or_default().extend(known);
        }
    }
    for (id, places) in places {
        tenants.extend(only(places.into_iter()).map(|tenant| (id, tenant)));
    }
}

/// Where nothing speaks of several tenants, a node whose snapshot has no tunnel device at all sends in the one there is.
fn adopt_unknown(nodes: &[NodeTables<'_>], tunnels: &Tunnels, tenants: &mut HashMap<TunnelId, Domain>) {
    if only(tenants.values().copied()).is_none() && !tenants.is_empty() {
        return;
    }
    let tenant = tenants.values().next().copied().unwrap_or(1);
    let is_unknown = |seen: &&SeenTunnel| {
        seen.sender.is_some_and(|sender| {
            !nodes[sender].overlays().filter_map(|i| i.overlay).any(|device| device.kind == seen.kind)
        })
    };
    let adopted = strange(tunnels.seen.iter().filter(is_unknown), tenants);
    tenants.extend(adopted.into_iter().map(|seen| ((seen.kind, seen.id), tenant)));
}

/// Tunnels whose id has no tenant, but for those of nodes that send with too many of them.
fn strange<'t>(
    seen: impl Iterator<Item = &'t SeenTunnel>,
    tenants: &HashMap<TunnelId, Domain>,
) -> Vec<&'t SeenTunnel> {
    let is_strange = |seen: &&SeenTunnel| !tenants.contains_key(&(seen.kind, seen.id));
    let mut strange: Vec<_> = seen.filter(is_strange).collect();
    let mut ids: HashMap<_, BTreeSet<TunnelId>> = HashMap::new();
    for seen in &strange {
        ids.entry(seen.sender).or_default().insert((seen.kind, seen.id));
    }
    strange.retain(|seen| ids[&seen.sender].len() <= STRANGE_IDS);
    strange
}

/// The id of the device of node `end` that packets of an id it does not have were meant for, or came from.
fn stand_in(nodes: &[NodeTables<'_>], tunnels: &Tunnels, seen: &SeenTunnel, end: usize) -> Option<u32> {
    if nodes[end].has_tunnel(seen.kind, 0) {
        return None;
    }
    let mut devices: Vec<_> = nodes[end].overlays().filter_map(|i| i.overlay).collect();
    devices.retain(|device| device.kind == seen.kind);
    if devices.iter().any(|device| device.port == seen.port) {
        devices.retain(|device| device.port == seen.port);
    }
    if devices.len() > 1 {
        // What the node itself sends with is in use.
        devices.retain(|device| !tunnels.sends(end, seen.kind, device.id));
    }
    let [device] = devices[..] else { return None };
    Some(device.id)
}

/// Disjoint sets of numbers, each named by the lowest of them.
#[derive(Debug, Default)]
struct Groups {
    parent: Vec<usize>,
}

impl Groups {
    fn make(&mut self) -> usize {
        self.parent.push(self.parent.len());
        self.parent.len() - 1
    }

    fn find(&mut self, mut number: usize) -> usize {
        while self.parent[number] != number {
            self.parent[number] = self.parent[self.parent[number]];
            number = self.parent[number];
        }
        number
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.find(one), self.find(other));
        self.parent[one.max(other)] = one.min(other);
    }
}

/// Numbers without gaps, so that a single tenant is 1.
fn renumber(tenants: &mut HashMap<(OverlayKind, u32), Domain>) {
    let mut used: Vec<_> = tenants.values().copied().collect();
    used.sort_unstable();
    used.dedup();
    for tenant in tenants.values_mut() {
        *tenant = used.partition_point(|&other| other < *tenant) as Domain + 1;
    }
}

/// The value all items share.
pub(crate) fn only(mut items: impl Iterator<Item = Domain>) -> Option<Domain> {
    let first = items.next()?;
    items.all(|item| item == first).then_some(first)
}
