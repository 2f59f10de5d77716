//! Packets are cut into fragments and put together again on their way. Nothing is lost.

use anyhow::Result;

use super::{Cast, Injected};
use crate::lab::counter;
use crate::lab::node::{NIC, Node};

const UNDERLAY_MTU: u16 = 1500;
/// Too small for the 50 bytes around a packet of 1,450.
const SMALL_MTU: u16 = 1400;

/// The underlay of every node takes packets of [`SMALL_MTU`]; the overlay does not know.
pub(super) fn outer(cast: Cast<'_>) -> Result<Injected<'_>> {
    let before = total(cast, "FragCreates")?;
    set_mtu(cast, SMALL_MTU)?;
    Ok(Injected::new(move || Ok(total(cast, "FragCreates")? - before), move || set_mtu(cast, UNDERLAY_MTU)))
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
    let before = total(cast, "ReasmOKs")?;
    nodes.iter().try_for_each(track)?;
    let count = move || Ok(total(cast, "ReasmOKs")? - before);
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
