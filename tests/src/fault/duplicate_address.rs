//! The third node has a pod with the address of the receiver's, and its own pods reach that one: one address, two
//! ends. Nothing is lost.

use anyhow::Result;

use super::nft::Rule;
use super::{Cast, Injected};
use crate::lab::neighbor::reach;
use crate::lab::node::BRIDGE;
use crate::traffic::End;

/// Whether the bridge answers for addresses beyond it.
const PROXY: &str = "net/ipv4/conf/cni0/proxy_arp";
/// Whether the node tells pods of the shorter way, which they would remember beyond the scenario.
const REDIRECTS: [&str; 2] = ["net/ipv4/conf/all/send_redirects", "net/ipv4/conf/cni0/send_redirects"];

/// From the third node's pod to the other end.
pub(super) fn others(cast: Cast<'_>) -> Vec<[End<'_>; 2]> {
    let node = cast.bystander;
    let from = End { netns: &node.pod, address: node.plan.pod.into() };
    vec![[from, End { netns: &node.neighbor, address: cast.receiver.plan.pod.into() }]]
}

pub(super) fn inject(cast: Cast<'_>) -> Result<Injected<'_>> {
    let (node, address) = (cast.bystander, cast.receiver.plan.pod);
    let reached = format!("iifname {BRIDGE} oifname {BRIDGE} ip daddr {address}");
    let counting = Rule::counting("hook forward priority 0", &reached).inject(&node.netns)?;
    node.plug_neighbor(BRIDGE, address)?;
    // The pod believes to be in the receiver's network: its node answers for the gateway there.
    node.netns.sysctl(PROXY, "1")?;
    REDIRECTS.into_iter().try_for_each(|key| node.netns.sysctl(key, "0"))?;
    node.netns.ip(&format!("route add {address}/32 dev {BRIDGE}\n"))?;
    reach(&node.pod, address)?;
    Ok(counting.undone_by(move || {
        node.netns.ip(&format!("route del {address}/32 dev {BRIDGE}\n"))?;
        node.netns.sysctl(PROXY, "0")?;
        REDIRECTS.into_iter().try_for_each(|key| node.netns.sysctl(key, "1"))?;
        node.unplug_neighbor()
    }))
}
