//! The sender's node translates addresses, and something beyond may drop a share of the datagrams.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use serde::Deserialize;

use super::nft::Rule;
use super::{Cast, Injected};
use crate::lab::netns::Netns;
use crate::lab::node::{NIC, OVERLAY};
use crate::lab::plan::VXLAN_PORT;
use crate::traffic::{Conversation, End};

/// Address of the service, in a network that no node routes.
pub const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

/// Which addresses the sender's node replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// The destination: a service's address by that of the receiver's pod.
    Service,
    /// The destination as above, and the source by the node's own address, with another port.
    ServiceMasqueraded,
    /// The source by the node's own address: the receiver's node itself is an outside host.
    Outside,
}

impl Way {
    /// How many further tuples a packet of the sender's pod has on its way.
    pub fn translations(self) -> usize {
        match self {
            Self::Service | Self::Outside => 1,
            Self::ServiceMasqueraded => 2,
        }
    }
}

/// Aims the conversation between the two pods at what is translated.
pub fn aim<'lab>(conversation: &mut Conversation<'lab>, way: Way, cast: Cast<'lab>) {
    if way == Way::Outside {
        let Cast { receiver, .. } = cast;
        conversation.to = End { netns: &receiver.netns, address: receiver.plan.underlay.into() };
    } else {
        conversation.dialled = Some(IpAddr::from(SERVICE));
    }
}

/// Translates on the sender's node; beyond it the datagrams are counted, and `lost_percent` of them dropped.
pub(super) fn inject(cast: Cast<'_>, way: Way, lost_percent: u8) -> Result<Injected<'_>> {
    let netns = &cast.sender.netns;
    let counted = count_beyond(cast, way, lost_percent)?;
    // The bridge translates already (`br_netfilter`), so that the pod's veth is the only point before.
    netns.sysctl("net/bridge/bridge-nf-call-iptables", "1")?;
    translate(netns, cast, way)?;
    Ok(counted.undone_by(|| netns.nft("delete table ip lastseen_nat\n")))
}

pub(super) fn translate(netns: &Netns, cast: Cast<'_>, way: Way) -> Result<()> {
    netns.nft(&format!("table ip lastseen_nat {{\n{}}}\n", rules(cast, way)))
}

/// Source and destination beyond every translation.
pub(super) fn beyond(cast: Cast<'_>, way: Way) -> [Ipv4Addr; 2] {
    let (sender, receiver) = (&cast.sender.plan, &cast.receiver.plan);
    match way {
        Way::Service => [sender.pod, receiver.pod],
        Way::ServiceMasqueraded => [sender.pods, receiver.pod],
        Way::Outside => [sender.underlay, receiver.underlay],
    }
}

fn rules(cast: Cast<'_>, way: Way) -> String {
    let (pod, backend) = (cast.sender.plan.pod, cast.receiver.plan.pod);
    let service = format!(
        "chain services {{ type nat hook prerouting priority dstnat; ip daddr {SERVICE} dnat to {backend}; }}\n"
    );
    let masquerade = |of: &str| {
        format!(
            "chain leaving {{ type nat hook postrouting priority srcnat; ip saddr {pod} {of} masquerade \
             fully-random; }}\n"
        )
    };
    match way {
        Way::Service => service,
        Way::ServiceMasqueraded => service + &masquerade(&format!("oifname {OVERLAY} ct status dnat")),
        Way::Outside => masquerade(&format!("oifname {NIC}")),
    }
}

/// A rule for the datagrams as they are beyond the translation: on the receiver, or on the switch before it.
fn count_beyond(cast: Cast<'_>, way: Way, lost_percent: u8) -> Result<Injected<'_>> {
    let [from, to] = beyond(cast, way);
    let share = match lost_percent {
        0 => String::new(),
        percent => format!("numgen random mod 100 < {percent}"),
    };
    let expression = format!("ip saddr {from} ip daddr {to} udp dport != {VXLAN_PORT} {share}");
    let hook = "hook forward priority 0";
    let rule = match lost_percent {
        0 => Rule::counting(hook, &expression),
        _ => Rule::dropping(hook, &expression),
    };
    match way {
        Way::Service | Way::ServiceMasqueraded => rule.inject(&cast.receiver.netns),
        Way::Outside => Rule { family: "bridge", ..rule }.inject(&cast.lab.switch),
    }
}
