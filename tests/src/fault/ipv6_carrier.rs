//! The tunnel's ends are IPv6 addresses. The switch may drop a share of the datagrams from sender to receiver: between
//! the two nodes' `eth0`.

use anyhow::Result;

use super::nft::Rule;
use super::second_underlay::INNER_PROTOCOL;
use super::{Cast, Injected};
use crate::lab::Lab;
use crate::lab::node::NIC;
use crate::lab::overlay::{self, Tunnel};
use crate::lab::plan::{Family, VXLAN_PORT};

/// What the underlay carries: the IPv6 header is 20 bytes longer.
const LONGER_MTU: u16 = 1520;
/// And without it.
const MTU: u16 = 1500;

pub(super) fn inject(cast: Cast<'_>, lost_percent: u8) -> Result<Injected<'_>> {
    let lab = cast.lab;
    resize(lab, LONGER_MTU)?;
    for node in &lab.nodes {
        node.netns.ip(&format!("addr add {}/64 dev {NIC} nodad\n", node.plan.underlay6()))?;
    }
    carry_over(lab, Family::V6)?;
    lab.warm_up()?;
    let [from, to] = [cast.sender, cast.receiver].map(|node| node.plan.underlay6());
    let datagrams =
        format!("ip6 saddr {from} ip6 daddr {to} udp dport {VXLAN_PORT} @th,{INNER_PROTOCOL},8 17");
    let share = format!("{datagrams} numgen random mod 100 < {lost_percent}");
    let hook = "hook forward priority 0";
    let rule = match lost_percent {
        0 => Rule::counting(hook, &datagrams),
        _ => Rule::dropping(hook, &share),
    };
    let striking = Rule { family: "bridge", ..rule }.inject(&lab.switch)?;
    Ok(striking.undone_by(move || {
        carry_over(lab, Family::V4)?;
        for node in &lab.nodes {
            node.netns.ip(&format!("addr del {}/64 dev {NIC}\n", node.plan.underlay6()))?;
        }
        resize(lab, MTU)
    }))
}

fn carry_over(lab: &Lab, carrier: Family) -> Result<()> {
    let tunnel = Tunnel { carrier, ..Tunnel::default() };
    lab.nodes
        .iter()
        .try_for_each(|node| overlay::rejoin(&node.netns, &node.plan, &lab.peers_of(node), tunnel))
}

fn resize(lab: &Lab, mtu: u16) -> Result<()> {
    lab.nodes.iter().try_for_each(|node| {
        node.netns.ip(&format!("link set {NIC} mtu {mtu}\n"))?;
        lab.switch.ip(&format!("link set {} mtu {mtu}\n", node.plan.name))
    })
}
