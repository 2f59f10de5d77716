//! Forwarding entries of bridges and VXLAN devices, bridge(8).

use netlink_packet_core::{Nla as _, Parseable as _};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::listing::{Listing, text};
use super::neighbors::{GET, HEADER, NEW, hardware_address};
use super::trouble;
use super::words::{flags, joined};
use crate::interfaces::forwarding;
use crate::netlink::dump::Request;

pub(super) const COLUMNS: [&str; 10] =
    ["link_address", "device", "vlan", "remote", "port", "vni", "underlay", "master", "state", "flags"];

/// `AF_BRIDGE`.
const BRIDGE: u8 = 7;
/// `NDA_NH_ID`.
const NEXT_HOP: u16 = 13;

pub(super) fn read(mut listing: Listing) -> Result<Listing, String> {
    const WHAT: &str = "forwarding entries";
    let mut body = [0; HEADER];
    body[0] = BRIDGE;
    let request = Request { protocol: NETLINK_ROUTE, kind: GET, body: &body };
    let dumped = listing.dump(WHAT, request, |listing, kind, body| {
        let message = (kind == NEW).then(|| NeighbourMessage::parse(body).ok()).flatten()?;
        if u8::from(message.header.family) == BRIDGE {
            listing.row(|listing| row(listing, &message));
        }
        Some(())
    });
    dumped.map_err(|error| trouble(WHAT, &error))?;
    Ok(listing)
}

fn row(listing: &mut Listing, message: &NeighbourMessage) -> [String; 10] {
    let (mut vlan, mut port, mut vni, mut underlay, mut master, mut next_hop) =
        (None, None, None, 0, 0, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Vlan(id) => vlan = Some(*id),
            NeighbourAttribute::Port(number) => port = Some(*number),
            NeighbourAttribute::Vni(id) => vni = Some(*id),
            NeighbourAttribute::IfIndex(index) => underlay = *index,
            NeighbourAttribute::Controller(index) => master = *index,
            NeighbourAttribute::Other(other) if other.kind() == NEXT_HOP => {
                let mut id = [0; 4];
                if other.value_len() == id.len() {
                    other.emit_value(&mut id);
                }
                next_hop = Some(u32::from_ne_bytes(id));
            }
            _ => {}
        }
    }
    let header = &message.header;
    let has = |flag| header.flags.contains(flag);
    [
        hardware_address(message),
        listing.device(header.ifindex),
        text(vlan),
        text(forwarding::destination(message)),
        text(port),
        text(vni),
        listing.device(underlay),
        listing.device(master),
        state(header.state.into()).to_owned(),
        joined([
            flags([
                (has(NeighbourFlags::Own), "self"),
                (has(NeighbourFlags::Controller), "master"),
                (has(NeighbourFlags::ExtLearned), "extern_learn"),
                (has(NeighbourFlags::Offloaded), "offload"),
                (has(NeighbourFlags::Sticky), "sticky"),
            ]),
            next_hop.map_or_else(String::new, |id| format!("nexthop {id}")),
        ]),
    ]
}

/// Bits of `NUD_*`, of which some are set together, in the words of bridge(8). Empty: learned, and in use.
fn state(bits: u16) -> &'static str {
    const STATES: [(u16, &str); 4] = [(0x80, "permanent"), (0x40, "static"), (0x04, "stale"), (0x02, "")];
    STATES.iter().find(|(bit, _)| bits & bit != 0).map_or("none", |(_, name)| name)
}
