//! The pod sends as an address of the receiver's node, which takes no packet from itself off the wire: lost between
//! `flannel.1` and `cni0`.

use std::net::IpAddr;

use anyhow::Result;

use super::nft::Rule;
use super::{Cast, Injected};
use crate::lab::node::OVERLAY;
use crate::traffic::Conversation;

/// The address that the pod claims.
pub(super) fn source(cast: Cast<'_>) -> IpAddr {
    cast.receiver.plan.gateway().into()
}

pub(super) fn aim(conversation: &mut Conversation<'_>, cast: Cast<'_>) {
    conversation.from.address = source(cast);
}

pub(super) fn inject(cast: Cast<'_>) -> Result<Injected<'_>> {
    let (pod, claimed) = (&cast.sender.pod, source(cast));
    let expression = format!("iifname {OVERLAY} ip saddr {claimed} ip daddr {}", cast.receiver.plan.pod);
    let counting =
        Rule::counting("hook prerouting priority -300", &expression).inject(&cast.receiver.netns)?;
    pod.ip(&format!("addr add {claimed}/32 dev lo\n"))?;
    Ok(counting.undone_by(move || pod.ip(&format!("addr del {claimed}/32 dev lo\n"))))
}
