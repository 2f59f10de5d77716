//! Tunnel devices and their parameters.

use lastseen_proto::v1::{OverlayDevice, OverlayKind};
use netlink_packet_route::link::{
    InfoData, InfoGeneve, InfoGre, InfoGre6, InfoIpTunnel, InfoKind, InfoVxlan,
};

/// The tunnel protocol of a device, absent for devices that are no tunnels.
pub(super) fn kind(kind: &InfoKind) -> Option<OverlayKind> {
    Some(match kind {
        InfoKind::Vxlan => OverlayKind::Vxlan,
        InfoKind::Geneve => OverlayKind::Geneve,
        InfoKind::IpIp | InfoKind::SitTun | InfoKind::Ip6Tnl => OverlayKind::IpInIp,
        InfoKind::GreTun
        | InfoKind::GreTun6
        | InfoKind::GreTap
        | InfoKind::GreTap6
        | InfoKind::ErSpan
        | InfoKind::Ip6ErSpan => OverlayKind::Gre,
        InfoKind::Wireguard => OverlayKind::Wireguard,
        _ => return None,
    })
}

/// The parameters of a tunnel device.
pub(crate) fn device(kind_of: Option<&InfoKind>, data: Option<&InfoData>) -> Option<OverlayDevice> {
    let mut device = OverlayDevice::default();
    device.set_kind(kind(kind_of?)?);
    match data {
        Some(InfoData::Vxlan(info)) => apply(info, vxlan, &mut device),
        Some(InfoData::Geneve(info)) => apply(info, geneve, &mut device),
        Some(InfoData::IpTunnel(info)) => apply(info, ip_tunnel, &mut device),
        Some(InfoData::GreTun(info) | InfoData::GreTap(info) | InfoData::ErSpan(info)) => {
            apply(info, gre, &mut device);
        }
        Some(InfoData::GreTun6(info) | InfoData::GreTap6(info) | InfoData::Ip6ErSpan(info)) => {
            apply(info, gre6, &mut device);
        }
        _ => {}
    }
    Some(device)
}

fn apply<T>(attributes: &[T], read: impl Fn(&T, &mut OverlayDevice), device: &mut OverlayDevice) {
    for attribute in attributes {
        read(attribute, device);
    }
}

fn vxlan(attribute: &InfoVxlan, device: &mut OverlayDevice) {
    match attribute {
        InfoVxlan::Id(id) => device.id = *id,
        InfoVxlan::Port(port) => device.port = u32::from(*port),
        InfoVxlan::Link(index) => device.underlay_index = underlay(*index),
        InfoVxlan::Local(address) => device.local = address.to_string(),
        InfoVxlan::Local6(address) => device.local = address.to_string(),
        InfoVxlan::Group(address) => device.remote = address.to_string(),
        InfoVxlan::Group6(address) => device.remote = address.to_string(),
        InfoVxlan::Gpe => device.set_kind(OverlayKind::VxlanGpe),
        _ => {}
    }
}

fn geneve(attribute: &InfoGeneve, device: &mut OverlayDevice) {
    match attribute {
        InfoGeneve::Id(id) => device.id = *id,
        InfoGeneve::Port(port) => device.port = u32::from(*port),
        InfoGeneve::Remote(address) => device.remote = address.to_string(),
        InfoGeneve::Remote6(address) => device.remote = address.to_string(),
        _ => {}
    }
}

fn ip_tunnel(attribute: &InfoIpTunnel, device: &mut OverlayDevice) {
    match attribute {
        InfoIpTunnel::Link(index) => device.underlay_index = underlay(*index),
        InfoIpTunnel::Local(address) => device.local = address_text(*address),
        InfoIpTunnel::Remote(address) => device.remote = address_text(*address),
        _ => {}
    }
}

fn gre(attribute: &InfoGre, device: &mut OverlayDevice) {
    match attribute {
        InfoGre::OKey(key) => device.id = *key,
        InfoGre::Link(index) => device.underlay_index = underlay(*index),
        InfoGre::Local(address) => device.local = address_text((*address).into()),
        InfoGre::Remote(address) => device.remote = address_text((*address).into()),
        _ => {}
    }
}

fn gre6(attribute: &InfoGre6, device: &mut OverlayDevice) {
    match attribute {
        InfoGre6::OKey(key) => device.id = *key,
        InfoGre6::Link(index) => device.underlay_index = underlay(*index),
        InfoGre6::Local(address) => device.local = address_text((*address).into()),
        InfoGre6::Remote(address) => device.remote = address_text((*address).into()),
        _ => {}
    }
}

/// An index of 0 means that routing chooses.
fn underlay(index: u32) -> Option<u32> {
    (index != 0).then_some(index)
}

/// The unspecified address means that none is set.
fn address_text(address: std::net::IpAddr) -> String {
    if address.is_unspecified() { String::new() } else { address.to_string() }
}
