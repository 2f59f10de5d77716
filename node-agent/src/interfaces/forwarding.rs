//! Neighbours, and the forwarding databases of bridges and VXLAN devices.

use std::net::IpAddr;

use lastseen_proto::v1;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::{Handle, IpVersion};

use super::{NetlinkError, collect, mac_text};

pub(super) async fn neighbors(handle: &Handle) -> Result<Vec<v1::Neighbor>, NetlinkError> {
    let mut all = Vec::new();
    for version in [IpVersion::V4, IpVersion::V6] {
        let request = handle.neighbours().get().set_address_family(match version {
            IpVersion::V4 => AddressFamily::Inet,
            IpVersion::V6 => AddressFamily::Inet6,
        });
        all.extend(collect("neighbours", request.execute(), |m| neighbor(&m).into_iter().collect()).await?);
    }
    Ok(all)
}

pub(super) async fn entries(handle: &Handle) -> Result<Vec<v1::ForwardingEntry>, NetlinkError> {
    let request = handle.neighbours().get().set_address_family(AddressFamily::Bridge);
    collect("forwarding entries", request.execute(), |m| entry(&m).into_iter().collect()).await
}

fn neighbor(message: &NeighbourMessage) -> Option<v1::Neighbor> {
    let address = destination(message)?;
    // What the kernel derives for groups and itself is no neighbour.
    if address.is_multicast() || address.is_unspecified() {
        return None;
    }
    Some(v1::Neighbor {
        address: address.to_string(),
        mac: hardware_address(message).map(mac_text).unwrap_or_default(),
        index: message.header.ifindex,
        state: state(message.header.state).to_owned(),
    })
}

fn entry(message: &NeighbourMessage) -> Option<v1::ForwardingEntry> {
    let mac = hardware_address(message)?;
    // Group addresses that a device listens to forward nothing.
    if mac[0] & 1 == 1 {
        return None;
    }
    let vlan = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Vlan(vlan) => Some(u32::from(*vlan)),
        _ => None,
    });
    Some(v1::ForwardingEntry {
        mac: mac_text(mac),
        index: message.header.ifindex,
        remote: destination(message).map(|address| address.to_string()).unwrap_or_default(),
        vlan: vlan.unwrap_or(0),
    })
}

fn hardware_address(message: &NeighbourMessage) -> Option<&[u8]> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(mac) if mac.len() == 6 => Some(mac.as_slice()),
        _ => None,
    })
}

/// In the bridge family an address comes without its own family: its length tells.
pub(crate) fn destination(message: &NeighbourMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some((*address).into()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some((*address).into()),
        NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
            16 => <[u8; 16]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
            _ => None,
        },
        _ => None,
    })
}

pub(crate) fn state(state: NeighbourState) -> &'static str {
    match state {
        NeighbourState::Incomplete => "incomplete",
        NeighbourState::Reachable => "reachable",
        NeighbourState::Stale => "stale",
        NeighbourState::Delay => "delay",
        NeighbourState::Probe => "probe",
        NeighbourState::Failed => "failed",
        NeighbourState::Noarp => "noarp",
        NeighbourState::Permanent => "permanent",
        _ => "none",
    }
}
