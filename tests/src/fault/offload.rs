//! Whether `eth0` of a node or pod takes super-frames or has them cut before it.

use anyhow::Result;

use crate::lab::netns::Netns;
use crate::lab::node::{NIC, Node};

/// Features that let a super-frame reach the device.
const FEATURES: [&str; 5] =
    ["tso", "gso", "tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation", "tx-udp-segmentation"];

/// Makes the kernel segment in software in front of `eth0`, as on hardware without offloads, or undoes it.
pub fn software_segmentation(netns: &Netns, software: bool) -> Result<()> {
    segment(netns, NIC, software)
}

/// Makes the kernel compute the checksums of what leaves by `eth0`, or undoes it.
pub fn checksums(netns: &Netns, software: bool) -> Result<()> {
    netns.run("ethtool", &["-K", NIC, "tx", if software { "off" } else { "on" }]).map(drop)
}

/// Makes the underlay cut super-frames on the way to a node, which merges them again as they come in (GRO), or undoes
/// it. All segments of a super-frame then arrive together, as from a fast wire.
pub fn merging_receiver(switch: &Netns, node: &Node, merging: bool) -> Result<()> {
    segment(switch, &node.plan.name, merging)?;
    node.netns.run("ethtool", &["-K", NIC, "gro", if merging { "on" } else { "off" }]).map(drop)
}

fn segment(netns: &Netns, interface: &str, software: bool) -> Result<()> {
    let value = if software { "off" } else { "on" };
    let mut arguments = vec!["-K", interface];
    arguments.extend(FEATURES.iter().flat_map(|feature| [*feature, value]));
    netns.run("ethtool", &arguments).map(drop)
}
