//! What is played.

/// How packets get from node to node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carriage {
    /// Geneve with an option, as OVN and Antrea have it.
    Geneve,
    /// IP in IP, as Calico has it.
    IpInIp,
    /// Encrypted: on the underlay only its own header shows.
    WireGuard,
    /// VXLAN in frames with an 802.1Q tag.
    TaggedVxlan,
    /// VXLAN.
    Vxlan,
}

/// What the first node makes of a service's address, without connection tracking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// The pod is addressed itself.
    None,
    /// The destination is replaced.
    Destination,
    /// The source too, by an address of the node.
    BothWays,
}

/// One scenario.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// How packets travel.
    pub carriage: Carriage,
    /// What becomes of their addresses.
    pub service: Service,
    /// The point, counted from the sender, behind which packets vanish; absent for none.
    pub lost_after: Option<usize>,
    /// Every packet vanishes there, not some.
    pub is_total: bool,
    /// `diff-files` is told the topology.
    pub has_topology: bool,
}

/// Every scenario.
pub fn cases() -> Vec<Case> {
    use Carriage::{Geneve, IpInIp, TaggedVxlan, Vxlan, WireGuard};
    let plain = |carriage, lost_after| Case {
        carriage,
        service: Service::None,
        lost_after,
        is_total: false,
        has_topology: true,
    };
    let mut cases = vec![plain(Geneve, None), plain(WireGuard, None)];
    for carriage in [Geneve, IpInIp, TaggedVxlan] {
        cases.extend([1, 2, 3].map(|after| plain(carriage, Some(after))));
    }
    cases.extend([0, 1, 2, 3, 4].map(|after| plain(WireGuard, Some(after))));
    for service in [Service::Destination, Service::BothWays] {
        cases.push(Case { service, ..plain(Vxlan, None) });
        cases.extend([0, 2, 4].map(|after| Case { service, ..plain(Vxlan, Some(after)) }));
    }
    let black_holes = [(Geneve, 2), (IpInIp, 2), (WireGuard, 1), (WireGuard, 2)];
    cases
        .extend(black_holes.map(|(carriage, after)| Case { is_total: true, ..plain(carriage, Some(after)) }));
    let without: Vec<_> = cases.iter().map(|case| Case { has_topology: false, ..*case }).collect();
    cases.extend(without);
    cases
}

impl Case {
    /// The scenario's sentence.
    pub fn name(&self) -> String {
        let carriage = match self.carriage {
            Carriage::Geneve => "Geneve",
            Carriage::IpInIp => "IP in IP",
            Carriage::WireGuard => "WireGuard",
            Carriage::TaggedVxlan => "VXLAN with 802.1Q",
            Carriage::Vxlan => "VXLAN",
        };
        let service = match self.service {
            Service::None => "",
            Service::Destination => ", IPVS replaces the destination",
            Service::BothWays => ", IPVS replaces both addresses",
        };
        let amount = if self.is_total { "all" } else { "some" };
        let loss = match self.lost_after {
            None => ", nothing lost".to_owned(),
            Some(after) => format!(", {amount} lost behind point {}", after + 1),
        };
        let topology = if self.has_topology { "" } else { ", without a topology" };
        format!("files: {carriage}{service}{loss}{topology}")
    }

    /// Name of the device that puts packets into the tunnel.
    pub fn device(&self) -> &'static str {
        match self.carriage {
            Carriage::Geneve => "geneve0",
            Carriage::IpInIp => "tunl0",
            Carriage::WireGuard => "wg0",
            Carriage::TaggedVxlan | Carriage::Vxlan => "flannel.1",
        }
    }

    /// Node (0 or 1) and interface of the points, in the order in which packets of the first node meet them.
    pub fn points(&self) -> [(usize, &'static str); 6] {
        let device = self.device();
        [(0, "veth"), (0, device), (0, "eth0"), (1, "eth0"), (1, device), (1, "veth")]
    }
}

/// Node names.
pub(super) const NODES: [&str; 2] = ["a", "b"];
