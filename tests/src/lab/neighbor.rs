//! A second pod on a node. Its namespace is always there; it hangs on a bridge only while a scenario needs it.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;

use super::netns::Netns;
use super::node::{Node, OVERLAY_MTU};
use super::plan::PodPlan;

impl Node {
    /// Connects the second pod to `bridge` of its node, with `address` in a /24 whose first host is its gateway.
    pub fn plug_neighbor(&self, bridge: &str, address: Ipv4Addr) -> Result<()> {
        let PodPlan { veth, mac, .. } = &self.plan.neighbor;
        let [a, b, c, _] = address.octets();
        self.netns.ip(&format!(
            "link add {veth} mtu {OVERLAY_MTU} type veth peer name eth0 address {mac} mtu {OVERLAY_MTU} netns {}\n\
             link set {veth} master {bridge} up\n",
            self.neighbor.name()
        ))?;
        self.neighbor.ip(&format!(
            "link set eth0 up\n\
             addr add {address}/24 dev eth0\n\
             route add default via {a}.{b}.{c}.1\n"
        ))
    }

    /// Takes the second pod off again.
    pub fn unplug_neighbor(&self) -> Result<()> {
        self.netns.ip(&format!("link del {}\n", self.plan.neighbor.veth))
    }
}

/// Sends echoes until one is answered: an interface that was just plugged in takes a moment to carry anything, and what
/// waits for a neighbour that was asked for in vain goes with it.
pub fn reach(from: &Netns, to: impl Into<IpAddr>) -> Result<()> {
    from.run("ping", &["-n", "-q", "-c", "1", "-i", "0.2", "-w", "5", &to.into().to_string()]).map(drop)
}
