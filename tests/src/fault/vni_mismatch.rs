//! One node uses another network identifier: lost between the receiver's `eth0` and `flannel.1`.

use anyhow::Result;

use super::nft::Rule;
use super::{Cast, Injected};
use crate::lab::node::Node;
use crate::lab::overlay::{self, Tunnel};
use crate::lab::plan::{VNI, VXLAN_PORT};

/// What the misconfigured node uses instead of [`VNI`].
const WRONG_VNI: u32 = 77;

pub(super) fn inject(cast: Cast<'_>) -> Result<Injected<'_>> {
    // Whom the third node talks to must stay as it is.
    let wrong = if cast.bystander_meets_sender { cast.receiver } else { cast.sender };
    // No counter of the kernel knows of an unknown identifier; all overlay packets from the sender meet that fate.
    let expression = format!("ip saddr {} udp dport {VXLAN_PORT}", cast.sender.plan.underlay);
    let counting = Rule::counting("hook input priority 0", &expression).inject(&cast.receiver.netns)?;
    rejoin(cast, wrong, WRONG_VNI)?;
    Ok(counting.undone_by(move || rejoin(cast, wrong, VNI)))
}

fn rejoin(cast: Cast<'_>, node: &Node, vni: u32) -> Result<()> {
    overlay::rejoin(&node.netns, &node.plan, &cast.lab.peers_of(node), Tunnel { vni, ..Tunnel::default() })
}
