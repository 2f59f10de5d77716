//! Packet counters kept by the kernel: named nftables counters and interface statistics.

use std::fs;

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

/// A counter of the namespace's IPv4, such as `FragCreates` (RFC 4293's `ipSystemStats`).
pub fn ipv4(netns: &Netns, counter: &str) -> Result<u64> {
    let text = netns.enter(|| fs::read_to_string("/proc/thread-self/net/snmp").context("read snmp"))?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let named = names.split(' ').zip(values.split(' ')).find(|(name, _)| *name == counter);
    let value = named.and_then(|(_, value)| value.parse().ok());
    value.with_context(|| format!("the kernel has no counter {counter} in {}", netns.name()))
}

/// A counter of the namespace's IPv6, such as `Ip6FragOKs`.
pub fn ipv6(netns: &Netns, counter: &str) -> Result<u64> {
    let text = netns.enter(|| fs::read_to_string("/proc/thread-self/net/snmp6").context("read snmp6"))?;
    let mut counters = text.lines().filter_map(|line| line.split_once(char::is_whitespace));
    let value = counters.find(|(name, _)| *name == counter).and_then(|(_, value)| value.trim().parse().ok());
    value.with_context(|| format!("the kernel has no counter {counter} in {}", netns.name()))
}

/// A counter of the namespace's connection tracking, such as `insert_failed`, summed over processors.
pub fn conntrack(netns: &Netns, counter: &str) -> Result<u64> {
    let path = "/proc/thread-self/net/stat/nf_conntrack";
    let text = netns.enter(|| fs::read_to_string(path).with_context(|| format!("read {path}")))?;
    let mut lines = text.lines().map(|line| line.split_whitespace());
    let column = lines.next().and_then(|mut names| names.position(|name| name == counter));
    let column = column.with_context(|| format!("the kernel has no counter {counter} in {path}"))?;
    let values = lines.map(|mut line| u64::from_str_radix(line.nth(column).unwrap_or_default(), 16));
    values.sum::<Result<u64, _>>().with_context(|| format!("read {counter} in {path}"))
}

/// `stats64.<direction>.<counter>` of an interface, such as `rx`, `packets`.
pub fn interface(netns: &Netns, interface: &str, direction: &str, counter: &str) -> Result<u64> {
    let text = netns.run("ip", &["-s", "-j", "link", "show", "dev", interface])?;
    let json: Value = serde_json::from_str(&text).context("read ip's JSON")?;
    json[0]["stats64"][direction][counter]
        .as_u64()
        .with_context(|| format!("ip shows no {direction} {counter} for {interface} in {}", netns.name()))
}
