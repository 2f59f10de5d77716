//! One node as flannel leaves it: pod veth, `cni0`, `flannel.1`, `eth0`, and `mgmt0` beside them.

use anyhow::Result;

use super::netns::Netns;
use super::overlay::{self, Tunnel};
use super::plan::NodePlan;

/// The bridge the pods hang on.
pub const BRIDGE: &str = "cni0";
/// The VXLAN device.
pub const OVERLAY: &str = "flannel.1";
/// The underlay interface.
pub const NIC: &str = "eth0";
/// The second underlay interface, in scenarios that have one.
pub const SECOND_NIC: &str = "eth1";
/// The bridge of the second overlay, in scenarios that have one.
pub const SECOND_BRIDGE: &str = "cni1";
/// Its VXLAN device.
pub const SECOND_OVERLAY: &str = "flannel.2";
/// The management interface, used by the agent only.
pub const MANAGEMENT: &str = "mgmt0";

/// MTU of the pods and of the overlay device: the underlay's 1,500 less the 50 bytes of VXLAN over IPv4.
pub const OVERLAY_MTU: u16 = 1450;

/// A node and its pod, built and wired.
#[derive(Debug)]
pub struct Node {
    /// Names and addresses.
    pub plan: NodePlan,
    /// The pod's network namespace. Removed before the node's.
    pub pod: Netns,
    /// The second pod's, empty unless a scenario plugs it in.
    pub neighbor: Netns,
    /// The node's network namespace.
    pub netns: Netns,
}

impl Node {
    /// The pod as `ctl` takes a source of probes: `NODE:NETNS`.
    pub fn pod_source(&self) -> String {
        format!("{}:{}", self.plan.name, self.pod.name())
    }

    /// Makes the node's namespaces and everything inside it that needs no other node.
    pub fn create(prefix: &str, plan: NodePlan) -> Result<Self> {
        let netns = Netns::create(&format!("{prefix}{}", plan.name))?;
        let pod = Netns::create(&format!("{prefix}{}", plan.pod_name))?;
        let neighbor = Netns::create(&format!("{prefix}{}", plan.neighbor.name))?;
        netns.sysctl("net/ipv4/ip_forward", "1")?;
        netns.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        let node = Self { plan, pod, neighbor, netns };
        node.add_pod()?;
        Ok(node)
    }

    fn add_pod(&self) -> Result<()> {
        let NodePlan { veth, pod, pod6, .. } = &self.plan;
        let (gateway, gateway6) = (self.plan.gateway(), self.plan.gateway6());
        self.netns.ip(&format!(
            "link add {BRIDGE} address {} mtu {OVERLAY_MTU} type bridge\n\
             link set {BRIDGE} up\n\
             addr add {gateway}/24 dev {BRIDGE}\n\
             addr add {gateway6}/64 dev {BRIDGE} nodad\n\
             link add {veth} mtu {OVERLAY_MTU} type veth peer name eth0 mtu {OVERLAY_MTU} netns {}\n\
             link set {veth} master {BRIDGE} up\n",
            self.plan.gateway_mac(),
            self.pod.name()
        ))?;
        self.pod.ip(&format!(
            "link set eth0 up\n\
             addr add {pod}/24 dev eth0\n\
             addr add {pod6}/64 dev eth0 nodad\n\
             route add default via {gateway}\n\
             route add default via {gateway6}\n"
        ))
    }

    /// Connects `eth0` to the underlay switch and `mgmt0` to the management bridge.
    pub fn plug(&self, switch: &Netns, management: &Netns) -> Result<()> {
        let NodePlan { name, .. } = &self.plan;
        for (interface, address, far_end) in
            [(NIC, self.plan.underlay, switch), (MANAGEMENT, self.plan.management, management)]
        {
            self.netns.ip(&format!(
                "link add {interface} type veth peer name {name} netns {}\n\
                 link set {interface} up\n\
                 addr add {address}/24 dev {interface}\n",
                far_end.name()
            ))?;
            far_end.ip(&format!("link set {name} master br0 up\n"))?;
        }
        Ok(())
    }

    /// Joins the overlay: `flannel.1` and, for each peer, route, neighbour and forwarding entry.
    pub fn join(&self, peers: &[&NodePlan]) -> Result<()> {
        overlay::join(&self.netns, &self.plan, peers, Tunnel::default())
    }
}
