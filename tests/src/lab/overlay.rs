//! The VXLAN overlay as flannel's `vxlan` backend sets it up: nothing is learned, all is programmed.

use std::net::IpAddr;

use anyhow::Result;

use super::netns::Netns;
use super::node::{NIC, OVERLAY, OVERLAY_MTU};
use super::plan::{Family, NodePlan, VNI, VXLAN_PORT};

/// What all nodes of an overlay must agree on.
#[derive(Debug, Clone, Copy)]
pub struct Tunnel {
    /// VXLAN network identifier.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// The interface that carries it; absent: whichever the routes say.
    pub device: Option<&'static str>,
    /// Version of the Internet protocol that carries it.
    pub carrier: Family,
}

impl Tunnel {
    /// The tunnel's end on a node.
    fn end(&self, node: &NodePlan) -> IpAddr {
        match self.carrier {
            Family::V4 => node.underlay.into(),
            Family::V6 => node.underlay6().into(),
        }
    }
}

impl Default for Tunnel {
    fn default() -> Self {
        Self { vni: VNI, port: VXLAN_PORT, device: Some(NIC), carrier: Family::V4 }
    }
}

/// Makes `flannel.1` on `local` and programs the way to every peer.
pub fn join(netns: &Netns, local: &NodePlan, peers: &[&NodePlan], tunnel: Tunnel) -> Result<()> {
    let Tunnel { vni, port, device, .. } = tunnel;
    let bound = device.map(|device| format!("dev {device}")).unwrap_or_default();
    netns.ip(&format!(
        "link add {OVERLAY} address {} mtu {OVERLAY_MTU} type vxlan id {vni} dstport {port} \
         local {} {bound} nolearning\n\
         link set {OVERLAY} up\n\
         addr add {}/32 dev {OVERLAY}\n\
         addr add {}/128 dev {OVERLAY} nodad\n",
        local.overlay_mac,
        tunnel.end(local),
        local.pods,
        local.pods6
    ))?;
    peers.iter().try_for_each(|peer| reach(netns, peer, tunnel))
}

/// Makes `flannel.1` anew, as part of another tunnel.
pub fn rejoin(netns: &Netns, local: &NodePlan, peers: &[&NodePlan], tunnel: Tunnel) -> Result<()> {
    leave(netns)?;
    join(netns, local, peers, tunnel)
}

/// Removes `flannel.1`; its routes, neighbours and forwarding entries go with it.
fn leave(netns: &Netns) -> Result<()> {
    netns.ip(&format!("link del {OVERLAY}\n"))
}

/// Adds the route, the neighbour and the forwarding entry that lead to `peer`.
fn reach(netns: &Netns, peer: &NodePlan, tunnel: Tunnel) -> Result<()> {
    let NodePlan { pods, pods6, overlay_mac, .. } = peer;
    netns.ip(&format!(
        "neigh add {pods} lladdr {overlay_mac} dev {OVERLAY} nud permanent\n\
         route add {pods}/24 via {pods} dev {OVERLAY} onlink\n\
         neigh add {pods6} lladdr {overlay_mac} dev {OVERLAY} nud permanent\n\
         route add {pods6}/64 via {pods6} dev {OVERLAY} onlink\n"
    ))?;
    netns.bridge(&format!("fdb add {overlay_mac} dev {OVERLAY} dst {} self permanent\n", tunnel.end(peer)))
}
