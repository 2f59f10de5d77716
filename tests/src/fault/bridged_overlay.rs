//! Sender and receiver have a second overlay that is one Ethernet segment: its VXLAN device is a port of the second
//! bridge. Its pods have the addresses of the first overlay's. The receiver's bridge may drop a share of the datagrams:
//! between the second VXLAN device and the second pod's veth.

use anyhow::Result;

use super::nft::Rule;
use super::{Cast, Injected};
use crate::lab::neighbor::reach;
use crate::lab::node::{NIC, Node, OVERLAY_MTU, SECOND_BRIDGE, SECOND_OVERLAY};
use crate::traffic::{Conversation, End};

const VNI: u32 = 3;
const PORT: u16 = 4789;

/// The second pod, at the first pod's address.
fn end(node: &Node) -> End<'_> {
    End { netns: &node.neighbor, address: node.plan.pod.into() }
}

pub(super) fn aim<'lab>(conversation: &mut Conversation<'lab>, cast: Cast<'lab>) {
    (conversation.from, conversation.to) = (end(cast.sender), end(cast.receiver));
}

/// The same addresses in the first overlay.
pub(super) fn others(cast: Cast<'_>) -> Vec<[End<'_>; 2]> {
    vec![[cast.sender, cast.receiver].map(|node| End { netns: &node.pod, address: node.plan.pod.into() })]
}

pub(super) fn inject(cast: Cast<'_>, lost_percent: u8) -> Result<Injected<'_>> {
    let nodes = [cast.sender, cast.receiver];
    let [from, to] = nodes.map(|node| node.plan.pod);
    join(nodes[0], nodes[1])?;
    join(nodes[1], nodes[0])?;
    reach(&nodes[0].neighbor, to)?;
    let datagrams = format!(
        "iifname {SECOND_OVERLAY} oifname {} ip saddr {from} ip daddr {to} meta l4proto udp",
        cast.receiver.plan.neighbor.veth
    );
    let share = format!("{datagrams} numgen random mod 100 < {lost_percent}");
    let hook = "hook forward priority 0";
    let rule = match lost_percent {
        0 => Rule::counting(hook, &datagrams),
        _ => Rule::dropping(hook, &share),
    };
    let rule = Rule { family: "bridge", ..rule };
    Ok(rule.inject(&cast.receiver.netns)?.undone_by(move || nodes.into_iter().try_for_each(leave)))
}

fn join(node: &Node, peer: &Node) -> Result<()> {
    node.netns.ip(&format!(
        "link add {SECOND_BRIDGE} mtu {OVERLAY_MTU} type bridge\n\
         link set {SECOND_BRIDGE} up\n\
         link add {SECOND_OVERLAY} mtu {OVERLAY_MTU} type vxlan id {VNI} dstport {PORT} local {} dev {NIC}\n\
         link set {SECOND_OVERLAY} master {SECOND_BRIDGE} up\n",
        node.plan.underlay
    ))?;
    let flood = format!("00:00:00:00:00:00 dev {SECOND_OVERLAY} dst {}", peer.plan.underlay);
    node.netns.bridge(&format!("fdb append {flood} self permanent\n"))?;
    node.plug_neighbor(SECOND_BRIDGE, node.plan.pod)?;
    node.neighbor.ip(&format!("route add {}/32 dev eth0\n", peer.plan.pod))
}

fn leave(node: &Node) -> Result<()> {
    node.unplug_neighbor()?;
    node.netns.ip(&format!("link del {SECOND_OVERLAY}\nlink del {SECOND_BRIDGE}\n"))
}
