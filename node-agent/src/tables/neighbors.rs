//! Neighbours, ARP and NDP, and the addresses that the node answers for (proxies), ip-neighbour(8).

use netlink_packet_core::Parseable as _;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::listing::{Listing, text};
use super::trouble;
use super::words::{flags, link_address};
use crate::interfaces::forwarding;
use crate::netlink::dump::Request;

pub(super) const COLUMNS: [&str; 5] = ["address", "link_address", "device", "state", "flags"];

/// `RTM_GETNEIGH` and `RTM_NEWNEIGH`.
pub(super) const GET: u16 = 30;
pub(super) const NEW: u16 = 28;
/// `struct ndmsg`, and where its flags are.
pub(super) const HEADER: usize = 12;
const FLAGS: usize = 10;

pub(super) fn read(mut listing: Listing) -> Result<Listing, String> {
    for (family, what) in
        [(AddressFamily::Inet, "IPv4 neighbours"), (AddressFamily::Inet6, "IPv6 neighbours")]
    {
        for asked in [NeighbourFlags::empty(), NeighbourFlags::Proxy] {
            let mut body = [0; HEADER];
            (body[0], body[FLAGS]) = (family.into(), asked.bits());
            let request = Request { protocol: NETLINK_ROUTE, kind: GET, body: &body };
            let dumped = listing.dump(what, request, |listing, kind, body| {
                let message = (kind == NEW).then(|| NeighbourMessage::parse(body).ok()).flatten()?;
                // A kernel without IPv6 answers with all others.
                if message.header.family == family {
                    listing.row(|listing| row(listing, &message));
                }
                Some(())
            });
            dumped.map_err(|error| trouble(what, &error))?;
        }
    }
    Ok(listing)
}

fn row(listing: &mut Listing, message: &NeighbourMessage) -> [String; 5] {
    let header = &message.header;
    let has = |flag| header.flags.contains(flag);
    let is_proxy = has(NeighbourFlags::Proxy);
    [
        text(forwarding::destination(message)),
        hardware_address(message),
        listing.device(header.ifindex),
        if is_proxy { String::new() } else { forwarding::state(header.state).to_owned() },
        flags([
            (is_proxy, "proxy"),
            (has(NeighbourFlags::Router), "router"),
            (has(NeighbourFlags::ExtLearned), "extern_learn"),
            (has(NeighbourFlags::Offloaded), "offload"),
        ]),
    ]
}

/// Of any length: of a tunnel it is an address.
pub(super) fn hardware_address(message: &NeighbourMessage) -> String {
    let found = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => Some(link_address(bytes)),
        _ => None,
    });
    found.unwrap_or_default()
}
