//! A PREROUTING rule on the sender drops UDP between the two pods. The bridge runs it before it hands packets to
//! `cni0` (`br_netfilter`), so they are lost between the pod's veth and `cni0`.

use anyhow::Result;

use super::nft::Rule;
use super::{Cast, Injected, to_receiver};

pub(super) fn inject(cast: Cast<'_>, percent: u8) -> Result<Injected<'_>> {
    let netns = &cast.sender.netns;
    let expression = to_receiver(cast, &format!("meta l4proto udp numgen random mod 100 <= {}", percent - 1));
    netns.sysctl("net/bridge/bridge-nf-call-iptables", "1")?;
    Rule::dropping("hook prerouting priority 0", &expression).inject(netns)
}
