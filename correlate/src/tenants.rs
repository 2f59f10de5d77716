//! Tenants of a fabric: which tunnel ids belong together, from the tunnel devices and from the packets.

use std::collections::HashMap;

use lastseen_packet::observation::OverlayKind;

use crate::domain::{Domain, is_opaque};
use crate::tables::NodeTables;
use crate::topology::Interface;
use crate::tunnels::{SeenTunnel, Tunnels};

/// Tunnel ids of the fabric, numbered from 1. Tunnels without an id separate nobody and belong to the first tenant.
pub(crate) fn tenants(nodes: &[NodeTables<'_>], tunnels: &Tunnels) -> HashMap<(OverlayKind, u32), Domain> {
    let devices = nodes.iter().flat_map(NodeTables::overlays).filter_map(|i| i.overlay);
    let mut ids: Vec<_> = devices.map(|overlay| (overlay.kind, overlay.id)).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut tenants = HashMap::new();
    let mut next = 1;
    for (kind, id) in ids {
        let separates = id != 0 && !is_opaque(kind);
        tenants.insert((kind, id), if separates { next } else { 1 });
        next += u32::from(separates);
    }
    join_mismatched(nodes, &mut tenants);
    join_seen(nodes, tunnels, &mut tenants);
    adopt_unknown(nodes, tunnels, &mut tenants);
    renumber(&mut tenants);
    tenants
}

/// Two ids are one tenant if a tunnel is aimed at a node that lacks its id but has one other tunnel of its kind: a
/// configuration error must not look like two tenants.
fn join_mismatched(nodes: &[NodeTables<'_>], tenants: &mut HashMap<(OverlayKind, u32), Domain>) {
    for node in nodes {
        for device in node.overlays() {
            for target in targets(node, nodes, device) {
                join_aimed(node, device, target, tenants);
            }
        }
    }
}

fn targets<'n, 'a>(
    node: &NodeTables<'_>,
    nodes: &'n [NodeTables<'a>],
    device: &Interface,
) -> Vec<&'n NodeTables<'a>> {
    let aimed = node.topology.forwarding.iter().filter(|entry| entry.index == device.index);
    let remotes = aimed.filter_map(|entry| entry.remote).chain(device.overlay.and_then(|o| o.remote));
    remotes.filter_map(|remote| nodes.iter().find(|other| other.holder_of(remote).is_some())).collect()
}

fn join_aimed(
    node: &NodeTables<'_>,
    device: &Interface,
    target: &NodeTables<'_>,
    tenants: &mut HashMap<(OverlayKind, u32), Domain>,
) {
    let Some(own) = device.overlay else { return };
    let theirs: Vec<_> = target.overlays().filter_map(|i| i.overlay).filter(|o| o.kind == own.kind).collect();
    let [other] = theirs[..] else { return };
    // A node that has both has two tenants.
    if other.id == own.id || !node.has_tunnel(other.kind, other.id) {
        join((own.kind, own.id), (other.kind, other.id), tenants);
    }
}

/// Two ids are also one tenant if packets with one passed between two nodes of which one has no device for it, but
/// another that stands in: the id was changed on one of them, or since its snapshot was taken.
fn join_seen(nodes: &[NodeTables<'_>], tunnels: &Tunnels, tenants: &mut HashMap<(OverlayKind, u32), Domain>) {
    for seen in tunnels.seen.iter().filter(|seen| seen.id != 0) {
        for (end, other) in [(seen.sender, seen.receiver), (seen.receiver, seen.sender)] {
            let Some(end) = end else { continue };
            if let Some(id) = stand_in(nodes, tunnels, seen, end, other) {
                join((seen.kind, id), (seen.kind, seen.id), tenants);
            }
        }
    }
}

/// Where nothing speaks of several tenants, a node whose snapshot has no tunnel device at all sends in the one there is.
fn adopt_unknown(
    nodes: &[NodeTables<'_>],
    tunnels: &Tunnels,
    tenants: &mut HashMap<(OverlayKind, u32), Domain>,
) {
    if only(tenants.values().copied()).is_none() && !tenants.is_empty() {
        return;
    }
    let tenant = tenants.values().next().copied().unwrap_or(1);
    let unknown = |seen: &&SeenTunnel| {
        seen.sender.is_some_and(|sender| {
            !nodes[sender].overlays().filter_map(|i| i.overlay).any(|device| device.kind == seen.kind)
        })
    };
    for seen in tunnels.seen.iter().filter(unknown) {
        tenants.entry((seen.kind, seen.id)).or_insert(tenant);
    }
}

/// The id of the device of node `end` that packets of an id it does not have were meant for, or came from.
fn stand_in(
    nodes: &[NodeTables<'_>],
    tunnels: &Tunnels,
    seen: &SeenTunnel,
    end: usize,
    other: Option<usize>,
) -> Option<u32> {
    let has = |node: usize, id| nodes[node].has_tunnel(seen.kind, id);
    if has(end, seen.id) || has(end, 0) {
        return None;
    }
    let mut devices: Vec<_> = nodes[end].overlays().filter_map(|i| i.overlay).collect();
    devices.retain(|device| device.kind == seen.kind);
    if devices.iter().any(|device| device.port == seen.port) {
        devices.retain(|device| device.port == seen.port);
    }
    if devices.len() > 1 {
        // What the node itself sends with is in use.
        devices.retain(|device| !tunnels.sent(end, seen.kind).any(|id| id == device.id));
    }
    let [device] = devices[..] else { return None };
    let has_both = other.is_some_and(|other| has(other, seen.id) && has(other, device.id));
    (!has_both).then_some(device.id)
}

/// Makes the tenants of two ids one. An id that no device has joins the other's.
fn join(
    known: (OverlayKind, u32),
    new: (OverlayKind, u32),
    tenants: &mut HashMap<(OverlayKind, u32), Domain>,
) {
    let Some(&kept) = tenants.get(&known) else { return };
    let gone = *tenants.entry(new).or_insert(kept);
    for tenant in tenants.values_mut().filter(|tenant| **tenant == gone) {
        *tenant = kept;
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
