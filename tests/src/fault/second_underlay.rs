//! What the second underlay loses.

use std::net::Ipv4Addr;

use anyhow::Result;

use super::nft::Rule;
use super::{Cast, Injected};
use crate::lab::plan::VXLAN_PORT;

/// Offset of the inner IPv4 protocol behind the outer UDP header, bits: VXLAN and Ethernet lie between.
pub(super) const INNER_PROTOCOL: usize = (8 + 8 + 14 + 9) * 8;

/// The switch drops a share of the datagrams in the tunnel between two ends that come out of the sender's `eth1`.
pub(super) fn dropping(cast: Cast<'_>, [from, to]: [Ipv4Addr; 2], percent: u8) -> Result<Injected<'_>> {
    let expression = format!(
        "iifname \"{}.2\" ip saddr {from} ip daddr {to} udp dport {VXLAN_PORT} @th,{INNER_PROTOCOL},8 17 \
         numgen random mod 100 < {percent}",
        cast.sender.plan.name
    );
    let hook = "hook forward priority 0";
    let rule = Rule { family: "bridge", ..Rule::dropping(hook, &expression) };
    rule.inject(&cast.lab.switch)
}
