//! A firewall drops the overlay's UDP packets: on the receiver in INPUT (lost between `eth0` and `flannel.1`),
//! on the sender in OUTPUT (lost between `flannel.1` and `eth0`).

use anyhow::Result;

use super::nft::Rule;
use super::{Cast, Injected, Side};
use crate::lab::plan::VXLAN_PORT;

pub(super) fn inject(cast: Cast<'_>, at: Side) -> Result<Injected<'_>> {
    let (hook, peer, netns) = match at {
        Side::Receiver => {
            let from = format!("ip saddr {}", cast.sender.plan.underlay);
            ("hook input priority 0", from, &cast.receiver.netns)
        }
        Side::Sender => {
            let to = format!("ip daddr {}", cast.receiver.plan.underlay);
            ("hook output priority 0", to, &cast.sender.netns)
        }
    };
    let expression = format!("{peer} udp dport {VXLAN_PORT}");
    Rule::dropping(hook, &expression).inject(netns)
}
