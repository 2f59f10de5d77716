//! A pod calls a service that is itself: its node turns the packets round on the bridge port they came from, with both
//! addresses replaced. A share of the datagrams may be lost between the veth and the veth.

use anyhow::Result;

use super::nft::Rule;
use super::{Cast, Injected};
use crate::lab::node::Node;
use crate::traffic::{Conversation, End};

pub(super) fn aim<'lab>(conversation: &mut Conversation<'lab>, cast: Cast<'lab>) {
    let node = cast.sender;
    conversation.to = End { netns: &node.pod, address: node.plan.pod.into() };
    conversation.dialled = Some(super::nat::SERVICE.into());
}

pub(super) fn inject(cast: Cast<'_>, lost_percent: u8) -> Result<Injected<'_>> {
    let node = cast.sender;
    let pod = node.plan.pod;
    let hook = format!("hook egress device {} priority 0", node.plan.veth);
    let share =
        if lost_percent == 0 { String::new() } else { format!("numgen random mod 100 < {lost_percent}") };
    let expression = format!("ip saddr {} ip daddr {pod} meta l4proto udp {share}", node.plan.gateway());
    let verdict = if lost_percent == 0 { "" } else { "drop" };
    let rule = Rule { family: "netdev", hook: &hook, expression: &expression, verdict, beside: "" };
    let striking = rule.inject(&node.netns)?;
    turn_round(node, true)?;
    node.netns.sysctl("net/bridge/bridge-nf-call-iptables", "1")?;
    node.netns.nft(&format!(
        "table ip lastseen_nat {{\n\
         chain services {{ type nat hook prerouting priority dstnat; ip daddr {} dnat to {pod}; }}\n\
         chain leaving {{ type nat hook postrouting priority srcnat; ip saddr {pod} ip daddr {pod} masquerade; }}\n\
         }}\n",
        super::nat::SERVICE
    ))?;
    Ok(striking.undone_by(move || {
        node.netns.nft("delete table ip lastseen_nat\n")?;
        turn_round(node, false)
    }))
}

/// Whether the bridge may send a frame out of the port it came in by.
fn turn_round(node: &Node, may: bool) -> Result<()> {
    let (veth, may) = (&node.plan.veth, if may { "on" } else { "off" });
    node.netns.bridge(&format!("link set dev {veth} hairpin {may}\n"))
}
