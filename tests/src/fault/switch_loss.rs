//! The underlay switch drops a share of the overlay packets: lost between the two nodes' `eth0`.

use anyhow::Result;

use super::nft::Rule;
use super::{Cast, Injected};
use crate::lab::plan::VXLAN_PORT;

pub(super) fn inject(cast: Cast<'_>, percent: u8) -> Result<Injected<'_>> {
    let (from, to) = (cast.sender.plan.underlay, cast.receiver.plan.underlay);
    let expression = format!(
        "ip saddr {from} ip daddr {to} udp dport {VXLAN_PORT} numgen random mod 100 <= {}",
        percent - 1
    );
    let rule = Rule {
        family: "bridge",
        hook: "hook forward priority 0",
        expression: &expression,
        verdict: "drop",
        beside: "",
    };
    rule.inject(&cast.lab.switch)
}
