//! Interfaces and their addresses.

use lastseen_packet::LinkType;
use lastseen_proto::v1;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::Handle;

use super::{Link, NetlinkError, classify, collect, mac_text, overlay};

pub(super) async fn list(handle: &Handle) -> Result<Vec<Link>, NetlinkError> {
    let mut links = collect("interfaces", handle.link().get().execute(), |m| vec![link(&m)]).await?;
    let addresses = collect("addresses", handle.address().get().execute(), address).await?;
    links.sort_by_key(|link| link.interface.index);
    for (index, address) in addresses {
        if let Ok(at) = links.binary_search_by_key(&index, |link| link.interface.index) {
            links[at].interface.addresses.push(address);
        }
    }
    Ok(links)
}

fn link(message: &LinkMessage) -> Link {
    let mut interface = v1::Interface {
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        running: message.header.flags.contains(LinkFlags::LowerUp),
        ..Default::default()
    };
    let mut traits = classify::Traits::new(&message.header);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
            LinkAttribute::Address(mac) if mac.len() == 6 => interface.mac = mac_text(mac),
            LinkAttribute::Controller(index) => interface.master_index = Some(*index),
            LinkAttribute::Link(index) => traits.lower = Some(*index),
            LinkAttribute::LinkNetNsId(_) => traits.lower_is_elsewhere = true,
            LinkAttribute::LinkInfo(info) => (traits.kind, traits.data) = kind_and_data(info),
            _ => {}
        }
    }
    interface.overlay = overlay::device(traits.kind.as_ref(), traits.data.as_ref());
    if traits.is_pair() {
        interface.peer_index = traits.lower;
    }
    interface.set_kind(classify::kind(&traits));
    Link { interface, frames: frames(message.header.link_layer_type) }
}

pub(crate) fn kind_and_data(info: &[LinkInfo]) -> (Option<InfoKind>, Option<InfoData>) {
    let kind = info.iter().find_map(|i| if let LinkInfo::Kind(kind) = i { Some(kind.clone()) } else { None });
    let data = info.iter().find_map(|i| if let LinkInfo::Data(data) = i { Some(data.clone()) } else { None });
    (kind, data)
}

/// `ARPHRD_` numbers whose frames start with Ethernet or straight with IP.
fn frames(link_layer: LinkLayerType) -> Option<LinkType> {
    match link_layer {
        LinkLayerType::Ether | LinkLayerType::Loopback => Some(LinkType::Ethernet),
        LinkLayerType::None
        | LinkLayerType::Rawip
        | LinkLayerType::Tunnel
        | LinkLayerType::Tunnel6
        | LinkLayerType::Sit => Some(LinkType::Raw),
        _ => None,
    }
}

pub(crate) fn address(message: AddressMessage) -> Vec<(u32, String)> {
    let (index, prefix) = (message.header.index, message.header.prefix_len);
    let mut own = None;
    for attribute in message.attributes {
        match attribute {
            // On a point-to-point interface `Address` is the peer's and `Local` our own.
            AddressAttribute::Local(address) => own = Some(address),
            AddressAttribute::Address(address) => own = own.or(Some(address)),
            _ => {}
        }
    }
    own.map(|address| (index, format!("{address}/{prefix}"))).into_iter().collect()
}
