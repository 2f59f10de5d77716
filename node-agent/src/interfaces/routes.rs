//! Routes of all tables but `local`.

use lastseen_proto::v1;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteType, RouteVia,
};
use rtnetlink::Handle;

use super::{NetlinkError, collect};

/// `RT_TABLE_LOCAL`, `include/uapi/linux/rtnetlink.h`.
const TABLE_LOCAL: u32 = 255;

pub(super) async fn list(handle: &Handle) -> Result<Vec<v1::Route>, NetlinkError> {
    let mut all = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        all.extend(collect("routes", handle.route().get(request).execute(), |m| convert(&m)).await?);
    }
    Ok(all)
}

/// One entry per next hop.
fn convert(message: &RouteMessage) -> Vec<v1::Route> {
    // What the kernel remembers of one destination, a path MTU for example, is no route of anybody's.
    if message.header.flags.contains(RouteFlags::Cloned) {
        return Vec::new();
    }
    let Some(kind) = kind(message.header.kind) else { return Vec::new() };
    let mut route = v1::Route {
        destination: prefix(message),
        table: u32::from(message.header.table),
        r#type: kind.to_owned(),
        ..Default::default()
    };
    let mut hops = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(table) => route.table = *table,
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::MultiPath(several) => {
                hops.extend(several.iter().map(|hop| (Some(hop.interface_index), gateway(&hop.attributes))));
            }
            RouteAttribute::Oif(index) => route.output_index = Some(*index),
            _ => {}
        }
    }
    if route.table == TABLE_LOCAL {
        return Vec::new();
    }
    if hops.is_empty() {
        hops.push((route.output_index, gateway(&message.attributes)));
    }
    let hops = hops.into_iter();
    hops.map(|(output_index, gateway)| v1::Route { output_index, gateway, ..route.clone() }).collect()
}

fn kind(kind: RouteType) -> Option<&'static str> {
    Some(match kind {
        RouteType::Unicast => "unicast",
        RouteType::BlackHole => "blackhole",
        RouteType::Unreachable => "unreachable",
        RouteType::Prohibit => "prohibit",
        RouteType::Throw => "throw",
        _ => return None,
    })
}

fn prefix(message: &RouteMessage) -> String {
    let length = message.header.destination_prefix_length;
    let destination = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(address) => text(address),
        _ => None,
    });
    let any = if message.header.address_family == AddressFamily::Inet6 { "::" } else { "0.0.0.0" };
    format!("{}/{length}", destination.unwrap_or_else(|| any.to_owned()))
}

fn gateway(attributes: &[RouteAttribute]) -> String {
    let gateway = attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => text(address),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some(address.to_string()),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some(address.to_string()),
        _ => None,
    });
    gateway.unwrap_or_default()
}

fn text(address: &RouteAddress) -> Option<String> {
    match address {
        RouteAddress::Inet(address) => Some(address.to_string()),
        RouteAddress::Inet6(address) => Some(address.to_string()),
        _ => None,
    }
}
