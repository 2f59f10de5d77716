//! A rate limit on the sender's `eth0`, in front of which packets queue.

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Cast, Injected};
use crate::lab::netns::Netns;
use crate::lab::node::NIC;

/// Slower than the traffic, with room for a few packets.
const TIGHT: [&str; 6] = ["rate", "4mbit", "burst", "3000", "limit", "6000"];
/// About half of what the traffic sends, with room for all of it.
const ROOMY: [&str; 6] = ["rate", "1200kbit", "burst", "3000", "limit", "10000000"];

/// The queue overflows: its tail is dropped between `flannel.1` and `eth0`.
pub(super) fn overflow(cast: Cast<'_>) -> Result<Injected<'_>> {
    limit(cast, TIGHT, "drops")
}

/// The queue has room for everything: packets arrive seconds late, none is lost. Counts how often one had to wait.
pub(super) fn backlog(cast: Cast<'_>) -> Result<Injected<'_>> {
    limit(cast, ROOMY, "overlimits")
}

fn limit<'lab>(cast: Cast<'lab>, limit: [&str; 6], counter: &'static str) -> Result<Injected<'lab>> {
    let netns = &cast.sender.netns;
    netns.run("tc", &[&["qdisc", "add", "dev", NIC, "root", "tbf"][..], &limit].concat())?;
    Ok(Injected::new(
        move || count(netns, counter),
        move || netns.run("tc", &["qdisc", "del", "dev", NIC, "root"]).map(drop),
    ))
}

fn count(netns: &Netns, counter: &str) -> Result<u64> {
    let text = netns.run("tc", &["-s", "-j", "qdisc", "show", "dev", NIC])?;
    let json: Value = serde_json::from_str(&text).context("read tc's JSON")?;
    json[0][counter].as_u64().with_context(|| format!("tc shows no {counter} for {NIC} in {}", netns.name()))
}
