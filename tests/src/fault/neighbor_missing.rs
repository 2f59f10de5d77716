//! The sender has no neighbour entry for the receiver's overlay address, and nobody answers its requests. Packets
//! wait in the neighbour's queue and are freed some seconds later: lost between `cni0` and `flannel.1`.

use anyhow::Result;

use super::nft::Rule;
use super::{Cast, Injected, to_receiver};
use crate::lab::node::OVERLAY;

pub(super) fn inject(cast: Cast<'_>) -> Result<Injected<'_>> {
    let (netns, peer) = (&cast.sender.netns, &cast.receiver.plan);
    let entry = format!("{} lladdr {} dev {OVERLAY}", peer.pods, peer.overlay_mac);
    let counting = Rule::counting("hook postrouting priority 300", &to_receiver(cast, "oifname flannel.1"))
        .inject(netns)?;
    netns.ip(&format!("neigh del {entry}\n"))?;
    Ok(counting.undone_by(move || netns.ip(&format!("neigh replace {entry} nud permanent\n"))))
}
