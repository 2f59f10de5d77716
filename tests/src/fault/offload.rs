//! Whether `eth0` of a node or pod takes super-frames or has them cut before it.

use anyhow::Result;

use crate::lab::netns::Netns;
use crate::lab::node::NIC;

/// Features that let a super-frame reach the device.
const FEATURES: [&str; 5] =
    ["tso", "gso", "tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation", "tx-udp-segmentation"];

/// Makes the kernel segment in software in front of `eth0`, as on hardware without offloads, or undoes it.
pub fn software_segmentation(netns: &Netns, software: bool) -> Result<()> {
    let value = if software { "off" } else { "on" };
    let mut arguments = vec!["-K", NIC];
    arguments.extend(FEATURES.iter().flat_map(|feature| [*feature, value]));
    netns.run("ethtool", &arguments).map(drop)
}

/// Makes the kernel merge segments as they come in by `eth0` (GRO), or undoes it.
pub fn receive_merging(netns: &Netns, merged: bool) -> Result<()> {
    netns.run("ethtool", &["-K", NIC, "gro", if merged { "on" } else { "off" }]).map(drop)
}
