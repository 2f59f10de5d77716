//! The sender's tunnel packets take the second underlay to the receiver, the answers the first: each direction has a
//! path of its own. The second may lose a share of the datagrams: between the two nodes' `eth1`.

use std::net::Ipv4Addr;

use anyhow::Result;

use super::nft::Rule;
use super::{Cast, Injected, second_underlay};
use crate::lab::node::{OVERLAY, SECOND_NIC};

pub(super) fn inject(cast: Cast<'_>, lost_percent: u8) -> Result<Injected<'_>> {
    let (sender, receiver) = (&cast.sender.plan, &cast.receiver.plan);
    cast.lab.plug_second_underlay()?;
    let striking = match lost_percent {
        0 => {
            let leaving = format!("oifname {SECOND_NIC} ip daddr {}", receiver.second_underlay);
            Rule::counting("hook postrouting priority 300", &leaving).inject(&cast.sender.netns)?
        }
        percent => second_underlay::dropping(cast, [sender.underlay, receiver.second_underlay], percent)?,
    };
    forward(cast, (receiver.underlay, ""), (receiver.second_underlay, SECOND_NIC))?;
    cast.lab.warm_up()?;
    Ok(striking.undone_by(move || {
        forward(cast, (receiver.second_underlay, SECOND_NIC), (receiver.underlay, ""))?;
        cast.lab.unplug_second_underlay()
    }))
}

/// Leads the sender's frames for the receiver's `flannel.1` to another end, by an interface if one is named.
fn forward(cast: Cast<'_>, old: (Ipv4Addr, &str), new: (Ipv4Addr, &str)) -> Result<()> {
    let entry = |(end, via): (Ipv4Addr, &str)| {
        let via = if via.is_empty() { String::new() } else { format!("via {via}") };
        format!("{} dev {OVERLAY} dst {end} {via} self permanent\n", cast.receiver.plan.overlay_mac)
    };
    cast.sender.netns.bridge(&format!("fdb del {}fdb add {}", entry(old), entry(new)))
}
