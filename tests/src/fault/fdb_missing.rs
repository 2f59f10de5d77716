//! The forwarding entry of the receiver's overlay address is gone: lost between `flannel.1` and `eth0`.

use anyhow::Result;

use super::nft::Rule;
use super::{Cast, Injected};
use crate::lab::node::OVERLAY;

pub(super) fn inject(cast: Cast<'_>) -> Result<Injected<'_>> {
    let (sender, receiver) = (cast.sender, cast.receiver);
    let entry = format!(
        "{} dev {OVERLAY} dst {} self permanent\n",
        receiver.plan.overlay_mac, receiver.plan.underlay
    );
    // The device's own tx_dropped also counts the multicast it never carries, so what is handed to the device
    // for this pod is counted; without the entry all of it is lost.
    let expression = format!("oifname {OVERLAY} ip daddr {}", receiver.plan.pod);
    let counting = Rule::counting("hook postrouting priority 300", &expression).inject(&sender.netns)?;
    sender.netns.bridge(&format!("fdb del {entry}"))?;
    Ok(counting.undone_by(move || sender.netns.bridge(&format!("fdb add {entry}"))))
}
