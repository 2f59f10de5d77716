//! Packet counters kept by the kernel: named nftables counters and interface statistics.

use anyhow::{Context, Result};
use serde_json::Value;

use super::netns::Netns;

/// Packets in the named counter of table `lastseen_lab` of `family`.
pub fn nft_packets(netns: &Netns, family: &str, counter: &str) -> Result<u64> {
    let text = netns.run("nft", &["-j", "list", "counter", family, "lastseen_lab", counter])?;
    let json: Value = serde_json::from_str(&text).context("read nft's JSON")?;
    let entries = json["nftables"].as_array().context("nft's JSON has no nftables list")?;
    entries
        .iter()
        .find_map(|entry| entry["counter"]["packets"].as_u64())
        .with_context(|| format!("nft lists no counter {counter} in {}", netns.name()))
}

/// `stats64.<direction>.dropped` of an interface; `direction` is `rx` or `tx`.
pub fn dropped(netns: &Netns, interface: &str, direction: &str) -> Result<u64> {
    let text = netns.run("ip", &["-s", "-j", "link", "show", "dev", interface])?;
    let json: Value = serde_json::from_str(&text).context("read ip's JSON")?;
    json[0]["stats64"][direction]["dropped"]
        .as_u64()
        .with_context(|| format!("ip shows no {direction} dropped for {interface} in {}", netns.name()))
}
