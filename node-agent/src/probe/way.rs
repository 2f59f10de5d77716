//! How this node would reach an address: the kernel's own answer (rtnetlink(7), `RTM_GETROUTE`).

use std::net::IpAddr;

use futures_util::TryStreamExt as _;
use lastseen_proto::v1;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia};

use crate::interfaces::{Link, Snapshot, snapshot};

/// The way out of this network namespace.
#[derive(Clone, Debug)]
pub(super) struct Way {
    /// Interface it leaves by.
    pub(super) link: Link,
    /// Whom it is handed to; absent: the address itself is on the link.
    pub(super) gateway: Option<IpAddr>,
    /// What it is sent from.
    pub(super) source: Option<IpAddr>,
    /// The address is this namespace's own.
    pub(super) is_local: bool,
    /// Everything else about the namespace.
    pub(super) snapshot: Snapshot,
}

/// The kernel's entry for an address on an interface.
pub(super) fn known(snapshot: &Snapshot, index: u32, address: IpAddr) -> Option<&v1::Neighbor> {
    let mut entries = snapshot.topology.neighbors.iter();
    entries.find(|entry| entry.index == index && entry.address == address.to_string())
}

/// From the network namespace of this thread.
pub(super) async fn way(to: IpAddr) -> Result<Way, String> {
    let snapshot = snapshot().await.map_err(|error| error.to_string())?;
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|error| format!("rtnetlink cannot be asked: {error}"))?;
    let connection = tokio::spawn(connection);
    let mut message = RouteMessage::default();
    let (family, length, address) = match to {
        IpAddr::V4(to) => (AddressFamily::Inet, 32, RouteAddress::Inet(to)),
        IpAddr::V6(to) => (AddressFamily::Inet6, 128, RouteAddress::Inet6(to)),
    };
    message.header.address_family = family;
    message.header.destination_prefix_length = length;
    message.attributes.push(RouteAttribute::Destination(address));
    let answer = {
        let mut answers = std::pin::pin!(handle.route().get(message).execute());
        answers.try_next().await
    };
    connection.abort();
    let none = || "there is no route to it from here".to_owned();
    let route = match answer {
        Ok(route) => route.ok_or_else(none)?,
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::ENETUNREACH => {
            return Err(none());
        }
        Err(rtnetlink::Error::NetlinkError(error)) => {
            return Err(super::attempt::trouble(&error.to_io()));
        }
        Err(error) => return Err(format!("rtnetlink cannot be asked: {error}")),
    };
    read(&route, snapshot)
}

fn read(route: &RouteMessage, snapshot: Snapshot) -> Result<Way, String> {
    let (mut index, mut gateway, mut source) = (None, None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(number) => index = Some(*number),
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::Via(RouteVia::Inet(address)) => gateway = Some((*address).into()),
            RouteAttribute::Via(RouteVia::Inet6(address)) => gateway = Some((*address).into()),
            RouteAttribute::PrefSource(address) => source = ip(address),
            _ => {}
        }
    }
    match route.header.kind {
        RouteType::Unicast | RouteType::Local => {}
        kind => return Err(format!("a route forbids it ({kind:?})").to_lowercase()),
    }
    let link = snapshot.links.iter().find(|link| Some(link.interface.index) == index).cloned();
    Ok(Way {
        link: link.ok_or("its route leaves by an interface that is gone")?,
        gateway,
        source,
        is_local: route.header.kind == RouteType::Local,
        snapshot,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}
