//! What a seed decides before anything exists: names, addresses and hardware addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde::Deserialize;

/// Nodes in every lab.
pub const NODES: usize = 3;

/// UDP port of the overlay, as flannel sets it on Linux.
pub const VXLAN_PORT: u16 = 8472;

/// VXLAN network identifier of the overlay, flannel's default.
pub const VNI: u32 = 1;

const NODE_NAMES: [&str; 8] = ["alder", "birch", "cedar", "hazel", "larch", "maple", "rowan", "willow"];
const POD_NAMES: [&str; 8] = ["cart", "checkout", "orders", "mail", "search", "billing", "stock", "web"];

/// Names and addresses of a whole lab.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The seed everything below follows from.
    pub seed: u64,
    /// Start of the name of every namespace in the lab.
    pub prefix: String,
    /// Address of the coordinator on the management network (a /24).
    pub coordinator: Ipv4Addr,
    /// The nodes, in the order they are built.
    pub nodes: Vec<NodePlan>,
}

/// Version of the Internet protocol between pods.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum Family {
    /// IPv4.
    #[default]
    #[serde(rename = "ipv4")]
    V4,
    /// IPv6.
    #[serde(rename = "ipv6")]
    V6,
}

/// Names and addresses of one node and its pod.
#[derive(Debug, Clone)]
pub struct NodePlan {
    /// Node name, also the name in its certificate.
    pub name: String,
    /// Address of `eth0` on the underlay (a /24).
    pub underlay: Ipv4Addr,
    /// Address of `eth1`, where a scenario plugs it in, on the second underlay (a /24).
    pub second_underlay: Ipv4Addr,
    /// Address of `mgmt0` on the management network (a /24).
    pub management: Ipv4Addr,
    /// Network of the node's pods (a /24): also the address of `flannel.1`, as flannel does it.
    pub pods: Ipv4Addr,
    /// Hardware address of `flannel.1`.
    pub overlay_mac: String,
    /// Name of the pod on this node.
    pub pod_name: String,
    /// Address of the pod.
    pub pod: Ipv4Addr,
    /// IPv6 network of the node's pods (a /64): also the address of `flannel.1`.
    pub pods6: Ipv6Addr,
    /// IPv6 address of the pod.
    pub pod6: Ipv6Addr,
    /// Name of the host side of the pod's veth pair.
    pub veth: String,
    /// The second pod, which scenarios plug in where they need it.
    pub neighbor: PodPlan,
}

/// Name and addresses of a further pod.
#[derive(Debug, Clone)]
pub struct PodPlan {
    /// Its name.
    pub name: String,
    /// Its address beside the node's first pod (in the same /24).
    pub address: Ipv4Addr,
    /// Its address in a network of its own (a /24).
    pub apart: Ipv4Addr,
    /// Its hardware address: pods that knew it before still do when it is plugged in again.
    pub mac: String,
    /// Name of the host side of its veth pair.
    pub veth: String,
}

impl NodePlan {
    /// Address of the pod in `family`.
    pub fn pod_in(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.pod.into(),
            Family::V6 => self.pod6.into(),
        }
    }

    /// Address of the node itself, where a scenario makes it the tunnel's end.
    pub fn loopback(&self) -> Ipv4Addr {
        host(Ipv4Addr::new(203, 0, 113, 0), self.underlay.octets()[3])
    }

    /// IPv6 address of `eth0`, where a scenario has it (a /64).
    pub fn underlay6(&self) -> Ipv6Addr {
        let [.., network, number] = self.underlay.octets();
        Ipv6Addr::new(0xfd01, 0, 0, network.into(), 0, 0, 0, number.into())
    }

    /// Address of `cni0`, the pods' gateway.
    pub fn gateway(&self) -> Ipv4Addr {
        host(self.pods, 1)
    }

    /// Hardware address of `cni0`. The CNI bridge plugin fixes it too: a bridge would else take that of one of its
    /// ports, another whenever a pod comes or goes, and pods would go on sending to one that is gone.
    pub fn gateway_mac(&self) -> String {
        let [a, b, c, d] = self.gateway().octets();
        format!("0a:58:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
    }

    /// IPv6 address of `cni0`.
    pub fn gateway6(&self) -> Ipv6Addr {
        host6(self.pods6, 1)
    }
}

impl Plan {
    /// Derives a lab from `seed`; only the namespace prefix differs between two runs of the same seed.
    pub fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let prefix = format!("{}{:04x}-", super::cleanup::own_prefix(), rand::rng().random::<u16>());
        let underlay = Ipv4Addr::new(192, 168, random.random(), 0);
        let management = Ipv4Addr::new(172, random.random_range(16..32), random.random(), 0);
        let cluster: u8 = random.random_range(100..250);
        let hosts = distinct(&mut random, 2..250);
        let subnets = distinct(&mut random, 0..250);
        let mut node_names = NODE_NAMES;
        let mut pod_names = POD_NAMES;
        node_names.shuffle(&mut random);
        pod_names.shuffle(&mut random);
        let nodes = (0..NODES)
            .map(|index| {
                let pods = Ipv4Addr::new(10, cluster, subnets[index], 0);
                let [pod, other] = two_hosts(&mut random);
                let pods6 = Ipv6Addr::new(0xfd00, 0x10, cluster.into(), subnets[index].into(), 0, 0, 0, 0);
                NodePlan {
                    name: format!("{}-{}", node_names[index], random.random_range(1..100)),
                    underlay: host(underlay, hosts[index]),
                    second_underlay: Ipv4Addr::new(198, 18, underlay.octets()[2], hosts[index]),
                    management: host(management, hosts[index]),
                    pods,
                    overlay_mac: mac(&mut random),
                    pod_name: format!("{}-{:05x}", pod_names[index], random.random_range(0..0x10_0000)),
                    pod: host(pods, pod),
                    pods6,
                    pod6: host6(pods6, random.random_range(2..u16::MAX)),
                    veth: format!("veth{:08x}", random.random::<u32>()),
                    neighbor: PodPlan {
                        name: format!(
                            "{}-{:05x}",
                            pod_names[NODES + index],
                            random.random_range(0..0x10_0000)
                        ),
                        address: host(pods, other),
                        apart: Ipv4Addr::new(100, 64, subnets[index], other),
                        mac: mac(&mut random),
                        veth: format!("veth{:08x}", random.random::<u32>()),
                    },
                }
            })
            .collect();
        Self { seed, prefix, coordinator: host(management, 1), nodes }
    }
}

fn host(network: Ipv4Addr, number: u8) -> Ipv4Addr {
    let [a, b, c, _] = network.octets();
    Ipv4Addr::new(a, b, c, number)
}

fn host6(network: Ipv6Addr, number: u16) -> Ipv6Addr {
    let mut parts = network.segments();
    parts[7] = number;
    parts.into()
}

/// A locally administered unicast address.
fn mac(random: &mut StdRng) -> String {
    let octets = random.random::<[u8; 5]>().map(|octet| format!("{octet:02x}"));
    format!("02:{}", octets.join(":"))
}

/// Two different pods of one network.
fn two_hosts(random: &mut StdRng) -> [u8; 2] {
    let numbers = distinct(random, 2..250);
    [numbers[0], numbers[1]]
}

fn distinct(random: &mut StdRng, range: std::ops::Range<u8>) -> Vec<u8> {
    let mut numbers: Vec<u8> = range.collect();
    numbers.shuffle(random);
    numbers.truncate(NODES);
    numbers
}

#[cfg(test)]
mod tests {
    use super::Plan;

    #[test]
    fn the_same_seed_gives_the_same_names_and_addresses() {
        let (one, other) = (Plan::new(7), Plan::new(7));
        assert_eq!(format!("{:?}", one.nodes), format!("{:?}", other.nodes));
        assert_ne!(format!("{:?}", one.nodes), format!("{:?}", Plan::new(8).nodes));
    }

    #[test]
    fn addresses_within_a_lab_never_collide() {
        for seed in 0..200 {
            let plan = Plan::new(seed);
            let mut all = vec![plan.coordinator];
            for node in &plan.nodes {
                all.extend([node.underlay, node.management, node.pods, node.gateway(), node.pod]);
                all.extend([
                    node.neighbor.address,
                    node.neighbor.apart,
                    node.second_underlay,
                    node.loopback(),
                ]);
            }
            let count = all.len();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), count, "seed {seed}");
        }
    }
}
