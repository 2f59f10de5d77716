//! Every node is reached over two underlay interfaces at equal cost, and each flow takes one of them (ECMP). The second
//! may lose a share of the sender's datagrams: between the two nodes' `eth1`.

use anyhow::Result;

use super::nft::Rule;
use super::{Cast, Injected, second_underlay};
use crate::lab::node::{NIC, Node, OVERLAY, SECOND_NIC};
use crate::lab::overlay::{self, Tunnel};
use crate::lab::plan::NodePlan;

/// Whether the choice of the way takes ports into account.
const HASH_POLICY: &str = "net/ipv4/fib_multipath_hash_policy";
/// Conversations beside the first: so many never all take one way.
pub(super) const CONVERSATIONS: usize = 16;

pub(super) fn inject(cast: Cast<'_>, lost_percent: u8) -> Result<Injected<'_>> {
    let lab = cast.lab;
    let ends = [cast.sender, cast.receiver].map(|node| node.plan.loopback());
    lab.plug_second_underlay()?;
    for node in &lab.nodes {
        spread(node, &lab.peers_of(node))?;
        let peers: Vec<_> = lab.peers_of(node).into_iter().map(at_loopback).collect();
        let peers: Vec<_> = peers.iter().collect();
        let unbound = Tunnel { device: None, ..Tunnel::default() };
        overlay::rejoin(&node.netns, &at_loopback(&node.plan), &peers, unbound)?;
    }
    lab.warm_up()?;
    let striking = match lost_percent {
        0 => {
            let leaving = format!("oifname {SECOND_NIC} ip saddr {} ip daddr {}", ends[0], ends[1]);
            Rule::counting("hook postrouting priority 300", &leaving).inject(&cast.sender.netns)?
        }
        percent => second_underlay::dropping(cast, ends, percent)?,
    };
    Ok(striking.undone_by(move || {
        for node in &lab.nodes {
            overlay::rejoin(&node.netns, &node.plan, &lab.peers_of(node), Tunnel::default())?;
            gather(node, &lab.peers_of(node))?;
        }
        lab.unplug_second_underlay()
    }))
}

/// The same node with its loopback address as the tunnel's end.
fn at_loopback(node: &NodePlan) -> NodePlan {
    NodePlan { underlay: node.loopback(), ..node.clone() }
}

fn spread(node: &Node, peers: &[&NodePlan]) -> Result<()> {
    node.netns.sysctl(HASH_POLICY, "1")?;
    // The tunnel keeps one way per processor, unless packets bear a mark that might tell it another.
    node.netns.nft(&format!(
        "table ip lastseen_mark {{\n\
         chain through {{ type filter hook forward priority 0; oifname {OVERLAY} meta mark set 1; }}\n\
         }}\n"
    ))?;
    node.netns.ip(&format!("addr add {}/32 dev lo\n", node.plan.loopback()))?;
    peers.iter().try_for_each(|peer| {
        node.netns.ip(&format!(
            "route add {}/32 nexthop via {} dev {NIC} nexthop via {} dev {SECOND_NIC}\n",
            peer.loopback(),
            peer.underlay,
            peer.second_underlay
        ))
    })
}

fn gather(node: &Node, peers: &[&NodePlan]) -> Result<()> {
    peers.iter().try_for_each(|peer| node.netns.ip(&format!("route del {}/32\n", peer.loopback())))?;
    node.netns.ip(&format!("addr del {}/32 dev lo\n", node.plan.loopback()))?;
    node.netns.nft("delete table ip lastseen_mark\n")?;
    node.netns.sysctl(HASH_POLICY, "0")
}
