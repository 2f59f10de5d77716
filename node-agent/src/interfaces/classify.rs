//! What an interface is.

use std::collections::HashSet;
use std::net::IpAddr;

use lastseen_proto::v1::InterfaceKind;
use netlink_packet_route::link::{InfoData, InfoKind, LinkFlags, LinkHeader, LinkLayerType};

use super::Link;

/// What netlink tells of an interface that decides its kind.
pub(super) struct Traits {
    pub(super) kind: Option<InfoKind>,
    pub(super) data: Option<InfoData>,
    /// `IFLA_LINK`: the peer of a veth.
    pub(super) lower: Option<u32>,
    /// The index in `lower` counts in another network namespace.
    pub(super) lower_is_elsewhere: bool,
    is_loopback: bool,
    is_ethernet: bool,
}

impl Traits {
    pub(super) fn new(header: &LinkHeader) -> Self {
        Self {
            kind: None,
            data: None,
            lower: None,
            lower_is_elsewhere: false,
            is_loopback: header.flags.contains(LinkFlags::Loopback),
            is_ethernet: header.link_layer_type == LinkLayerType::Ether,
        }
    }

    /// One end of a pair of devices.
    pub(super) fn is_pair(&self) -> bool {
        matches!(self.kind, Some(InfoKind::Veth | InfoKind::Netkit))
    }
}

/// The kind as far as the interface itself tells.
pub(super) fn kind(traits: &Traits) -> InterfaceKind {
    match &traits.kind {
        _ if traits.is_loopback => InterfaceKind::Loopback,
        Some(InfoKind::Veth | InfoKind::Netkit) if traits.lower_is_elsewhere => InterfaceKind::PodVeth,
        Some(InfoKind::Veth | InfoKind::Netkit) => InterfaceKind::Veth,
        Some(InfoKind::Bridge) => InterfaceKind::Bridge,
        Some(kind) if super::overlay::kind(kind).is_some() => InterfaceKind::Overlay,
        None if traits.is_ethernet => InterfaceKind::Physical,
        _ => InterfaceKind::Other,
    }
}

/// Nodes that are containers or namespaces themselves reach other machines through a veth. Such a veth carries a
/// tunnel, or has an address in a network of its own and no bridge above; a pod's veth has none or a host address.
pub(super) fn refine(links: &mut [Link]) {
    let carriers: HashSet<u32> =
        links.iter().filter_map(|link| link.interface.overlay.as_ref()?.underlay_index).collect();
    for Link { interface, .. } in links {
        let is_carrier = carriers.contains(&interface.index)
            || (interface.master_index.is_none() && interface.addresses.iter().any(|a| is_in_network(a)));
        if interface.kind() == InterfaceKind::PodVeth && is_carrier {
            interface.set_kind(InterfaceKind::Physical);
        }
    }
}

fn is_in_network(address: &str) -> bool {
    let Some((address, prefix)) = address.split_once('/') else { return false };
    match (address.parse(), prefix.parse::<u8>()) {
        (Ok(IpAddr::V4(address)), Ok(prefix)) => prefix < 32 && !address.is_link_local(),
        (Ok(IpAddr::V6(address)), Ok(prefix)) => prefix < 128 && !address.is_unicast_link_local(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn veth(index: u32, addresses: &[&str], master_index: Option<u32>) -> Link {
        let mut interface = lastseen_proto::v1::Interface {
            index,
            addresses: addresses.iter().map(ToString::to_string).collect(),
            master_index,
            ..Default::default()
        };
        interface.set_kind(InterfaceKind::PodVeth);
        Link { interface, frames: None }
    }

    #[test]
    fn a_veth_with_a_network_or_a_tunnel_reaches_other_machines() {
        let tunnel = lastseen_proto::v1::OverlayDevice { underlay_index: Some(5), ..Default::default() };
        let mut links = vec![
            veth(1, &["10.0.0.3/24"], None),
            veth(2, &["169.254.1.1/16", "fe80::1/64"], None),
            veth(3, &["10.244.1.1/32"], None),
            veth(4, &["10.0.0.3/24"], Some(9)),
            veth(5, &[], None),
            veth(6, &[], None),
        ];
        links[5].interface.overlay = Some(tunnel);
        refine(&mut links);
        let physical: Vec<u32> = links
            .iter()
            .filter(|link| link.interface.kind() == InterfaceKind::Physical)
            .map(|link| link.interface.index)
            .collect();
        assert_eq!(physical, [1, 5]);
    }
}
