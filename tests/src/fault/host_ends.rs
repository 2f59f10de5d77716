//! One end of the conversation is a node itself. A device hook on the way may drop a share of the datagrams.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use serde::Deserialize;

use super::nft::Rule;
use super::{Cast, Injected};
use crate::lab::netns::Netns;
use crate::lab::node::{BRIDGE, NIC};
use crate::traffic::{Conversation, End};

/// Which end is which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// From the sender's pod to its own node: lost between the veth and `cni0`.
    PodToOwnHost,
    /// From the sender's pod to the receiver's node, past the overlay: lost between `cni0` and `eth0`.
    PodToHost,
    /// From the receiver's node to its own pod: lost between `cni0` and the veth.
    HostToOwnPod,
    /// From the sender's node to the receiver's pod: lost between `flannel.1` and `cni0` of the receiver.
    HostToPod,
}

/// Source and destination.
pub(super) fn ends(cast: Cast<'_>, way: Way) -> [End<'_>; 2] {
    let Cast { sender, receiver, .. } = cast;
    let from_pod = End { netns: &sender.pod, address: sender.plan.pod.into() };
    let to_pod = End { netns: &receiver.pod, address: receiver.plan.pod.into() };
    match way {
        Way::PodToOwnHost => [from_pod, host_end(&sender.netns, sender.plan.gateway())],
        Way::PodToHost => [from_pod, host_end(&receiver.netns, receiver.plan.underlay)],
        Way::HostToOwnPod => [host_end(&receiver.netns, receiver.plan.gateway()), to_pod],
        Way::HostToPod => [host_end(&sender.netns, sender.plan.pods), to_pod],
    }
}

fn host_end(netns: &Netns, address: Ipv4Addr) -> End<'_> {
    End { netns, address: IpAddr::from(address) }
}

pub(super) fn aim<'lab>(conversation: &mut Conversation<'lab>, cast: Cast<'lab>, way: Way) {
    [conversation.from, conversation.to] = ends(cast, way);
}

pub(super) fn inject(cast: Cast<'_>, way: Way, lost_percent: u8) -> Result<Injected<'_>> {
    let Cast { sender, receiver, .. } = cast;
    let (netns, hook, device) = match way {
        Way::PodToOwnHost => (&sender.netns, "ingress", &sender.plan.veth[..]),
        Way::PodToHost => (&sender.netns, "egress", NIC),
        Way::HostToOwnPod => (&receiver.netns, "egress", &receiver.plan.veth[..]),
        Way::HostToPod => (&receiver.netns, "egress", BRIDGE),
    };
    let [from, to] = ends(cast, way).map(|end| end.address);
    let share =
        if lost_percent == 0 { String::new() } else { format!("numgen random mod 100 < {lost_percent}") };
    let hook = format!("hook {hook} device {device} priority 0");
    let expression = format!("ip saddr {from} ip daddr {to} meta l4proto udp {share}");
    let verdict = if lost_percent == 0 { "" } else { "drop" };
    Rule { family: "netdev", hook: &hook, expression: &expression, verdict, beside: "" }.inject(netns)
}
