//! Sender and receiver have a second overlay beside the first, with another network identifier and port, a bridge and a
//! pod of its own, and the conversation is between these pods. The receiver's FORWARD rules may drop a share of the
//! datagrams: between the second VXLAN device and the second bridge.

use std::net::Ipv4Addr;

use anyhow::Result;

use super::nft::Rule;
use super::{Cast, Injected};
use crate::lab::neighbor::reach;
use crate::lab::node::{NIC, Node, OVERLAY_MTU, SECOND_BRIDGE, SECOND_OVERLAY};
use crate::traffic::{Conversation, End};

const VNI: u32 = 2;
const PORT: u16 = 8473;

pub(super) fn aim<'lab>(conversation: &mut Conversation<'lab>, cast: Cast<'lab>) {
    let [from, to] = [cast.sender, cast.receiver];
    let end = |node: &'lab Node| End { netns: &node.neighbor, address: node.plan.neighbor.apart.into() };
    (conversation.from, conversation.to) = (end(from), end(to));
}

pub(super) fn inject(cast: Cast<'_>, lost_percent: u8) -> Result<Injected<'_>> {
    let nodes = [cast.sender, cast.receiver];
    let [from, to] = nodes.map(|node| node.plan.neighbor.apart);
    join(nodes[0], nodes[1])?;
    join(nodes[1], nodes[0])?;
    reach(&nodes[0].neighbor, to)?;
    let datagrams = format!("ip saddr {from} ip daddr {to} meta l4proto udp");
    let share = format!("{datagrams} numgen random mod 100 < {lost_percent}");
    let hook = "hook forward priority 0";
    let rule = match lost_percent {
        0 => Rule::counting(hook, &datagrams),
        _ => Rule::dropping(hook, &share),
    };
    Ok(rule.inject(&cast.receiver.netns)?.undone_by(move || nodes.into_iter().try_for_each(leave)))
}

/// First host of the second pods' network, the address of their bridge; its network, that of the VXLAN device.
fn addresses(node: &Node) -> [Ipv4Addr; 2] {
    let [a, b, c, _] = node.plan.neighbor.apart.octets();
    [1, 0].map(|last| Ipv4Addr::new(a, b, c, last))
}

fn join(node: &Node, peer: &Node) -> Result<()> {
    let [gateway, network] = addresses(node);
    let [_, peer_network] = addresses(peer);
    node.netns.ip(&format!(
        "link add {SECOND_BRIDGE} mtu {OVERLAY_MTU} type bridge\n\
         link set {SECOND_BRIDGE} up\n\
         addr add {gateway}/24 dev {SECOND_BRIDGE}\n\
         link add {SECOND_OVERLAY} address {} mtu {OVERLAY_MTU} type vxlan id {VNI} dstport {PORT} \
         local {} dev {NIC} nolearning\n\
         link set {SECOND_OVERLAY} up\n\
         addr add {network}/32 dev {SECOND_OVERLAY}\n\
         neigh add {peer_network} lladdr {} dev {SECOND_OVERLAY} nud permanent\n\
         route add {peer_network}/24 via {peer_network} dev {SECOND_OVERLAY} onlink\n",
        mac(node),
        node.plan.underlay,
        mac(peer)
    ))?;
    let (mac, end) = (mac(peer), peer.plan.underlay);
    node.netns.bridge(&format!("fdb add {mac} dev {SECOND_OVERLAY} dst {end} self permanent\n"))?;
    node.plug_neighbor(SECOND_BRIDGE, node.plan.neighbor.apart)
}

/// Hardware address of the second VXLAN device: like that of the first, which is on another network.
fn mac(node: &Node) -> &str {
    &node.plan.overlay_mac
}

fn leave(node: &Node) -> Result<()> {
    node.unplug_neighbor()?;
    node.netns.ip(&format!("link del {SECOND_OVERLAY}\nlink del {SECOND_BRIDGE}\n"))
}
