//! A rate limit on the sender's `eth0` with room for everything: packets arrive seconds late, none is lost.

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Cast, Injected};
use crate::lab::netns::Netns;
use crate::lab::node::NIC;

/// About half of what the traffic sends, with room for all of it.
const LIMIT: [&str; 6] = ["rate", "1200kbit", "burst", "3000", "limit", "10000000"];

pub(super) fn inject(cast: Cast<'_>) -> Result<Injected<'_>> {
    let netns = &cast.sender.netns;
    netns.run("tc", &[&["qdisc", "add", "dev", NIC, "root", "tbf"][..], &LIMIT].concat())?;
    Ok(Injected::new(
        move || delayed(netns),
        move || netns.run("tc", &["qdisc", "del", "dev", NIC, "root"]).map(drop),
    ))
}

/// How often a packet had to wait.
fn delayed(netns: &Netns) -> Result<u64> {
    let text = netns.run("tc", &["-s", "-j", "qdisc", "show", "dev", NIC])?;
    let json: Value = serde_json::from_str(&text).context("read tc's JSON")?;
    json[0]["overlimits"]
        .as_u64()
        .with_context(|| format!("tc shows no overlimits for {NIC} in {}", netns.name()))
}
