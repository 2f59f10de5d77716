//! Three nodes with a pod each, a VXLAN overlay, an underlay switch and a management network.
//!
//! ```text
//!  pod eth0 ── veth… ─ cni0 ─ flannel.1 ─ eth0 ──┐ underlay switch ┌── eth0 ─ flannel.1 ─ cni0 ─ veth… ── pod eth0
//!                                  mgmt0 ──── management bridge (coordinator, ctl) ──── mgmt0
//! ```

pub mod bpf;
pub mod cleanup;
pub mod command;
pub mod counter;
pub mod neighbor;
pub mod netns;
pub mod node;
pub mod overlay;
pub mod packet_socket;
pub mod plan;
mod second_underlay;

use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail};

use netns::Netns;
use node::Node;
use plan::{Family, NodePlan, Plan};

/// Programs every lab needs.
const TOOLS: [&str; 5] = ["ip", "bridge", "nft", "ethtool", "ping"];

/// A running lab; dropping it removes every namespace and what runs in them.
#[derive(Debug)]
pub struct Lab {
    /// The seed's decisions.
    pub plan: Plan,
    /// The nodes, in the plan's order.
    pub nodes: Vec<Node>,
    /// The underlay switch: a bridge `br0` with one port per node, named after it.
    pub switch: Netns,
    /// The management network: a bridge `br0` that holds the coordinator's address.
    pub management: Netns,
}

impl Lab {
    /// Builds the lab that `seed` describes and sends one packet over every path, so that neighbours are known.
    pub fn build(seed: u64) -> Result<Self> {
        require_root_and_tools()?;
        let plan = Plan::new(seed);
        let switch = bridge(&format!("{}switch", plan.prefix), None)?;
        // Otherwise the host's netfilter reassembles and refragments what a real switch only forwards.
        switch.sysctl("net/bridge/bridge-nf-call-iptables", "0")?;
        let management = bridge(&format!("{}mgmt", plan.prefix), Some(plan.coordinator))?;
        let nodes = plan.nodes.iter().map(|node| Node::create(&plan.prefix, node.clone()));
        let lab = Self { nodes: nodes.collect::<Result<_>>()?, plan, switch, management };
        lab.wire()?;
        lab.warm_up()?;
        Ok(lab)
    }

    fn wire(&self) -> Result<()> {
        for node in &self.nodes {
            node.plug(&self.switch, &self.management)?;
            node.join(&self.peers_of(node))?;
        }
        Ok(())
    }

    /// Resolves every neighbour a later packet needs, by an echo between each pair of pods.
    pub fn warm_up(&self) -> Result<()> {
        for from in &self.nodes {
            for to in self.peers_of(from) {
                for address in [to.pod_in(Family::V4), to.pod_in(Family::V6)] {
                    neighbor::reach(&from.pod, address).with_context(|| {
                        format!("from the pod of {} to that of {}", from.plan.name, to.name)
                    })?;
                }
            }
        }
        Ok(())
    }

    /// The plans of all nodes but `node`.
    pub fn peers_of(&self, node: &Node) -> Vec<&NodePlan> {
        self.plan.nodes.iter().filter(|peer| peer.name != node.plan.name).collect()
    }
}

fn bridge(name: &str, address: Option<Ipv4Addr>) -> Result<Netns> {
    let netns = Netns::create(name)?;
    netns.ip("link add br0 type bridge\nlink set br0 up\n")?;
    if let Some(address) = address {
        netns.ip(&format!("addr add {address}/24 dev br0\n"))?;
    }
    Ok(netns)
}

fn require_root_and_tools() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("the lab makes network namespaces and needs root: run again with sudo");
    }
    let missing = command::missing(&TOOLS);
    if !missing.is_empty() {
        bail!("the lab needs {}: install nftables, iproute2, ethtool and iputils-ping", missing.join(", "));
    }
    Ok(())
}
