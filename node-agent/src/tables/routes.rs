//! Routes of all routing tables, rtnetlink(7).

use netlink_packet_core::Parseable as _;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteNextHop,
    RouteNextHopFlags, RouteProtocol, RouteType, RouteVia,
};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::listing::{Listing, text};
use super::trouble;
use super::words::{flags, joined, routing_table};
use crate::netlink::dump::Request;

pub(super) const COLUMNS: [&str; 12] = [
    "table",
    "type",
    "destination",
    "gateway",
    "device",
    "source",
    "metric",
    "mtu",
    "protocol",
    "scope",
    "weight",
    "flags",
];

/// `RTM_GETROUTE` and `RTM_NEWROUTE`.
const GET: u16 = 26;
const NEW: u16 = 24;
/// `struct rtmsg`.
const HEADER: usize = 12;

pub(super) fn read(mut listing: Listing) -> Result<Listing, String> {
    for (family, what) in [(AddressFamily::Inet, "IPv4 routes"), (AddressFamily::Inet6, "IPv6 routes")] {
        let mut body = [0; HEADER];
        body[0] = family.into();
        let request = Request { protocol: NETLINK_ROUTE, kind: GET, body: &body };
        let dumped = listing.dump(what, request, |listing, kind, body| {
            let message = (kind == NEW).then(|| RouteMessage::parse(body).ok()).flatten()?;
            // A kernel without IPv6 answers with all others.
            let is_cached = message.header.flags.contains(RouteFlags::Cloned);
            if message.header.address_family == family && !is_cached {
                route(listing, &message);
            }
            Some(())
        });
        dumped.map_err(|error| trouble(what, &error))?;
    }
    Ok(listing)
}

/// A row for each next hop.
fn route(listing: &mut Listing, message: &RouteMessage) {
    let hops = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::MultiPath(hops) => Some(hops.as_slice()),
        _ => None,
    });
    for hop in hops.unwrap_or_default() {
        listing.row(|listing| row(listing, message, &hop.attributes, Some(hop)));
    }
    if hops.is_none_or(<[RouteNextHop]>::is_empty) {
        listing.row(|listing| row(listing, message, &message.attributes, None));
    }
}

fn row(
    listing: &mut Listing,
    RouteMessage { header, attributes, .. }: &RouteMessage,
    of_hop: &[RouteAttribute],
    hop: Option<&RouteNextHop>,
) -> [String; 12] {
    let output = attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    });
    let table = attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    let metric = attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Priority(metric) => Some(*metric),
        _ => None,
    });
    let source = attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::PrefSource(address) => plain(address),
        _ => None,
    });
    let index = hop.map(|hop| hop.interface_index).or(output);
    [
        routing_table(table.unwrap_or(header.table.into())),
        kind(header.kind),
        destination(header, attributes),
        gateway(of_hop),
        listing.device(index.unwrap_or_default()),
        text(source),
        text(metric),
        text(mtu(attributes)),
        protocol(header.protocol),
        header.scope.to_string(),
        text(hop.map(|hop| u16::from(hop.hops) + 1)),
        special(header, attributes, of_hop, hop),
    ]
}

fn kind(kind: RouteType) -> String {
    match kind {
        RouteType::Other(number) => number.to_string(),
        RouteType::ExternalResolve => "xresolve".to_owned(),
        known => format!("{known:?}").to_lowercase(),
    }
}

fn destination(header: &RouteHeader, attributes: &[RouteAttribute]) -> String {
    let address = attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(address) => plain(address),
        _ => None,
    });
    let any = if header.address_family == AddressFamily::Inet6 { "::" } else { "0.0.0.0" };
    format!("{}/{}", address.unwrap_or_else(|| any.to_owned()), header.destination_prefix_length)
}

fn gateway(attributes: &[RouteAttribute]) -> String {
    text(attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => plain(address),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some(address.to_string()),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some(address.to_string()),
        _ => None,
    }))
}

fn mtu(attributes: &[RouteAttribute]) -> Option<u32> {
    let metrics = attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Metrics(metrics) => Some(metrics),
        _ => None,
    });
    metrics?.iter().find_map(|metric| match metric {
        RouteMetric::Mtu(mtu) => Some(*mtu),
        _ => None,
    })
}

fn protocol(protocol: RouteProtocol) -> String {
    match protocol {
        RouteProtocol::Other(number) => number.to_string(),
        known => known.to_string().to_lowercase(),
    }
}

/// What few routes have.
fn special(
    header: &RouteHeader,
    attributes: &[RouteAttribute],
    of_hop: &[RouteAttribute],
    hop: Option<&RouteNextHop>,
) -> String {
    // The lower bits are those of the only next hop.
    let bits = hop.map_or(RouteNextHopFlags::from_bits_retain(header.flags.bits() as u8), |hop| hop.flags);
    let plain_flags = flags([
        (bits.contains(RouteNextHopFlags::Dead), "dead"),
        (bits.contains(RouteNextHopFlags::Linkdown), "linkdown"),
        (bits.contains(RouteNextHopFlags::Onlink), "onlink"),
        (bits.contains(RouteNextHopFlags::Offload), "offload"),
        (bits.contains(RouteNextHopFlags::Unresolved), "unresolved"),
    ]);
    let others = attributes.iter().map(|attribute| match attribute {
        RouteAttribute::Source(address) => plain(address)
            .map_or_else(String::new, |from| format!("from {from}/{}", header.source_prefix_length)),
        RouteAttribute::NhId(id) => format!("nexthop {id}"),
        _ => String::new(),
    });
    let tunnels = of_hop.iter().map(|attribute| match attribute {
        RouteAttribute::EncapType(kind) => format!("encap {kind}"),
        _ => String::new(),
    });
    let tos = if header.tos == 0 { String::new() } else { format!("tos {:#x}", header.tos) };
    joined([plain_flags, tos].into_iter().chain(others).chain(tunnels))
}

fn plain(address: &RouteAddress) -> Option<String> {
    match address {
        RouteAddress::Inet(address) => Some(address.to_string()),
        RouteAddress::Inet6(address) => Some(address.to_string()),
        _ => None,
    }
}
