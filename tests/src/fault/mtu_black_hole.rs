//! The receiver's end of the underlay takes frames of 1,400 bytes while the sender still believes in 1,500: the
//! switch port drops what is longer and tells nobody. Lost between the two nodes' `eth0`.

use anyhow::Result;

use super::{Cast, Injected, offload};
use crate::lab::counter;
use crate::lab::node::NIC;

const HONEST_MTU: u16 = 1500;
const REAL_MTU: u16 = 1400;

pub(super) fn inject(cast: Cast<'_>) -> Result<Injected<'_>> {
    let (switch, port) = (&cast.lab.switch, cast.receiver.plan.name.as_str());
    let (sender, receiver) = (cast.sender, cast.receiver);
    // The kernel lets super-frames pass any MTU, as no real wire does.
    offload::software_segmentation(&sender.netns, true)?;
    receiver.netns.ip(&format!("link set {NIC} mtu {REAL_MTU}\n"))?;
    let before = counter::interface(switch, port, "tx", "dropped")?;
    Ok(Injected::new(
        move || Ok(counter::interface(switch, port, "tx", "dropped")? - before),
        move || {
            receiver.netns.ip(&format!("link set {NIC} mtu {HONEST_MTU}\n"))?;
            offload::software_segmentation(&sender.netns, false)
        },
    ))
}
