//! A device hook, where tc and CNI programs sit, drops a share of the UDP packets between the two pods.
//!
//! An ingress hook comes after the capture tap of its interface and an egress hook before it, so the drop is beyond
//! the point on the way in and before the point on the way out.

use anyhow::Result;

use super::nft::Rule;
use super::{Cast, Injected, Side, to_receiver};
use crate::lab::plan::{Family, VXLAN_PORT};
use crate::scenario::file::{Place, Point};

/// Drops `percent` of the packets that pass `at`.
pub(super) fn inject(cast: Cast<'_>, at: Point, percent: u8) -> Result<Injected<'_>> {
    let (node, is_leaving) = match at.side {
        Side::Sender => (cast.sender, matches!(at.place, Place::Overlay | Place::Nic)),
        Side::Receiver => (cast.receiver, matches!(at.place, Place::Bridge | Place::Veth)),
    };
    let hook = if is_leaving { "egress" } else { "ingress" };
    let hook = format!("hook {hook} device {} priority 0", at.place.interface(&node.plan));
    let expression = format!("{} numgen random mod 100 <= {}", datagrams(cast, at.place), percent - 1);
    let rule = Rule { family: "netdev", hook: &hook, expression: &expression, verdict: "drop", beside: "" };
    rule.inject(&node.netns)
}

/// Datagrams between the pods, as they look at `place`.
fn datagrams(cast: Cast<'_>, place: Place) -> String {
    let (sender, receiver) = (&cast.sender.plan, &cast.receiver.plan);
    if place == Place::Nic {
        // Behind 8 bytes of UDP, 8 of VXLAN and 14 of Ethernet comes the IP header.
        let protocol = match cast.family {
            Family::V4 => 30 + 9,
            Family::V6 => 30 + 6,
        };
        return format!(
            "ip saddr {} ip daddr {} udp dport {VXLAN_PORT} @th,{},8 17",
            sender.underlay,
            receiver.underlay,
            protocol * 8
        );
    }
    to_receiver(cast, "meta l4proto udp")
}
