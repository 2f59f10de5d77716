//! The underlay switch sends every overlay packet from sender to receiver twice. Nothing is lost.

use anyhow::Result;

use super::nft::Rule;
use super::{Cast, Injected};
use crate::lab::plan::VXLAN_PORT;

pub(super) fn inject(cast: Cast<'_>) -> Result<Injected<'_>> {
    let (sender, receiver) = (&cast.sender.plan, &cast.receiver.plan);
    let hook = format!("hook ingress device \"{}\" priority 0", sender.name);
    let expression =
        format!("ip saddr {} ip daddr {} udp dport {VXLAN_PORT}", sender.underlay, receiver.underlay);
    let copy = format!("dup to \"{}\"", receiver.name);
    Rule { family: "netdev", hook: &hook, expression: &expression, verdict: &copy, beside: "" }
        .inject(&cast.lab.switch)
}
