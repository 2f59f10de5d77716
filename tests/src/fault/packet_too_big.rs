//! A pod with an MTU of 1,500 in front of an overlay of 1,450, and no ICMP to tell it: lost between `cni0`
//! and `flannel.1` of the sender.

use anyhow::Result;

use super::nft::Rule;
use super::{Cast, Injected, offload};
use crate::lab::node::{BRIDGE, Node, OVERLAY_MTU};

const POD_MTU: u16 = 1500;
const TCP_IPV4_HEADERS: u16 = 40;

pub(super) fn inject(cast: Cast<'_>) -> Result<Injected<'_>> {
    let (sender, receiver) = (cast.sender, cast.receiver);
    let (from, to) = (sender.plan.pod, receiver.plan.pod);
    let expression = format!("ip saddr {from} ip daddr {to} ip length > {OVERLAY_MTU}");
    let silence = format!(
        "chain silence {{\n\
         type filter hook output priority 0; policy accept;\n\
         ip daddr {from} icmp type destination-unreachable drop\n\
         }}"
    );
    // The kernel checks the size before it runs the FORWARD hook, so it is counted as it comes in.
    let rule = Rule {
        family: "inet",
        hook: "hook prerouting priority -300",
        expression: &expression,
        verdict: "",
        beside: &silence,
    };
    let counting = rule.inject(&sender.netns)?;
    set_mtu(sender, POD_MTU)?;
    advertise_mss(receiver, &format!("advmss {}", POD_MTU - TCP_IPV4_HEADERS))?;
    offload::software_segmentation(&sender.pod, true)?;
    Ok(counting.undone_by(move || {
        offload::software_segmentation(&sender.pod, false)?;
        advertise_mss(receiver, "")?;
        set_mtu(sender, OVERLAY_MTU)
    }))
}

/// Sets the MTU of the whole way from the pod to its node's routing.
fn set_mtu(node: &Node, mtu: u16) -> Result<()> {
    let veth = &node.plan.veth;
    node.netns.ip(&format!("link set {veth} mtu {mtu}\nlink set {BRIDGE} mtu {mtu}\n"))?;
    node.pod.ip(&format!("link set eth0 mtu {mtu}\n"))
}

/// Makes the receiver's pod invite segments that only a larger MTU carries, while its own stay small: a large
/// answer would be lost on the receiver's node too.
fn advertise_mss(node: &Node, advmss: &str) -> Result<()> {
    node.pod.ip(&format!("route replace default via {} {advmss}\n", node.plan.gateway()))
}
