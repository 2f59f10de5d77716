//! Interfaces with their addresses and counters, rtnetlink(7).

use std::collections::BTreeMap;

use netlink_packet_core::Parseable as _;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage, Stats64};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::listing::{Listing, text};
use super::trouble;
use super::words::link_address;
use crate::interfaces::{links, overlay};
use crate::netlink::dump::{Request, dump};

pub(super) const COLUMNS: [&str; 22] = [
    "index",
    "name",
    "kind",
    "state",
    "mtu",
    "addresses",
    "link_address",
    "master",
    "link",
    "rx_packets",
    "rx_bytes",
    "rx_errors",
    "rx_dropped",
    "tx_packets",
    "tx_bytes",
    "tx_errors",
    "tx_dropped",
    "vni",
    "port",
    "local",
    "remote",
    "underlay",
];

/// `RTM_GETLINK`, `RTM_NEWLINK`, `RTM_GETADDR` and `RTM_NEWADDR`.
const GET_LINK: u16 = 18;
const NEW_LINK: u16 = 16;
const GET_ADDRESS: u16 = 22;
const NEW_ADDRESS: u16 = 20;
/// `struct ifinfomsg` and `struct ifaddrmsg`.
const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
/// Addresses of one interface that are shown: a cell holds no more.
const ADDRESSES: usize = 16;

type Addresses = BTreeMap<u32, Vec<String>>;

pub(super) fn read(mut listing: Listing) -> Result<Listing, String> {
    const WHAT: &str = "interfaces";
    let addresses = addresses(&listing)?;
    let request = Request { protocol: NETLINK_ROUTE, kind: GET_LINK, body: &[0; LINK_HEADER] };
    let dumped = listing.dump(WHAT, request, |listing, kind, body| {
        let message = (kind == NEW_LINK).then(|| LinkMessage::parse(body).ok()).flatten()?;
        listing.row(|listing| row(listing, &message, &addresses));
        Some(())
    });
    dumped.map_err(|error| trouble(WHAT, &error))?;
    Ok(listing)
}

fn addresses(listing: &Listing) -> Result<Addresses, String> {
    let mut addresses = Addresses::new();
    let request = Request { protocol: NETLINK_ROUTE, kind: GET_ADDRESS, body: &[0; ADDRESS_HEADER] };
    let dumped = dump(request, listing.deadline, |kind, body| {
        let message = (kind == NEW_ADDRESS).then(|| AddressMessage::parse(body).ok()).flatten();
        for (index, address) in message.into_iter().flat_map(links::address) {
            let of_link = addresses.entry(index).or_default();
            if of_link.len() < ADDRESSES {
                of_link.push(address);
            }
        }
    });
    dumped.map_err(|error| trouble("addresses", &error))?;
    Ok(addresses)
}

/// What a link says of itself.
#[derive(Default)]
struct Parts {
    name: String,
    mtu: Option<u32>,
    link_address: String,
    master: u32,
    lower: Option<u32>,
    elsewhere: Option<i32>,
    counters: Option<Stats64>,
    overlay: Option<lastseen_proto::v1::OverlayDevice>,
    kind: Option<String>,
}

fn row(listing: &mut Listing, message: &LinkMessage, addresses: &Addresses) -> [String; 22] {
    let parts = parts(message);
    let of = |counter: fn(&Stats64) -> u64| text(parts.counters.as_ref().map(counter));
    let overlay = parts.overlay.unwrap_or_default();
    let number = |number: u32| if number == 0 { String::new() } else { number.to_string() };
    let index = message.header.index;
    [
        index.to_string(),
        parts.name,
        parts.kind.unwrap_or_else(|| layer(message.header.link_layer_type)),
        state(message.header.flags).to_owned(),
        text(parts.mtu),
        addresses.get(&index).map(|all| all.join(",")).unwrap_or_default(),
        parts.link_address,
        listing.device(parts.master),
        match (parts.lower, parts.elsewhere) {
            (Some(lower), Some(netns)) => format!("#{lower} in netns {netns}"),
            (Some(lower), None) if lower != index => listing.device(lower),
            _ => String::new(),
        },
        of(|counters| counters.rx_packets),
        of(|counters| counters.rx_bytes),
        of(|counters| counters.rx_errors),
        of(|counters| counters.rx_dropped),
        of(|counters| counters.tx_packets),
        of(|counters| counters.tx_bytes),
        of(|counters| counters.tx_errors),
        of(|counters| counters.tx_dropped),
        number(overlay.id),
        number(overlay.port),
        overlay.local,
        overlay.remote,
        listing.device(overlay.underlay_index.unwrap_or_default()),
    ]
}

fn parts(message: &LinkMessage) -> Parts {
    let mut parts = Parts::default();
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => parts.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => parts.mtu = Some(*mtu),
            LinkAttribute::Address(address) => parts.link_address = link_address(address),
            LinkAttribute::Controller(index) => parts.master = *index,
            LinkAttribute::Link(index) => parts.lower = Some(*index).filter(|index| *index != 0),
            LinkAttribute::LinkNetNsId(id) => parts.elsewhere = Some(*id),
            LinkAttribute::Stats64(counters) => parts.counters = Some(*counters),
            LinkAttribute::LinkInfo(info) => {
                let (kind, data) = links::kind_and_data(info);
                parts.overlay = overlay::device(kind.as_ref(), data.as_ref());
                parts.kind = kind.map(|kind| kind.to_string());
            }
            _ => {}
        }
    }
    parts
}

/// Of what has no kind: that of its frames.
fn layer(layer: LinkLayerType) -> String {
    match layer {
        LinkLayerType::Ether => "ethernet".to_owned(),
        other => other.to_string().to_lowercase(),
    }
}

/// As `show-node` has it.
fn state(flags: LinkFlags) -> &'static str {
    match (flags.contains(LinkFlags::Up), flags.contains(LinkFlags::LowerUp)) {
        (false, _) => "down",
        (true, false) => "no_carrier",
        (true, true) => "up",
    }
}
