//! Both pods are on the sender's node, on one bridge, whose FORWARD hook (`br_netfilter`) may drop a share of the
//! datagrams: lost between the two veths.

use anyhow::Result;

use super::nft::Rule;
use super::{Cast, Injected};
use crate::lab::neighbor::reach;
use crate::lab::node::BRIDGE;
use crate::traffic::{Conversation, End};

pub(super) fn aim<'lab>(conversation: &mut Conversation<'lab>, cast: Cast<'lab>) {
    let node = cast.sender;
    conversation.to = End { netns: &node.neighbor, address: node.plan.neighbor.address.into() };
}

pub(super) fn inject(cast: Cast<'_>, lost_percent: u8) -> Result<Injected<'_>> {
    let node = cast.sender;
    let (from, to) = (node.plan.pod, node.plan.neighbor.address);
    node.plug_neighbor(BRIDGE, to)?;
    reach(&node.pod, to)?;
    // As by the kubelet's probes, the node comes to know its pod.
    reach(&node.netns, to)?;
    node.netns.sysctl("net/bridge/bridge-nf-call-iptables", "1")?;
    let hook = "hook forward priority 0";
    let datagrams = format!("ip saddr {from} ip daddr {to} meta l4proto udp");
    let share = format!("{datagrams} numgen random mod 100 < {lost_percent}");
    let rule = match lost_percent {
        0 => Rule::counting(hook, &datagrams),
        100 => Rule::dropping(hook, &datagrams),
        _ => Rule::dropping(hook, &share),
    };
    Ok(rule.inject(&node.netns)?.undone_by(|| node.unplug_neighbor()))
}
