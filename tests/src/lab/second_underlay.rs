//! A second underlay network: `eth1` of every node on a bridge of its own in the switch. There only while a scenario
//! needs it.

use anyhow::Result;

use super::Lab;
use super::node::SECOND_NIC;
use super::plan::NodePlan;

/// The second underlay's bridge.
const BRIDGE: &str = "br1";

impl Lab {
    /// Connects every node's `eth1`.
    pub fn plug_second_underlay(&self) -> Result<()> {
        self.switch.ip(&format!("link add {BRIDGE} type bridge\nlink set {BRIDGE} up\n"))?;
        for node in &self.nodes {
            let port = port(&node.plan);
            node.netns.ip(&format!(
                "link add {SECOND_NIC} type veth peer name {port} netns {}\n\
                 link set {SECOND_NIC} up\n\
                 addr add {}/24 dev {SECOND_NIC}\n",
                self.switch.name(),
                node.plan.second_underlay
            ))?;
            self.switch.ip(&format!("link set {port} master {BRIDGE} up\n"))?;
        }
        Ok(())
    }

    /// Takes it away again.
    pub fn unplug_second_underlay(&self) -> Result<()> {
        for node in &self.nodes {
            node.netns.ip(&format!("link del {SECOND_NIC}\n"))?;
        }
        self.switch.ip(&format!("link del {BRIDGE}\n"))
    }
}

/// The switch's port of a node's `eth1`.
fn port(node: &NodePlan) -> String {
    format!("{}.2", node.name)
}
