//! The sender's neighbour entry for the receiver's overlay address holds a hardware address nobody has, though its
//! forwarding entry leads to the right node. `flannel.1` of the receiver takes the frame for somebody else's:
//! lost between `flannel.1` and `cni0`.

use anyhow::Result;

use super::nft::Rule;
use super::{Cast, Injected, to_receiver};
use crate::lab::node::OVERLAY;

const NOBODY: &str = "02:00:5e:00:00:77";

pub(super) fn inject(cast: Cast<'_>) -> Result<Injected<'_>> {
    let (netns, peer) = (&cast.sender.netns, &cast.receiver.plan);
    let rule = Rule {
        family: "netdev",
        hook: "hook ingress device flannel.1 priority 0",
        expression: &to_receiver(cast, ""),
        verdict: "",
        beside: "",
    };
    let counting = rule.inject(&cast.receiver.netns)?;
    let forwarding = format!("{NOBODY} dev {OVERLAY} dst {} self permanent\n", peer.underlay);
    netns.bridge(&format!("fdb add {forwarding}"))?;
    let neighbor =
        |mac: &str| format!("neigh replace {} lladdr {mac} dev {OVERLAY} nud permanent\n", peer.pods);
    netns.ip(&neighbor(NOBODY))?;
    Ok(counting.undone_by(move || {
        netns.ip(&neighbor(&peer.overlay_mac))?;
        netns.bridge(&format!("fdb del {forwarding}"))
    }))
}
