//! A pod calls a service that is itself: its node turns the packets round on the bridge port they came from, with both
//! addresses replaced. A share of the datagrams may be lost between the veth and the veth.

use anyhow::{Context, Result};
use serde_json::Value;

use super::nft::Rule;
use super::{Cast, Injected};
use crate::lab::node::{BRIDGE, NIC, Node};
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
    know_pod(node)?;
    cast.lab.warm_up()?;
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
        node.netns.ip(&format!("neigh del {pod} dev {BRIDGE}\n"))?;
        turn_round(node, false)
    }))
}

/// The bridge turns a packet round by itself only while it holds a confirmed hardware address of the pod; else the packet
/// goes through the bridge's own interface (`br_nf_pre_routing_finish_bridge`).
fn know_pod(node: &Node) -> Result<()> {
    let text = node.pod.run("ip", &["-j", "link", "show", "dev", NIC])?;
    let json: Value = serde_json::from_str(&text).context("read ip's JSON")?;
    let mac = json[0]["address"].as_str().context("a pod without a hardware address")?;
    let entry = format!("neigh replace {} lladdr {mac} dev {BRIDGE} nud permanent\n", node.plan.pod);
    node.netns.ip(&entry)
}

/// Whether the bridge may send a frame out of the port it came in by.
fn turn_round(node: &Node, may: bool) -> Result<()> {
    let (veth, may) = (&node.plan.veth, if may { "on" } else { "off" });
    node.netns.bridge(&format!("link set dev {veth} hairpin {may}\n"))
}
