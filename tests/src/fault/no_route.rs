//! The sender has no route to the receiver's pods: lost between `cni0` and `flannel.1`.

use anyhow::Result;

use super::nft::Rule;
use super::{Cast, Injected, to_receiver};
use crate::lab::node::{BRIDGE, OVERLAY};

pub(super) fn inject(cast: Cast<'_>) -> Result<Injected<'_>> {
    let (netns, pods) = (&cast.sender.netns, cast.receiver.plan.pods);
    let expression = to_receiver(cast, &format!("iifname {BRIDGE}"));
    let counting = Rule::counting("hook prerouting priority -300", &expression).inject(netns)?;
    netns.ip(&format!("route del {pods}/24\n"))?;
    Ok(counting
        .undone_by(move || netns.ip(&format!("route add {pods}/24 via {pods} dev {OVERLAY} onlink\n"))))
}
