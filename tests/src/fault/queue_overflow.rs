//! A rate limit on the sender's `eth0` fills its queue: the tail is dropped between `flannel.1` and `eth0`.

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Cast, Injected};
use crate::lab::netns::Netns;
use crate::lab::node::NIC;

/// Slower than the traffic, with room for a few packets.
const LIMIT: [&str; 6] = ["rate", "4mbit", "burst", "3000", "limit", "6000"];

pub(super) fn inject(cast: Cast<'_>) -> Result<Injected<'_>> {
    let netns = &cast.sender.netns;
    netns.run("tc", &[&["qdisc", "add", "dev", NIC, "root", "tbf"][..], &LIMIT].concat())?;
    Ok(Injected::new(
        move || dropped(netns),
        move || netns.run("tc", &["qdisc", "del", "dev", NIC, "root"]).map(drop),
    ))
}

fn dropped(netns: &Netns) -> Result<u64> {
    let text = netns.run("tc", &["-s", "-j", "qdisc", "show", "dev", NIC])?;
    let json: Value = serde_json::from_str(&text).context("read tc's JSON")?;
    json[0]["drops"].as_u64().with_context(|| format!("tc shows no drops for {NIC} in {}", netns.name()))
}
