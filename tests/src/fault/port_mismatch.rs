//! The two nodes disagree on the overlay's UDP port: lost between the receiver's `eth0` and `flannel.1`.

use anyhow::Result;

use super::nft::Rule;
use super::{Cast, Injected};
use crate::lab::node::Node;
use crate::lab::overlay::{self, Tunnel};
use crate::lab::plan::VXLAN_PORT;

/// What the misconfigured node uses instead of [`VXLAN_PORT`]: the port that IANA assigned.
const OTHER_PORT: u16 = 4789;

pub(super) fn inject(cast: Cast<'_>) -> Result<Injected<'_>> {
    // Whom the third node talks to must stay as it is.
    let wrong = if cast.bystander_meets_sender { cast.receiver } else { cast.sender };
    let expression =
        format!("ip saddr {} udp dport {{ {VXLAN_PORT}, {OTHER_PORT} }}", cast.sender.plan.underlay);
    let counting = Rule::counting("hook input priority 0", &expression).inject(&cast.receiver.netns)?;
    rejoin(cast, wrong, OTHER_PORT)?;
    Ok(counting.undone_by(move || rejoin(cast, wrong, VXLAN_PORT)))
}

fn rejoin(cast: Cast<'_>, node: &Node, port: u16) -> Result<()> {
    overlay::rejoin(&node.netns, &node.plan, &cast.lab.peers_of(node), Tunnel { port, ..Tunnel::default() })
}
