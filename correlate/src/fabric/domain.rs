//! Tenants: which packets can be the same packet at all.
//!
//! Inner addresses of different tenants may overlap, so a conversation is a 5-tuple within a *domain*. Where the
//! fabric has one tunnel id, everything is one domain. Where it has several, a tunnelled packet belongs to its id; a
//! bare one to the tunnel of the device it was seen on, to the only tunnel of its bridge, or to the only tunnel that
//! routes lead its addresses to; else it stays on its own, matched with nothing beyond its bridge.

use std::collections::HashMap;
use std::net::IpAddr;

use lastseen_packet::observation::{FlowKey, OverlayKind};

use crate::fabric::tables::NodeTables;
use crate::fabric::tenants::{only, tenants};
use crate::fabric::topology::{Interface, InterfaceKind};
use crate::fabric::tunnels::Tunnels;

/// A set of packets among which addresses are unique. 0 is the underlay, and everything where there is one tenant.
pub(crate) type Domain = u32;

/// The underlay, or the whole fabric of a single tenant.
pub(crate) const SHARED: Domain = 0;

/// Domains of a fabric.
#[derive(Debug)]
pub(crate) struct Domains {
    tenants: HashMap<(OverlayKind, u32), Domain>,
    is_single: bool,
    on_node: Vec<Vec<(u32, Domain)>>,
    local: HashMap<(usize, u32), Domain>,
    foreign: HashMap<(OverlayKind, u32), Domain>,
}

/// Domains of tunnels that no node has a device for.
const FOREIGN: Domain = 1 << 30;
/// Domains of bridges and interfaces whose tenant is not known.
const LOCAL: Domain = 1 << 31;

impl Domains {
    /// `holders` are the nodes of the addresses that snapshots know.
    pub(crate) fn new(nodes: &[NodeTables<'_>], tunnels: &Tunnels, holders: &HashMap<IpAddr, usize>) -> Self {
        let tenants = tenants(nodes, tunnels, holders);
        let on_node = nodes.iter().map(|node| devices(node, &tenants)).collect();
        let is_single = tenants.values().all(|&tenant| tenant <= 1);
        Self { tenants, is_single, on_node, local: HashMap::new(), foreign: HashMap::new() }
    }

    /// The domain of a flow that was seen on interface `index` of `node`. `index` is absent where the topology does
    /// not know the interface.
    pub(crate) fn of(
        &mut self,
        nodes: &[NodeTables<'_>],
        node: usize,
        index: Option<u32>,
        flow: &FlowKey,
    ) -> Domain {
        if let Some(overlay) = flow.overlay {
            return self.of_tunnel(overlay.kind, overlay.id);
        }
        if self.is_single {
            return SHARED;
        }
        let Some(interface) = index.and_then(|index| nodes[node].interface(index)) else { return SHARED };
        let found = self.of_bare(&nodes[node], node, interface, flow.source, flow.destination);
        found.unwrap_or_else(|index| self.local(node, index))
    }

    /// The domain of tunnel device `index` on `node`.
    pub(crate) fn of_device(&self, node: usize, index: u32) -> Option<Domain> {
        let found = self.on_node[node].iter().find(|(device, _)| *device == index);
        found.map(|&(_, tenant)| if self.is_single { SHARED } else { tenant })
    }

    /// True if bare packets between two addresses, seen on interface `index` of a node, are those of `domain`; on a
    /// physical interface if their tunnelled ones may be.
    pub(crate) fn admits(
        &self,
        tables: &NodeTables<'_>,
        node: usize,
        index: u32,
        (source, destination): (IpAddr, IpAddr),
        domain: Domain,
    ) -> bool {
        let interface = tables.interface(index);
        let Some(interface) = interface.filter(|_| !self.is_single) else { return true };
        match self.of_bare(tables, node, interface, source, destination) {
            Ok(SHARED) => true,
            Ok(tenant) => tenant == domain,
            Err(local) => self.local.get(&(node, local)) == Some(&domain),
        }
    }

    fn of_tunnel(&mut self, kind: OverlayKind, id: u32) -> Domain {
        // A device in external mode has id 0 and carries any.
        let known = self.tenants.get(&(kind, id)).or_else(|| self.tenants.get(&(kind, 0)));
        match known {
            Some(_) if self.is_single => SHARED,
            Some(&tenant) => tenant,
            None if is_opaque(kind) => SHARED,
            None => {
                let next = FOREIGN + self.foreign.len() as u32;
                *self.foreign.entry((kind, id)).or_insert(next)
            }
        }
    }

    /// The domain of bare packets, or the bridge or interface they stay on where their tenant is not known.
    fn of_bare(
        &self,
        tables: &NodeTables<'_>,
        node: usize,
        interface: &Interface,
        source: IpAddr,
        destination: IpAddr,
    ) -> Result<Domain, u32> {
        match tables.kind(interface) {
            InterfaceKind::Overlay => return Ok(self.of_device(node, interface.index).unwrap_or(SHARED)),
            InterfaceKind::Physical | InterfaceKind::Other | InterfaceKind::Loopback => return Ok(SHARED),
            _ => {}
        }
        let is_bridge = interface.kind == InterfaceKind::Bridge;
        let bridge = if is_bridge { Some(interface.index) } else { interface.master_index };
        let port = bridge.and_then(|bridge| tables.overlay_port(bridge));
        let tenant = match port {
            Some(device) => self.of_device(node, device.index),
            None => self.by_routes(tables, node, source, destination),
        };
        tenant.ok_or(bridge.unwrap_or(interface.index))
    }

    /// The only tenant of the node, or the only one whose device routes lead to.
    fn by_routes(
        &self,
        tables: &NodeTables<'_>,
        node: usize,
        source: IpAddr,
        destination: IpAddr,
    ) -> Option<Domain> {
        let devices = &self.on_node[node];
        only(devices.iter().map(|&(_, tenant)| tenant)).or_else(|| {
            let leads = |index| tables.leads_to(destination, index) || tables.leads_to(source, index);
            only(devices.iter().filter(|&&(index, _)| leads(index)).map(|&(_, tenant)| tenant))
        })
    }

    fn local(&mut self, node: usize, index: u32) -> Domain {
        let next = LOCAL + self.local.len() as u32;
        *self.local.entry((node, index)).or_insert(next)
    }
}

/// True for the packets of a bridge or interface whose tenant is not known.
pub(crate) fn is_unknown(domain: Domain) -> bool {
    domain >= LOCAL
}

/// True for tunnels whose inside cannot be read: their flows are those of the carrier.
pub(crate) fn is_opaque(kind: OverlayKind) -> bool {
    matches!(kind, OverlayKind::WireGuard | OverlayKind::Esp)
}

fn devices(node: &NodeTables<'_>, tenants: &HashMap<(OverlayKind, u32), Domain>) -> Vec<(u32, Domain)> {
    let tenant = |i: &Interface| i.overlay.and_then(|o| tenants.get(&(o.kind, o.id)).copied());
    node.overlays().filter_map(|i| Some((i.index, tenant(i)?))).collect()
}
