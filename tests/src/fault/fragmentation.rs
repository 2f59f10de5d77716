//! Packets are cut into fragments and put together again on their way, unless some of the fragments are lost.

use anyhow::Result;

use super::nft::Rule;
use super::{Cast, Injected, Layer};
use crate::lab::counter;
use crate::lab::node::{NIC, Node};
use crate::lab::plan::{Family, VXLAN_PORT};

const UNDERLAY_MTU: u16 = 1500;
/// Too small for the 50 bytes around a packet of 1,450.
const SMALL_MTU: u16 = 1400;

/// The underlay of every node takes packets of [`SMALL_MTU`]; the overlay does not know.
pub(super) fn outer(cast: Cast<'_>) -> Result<Injected<'_>> {
    let before = total(cast, "FragCreates")?;
    set_mtu(cast, SMALL_MTU)?;
    Ok(Injected::new(move || Ok(total(cast, "FragCreates")? - before), move || set_mtu(cast, UNDERLAY_MTU)))
}

/// The underlay switch drops a share of the fragments that are not the first, from sender to receiver: of the overlay's
/// packets, for which the underlay is made too small, or of the pods' own.
pub(super) fn loss(cast: Cast<'_>, layer: Layer, percent: u8) -> Result<Injected<'_>> {
    let (from, to) = (cast.sender.plan.underlay, cast.receiver.plan.underlay);
    let is_later = match layer {
        Layer::Outer => "ip frag-off & 0x1fff != 0".to_owned(),
        // Behind 8 bytes of UDP, 8 of VXLAN and 14 of Ethernet comes the IP header, with the field in its bytes 6 and 7.
        Layer::Inner => format!("udp dport {VXLAN_PORT} @th,{},16 & 0x1fff != 0", (30 + 6) * 8),
    };
    let expression = format!("ip saddr {from} ip daddr {to} {is_later} numgen random mod 100 < {percent}");
    let hook = "hook forward priority 0";
    let rule = Rule { family: "bridge", hook, expression: &expression, verdict: "drop", beside: "" };
    let dropping = rule.inject(&cast.lab.switch)?;
    if layer == Layer::Inner {
        return Ok(dropping);
    }
    set_mtu(cast, SMALL_MTU)?;
    Ok(dropping.undone_by(move || set_mtu(cast, UNDERLAY_MTU)))
}

fn total(cast: Cast<'_>, counter: &str) -> Result<u64> {
    cast.lab.nodes.iter().map(|node| counter::ipv4(&node.netns, counter)).sum()
}

fn set_mtu(cast: Cast<'_>, mtu: u16) -> Result<()> {
    cast.lab.nodes.iter().try_for_each(|node| node.netns.ip(&format!("link set {NIC} mtu {mtu}\n")))
}

/// Every node tracks the connections it forwards, for which it needs whole packets.
pub(super) fn conntrack(cast: Cast<'_>) -> Result<Injected<'_>> {
    let nodes = &cast.lab.nodes;
    // Over IPv6 what was put together is not counted, but a router cuts nothing else.
    let total = move || match cast.family {
        Family::V4 => total(cast, "ReasmOKs"),
        Family::V6 => nodes.iter().map(|node| counter::ipv6(&node.netns, "Ip6FragOKs")).sum(),
    };
    let before = total()?;
    nodes.iter().try_for_each(track)?;
    let count = move || Ok(total()? - before);
    Ok(Injected::new(count, move || nodes.iter().try_for_each(untrack)))
}

fn track(node: &Node) -> Result<()> {
    node.netns.nft(
        "table inet lastseen_lab { chain track { type filter hook forward priority 0; ct state new accept; }\n }\n",
    )
}

fn untrack(node: &Node) -> Result<()> {
    node.netns.nft("delete table inet lastseen_lab\n")
}
