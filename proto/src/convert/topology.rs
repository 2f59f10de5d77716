//! A node's tables.

use std::net::IpAddr;
use std::str::FromStr;

use lastseen_correlate::topology::{
    ForwardingEntry, Interface, Neighbor, OverlayDevice, Route, RouteType, Topology,
};

use super::ConvertError;
use crate::v1;

const ADDRESS: &str = "an IP address";
const PREFIX: &str = "an address with prefix length";
const MAC: &str = "a MAC address";

impl TryFrom<&v1::NodeTopology> for Topology {
    type Error = ConvertError;

    fn try_from(message: &v1::NodeTopology) -> Result<Self, ConvertError> {
        Ok(Self {
            interfaces: message.interfaces.iter().map(interface).collect::<Result<_, _>>()?,
            routes: message.routes.iter().map(route).collect::<Result<_, _>>()?,
            neighbors: message.neighbors.iter().map(neighbor).collect::<Result<_, _>>()?,
            forwarding: message.forwarding.iter().map(forwarding).collect::<Result<_, _>>()?,
        })
    }
}

fn interface(message: &v1::Interface) -> Result<Interface, ConvertError> {
    Ok(Interface {
        index: message.index,
        name: message.name.clone(),
        netns: message.netns.clone(),
        kind: message.kind().into(),
        mac: optional(&message.mac, "interface.mac", MAC)?,
        mtu: message.mtu,
        addresses: message
            .addresses
            .iter()
            .map(|address| parse(address, "interface.addresses", PREFIX))
            .collect::<Result<_, _>>()?,
        master_index: message.master_index,
        peer_index: message.peer_index,
        overlay: message.overlay.as_ref().map(overlay).transpose()?,
        up: message.up,
        running: message.running,
    })
}

fn overlay(message: &v1::OverlayDevice) -> Result<OverlayDevice, ConvertError> {
    Ok(OverlayDevice {
        kind: message.kind().into(),
        id: message.id,
        port: message
            .port
            .try_into()
            .map_err(|_| ConvertError::new("overlay.port", &message.port, "a port"))?,
        local: address(&message.local, "overlay.local")?,
        remote: address(&message.remote, "overlay.remote")?,
        underlay_index: message.underlay_index,
    })
}

fn route(message: &v1::Route) -> Result<Route, ConvertError> {
    Ok(Route {
        destination: parse(&message.destination, "route.destination", PREFIX)?,
        gateway: address(&message.gateway, "route.gateway")?,
        output_index: message.output_index,
        table: message.table,
        metric: message.metric,
        kind: match message.r#type.as_str() {
            "unicast" => RouteType::Unicast,
            "blackhole" => RouteType::Blackhole,
            "unreachable" => RouteType::Unreachable,
            "prohibit" => RouteType::Prohibit,
            _ => RouteType::Other,
        },
    })
}

fn neighbor(message: &v1::Neighbor) -> Result<Neighbor, ConvertError> {
    Ok(Neighbor {
        address: parse(&message.address, "neighbor.address", ADDRESS)?,
        mac: optional(&message.mac, "neighbor.mac", MAC)?,
        index: message.index,
        is_unresolved: matches!(message.state.as_str(), "failed" | "incomplete"),
    })
}

fn forwarding(message: &v1::ForwardingEntry) -> Result<ForwardingEntry, ConvertError> {
    Ok(ForwardingEntry {
        mac: parse(&message.mac, "forwarding.mac", MAC)?,
        index: message.index,
        remote: address(&message.remote, "forwarding.remote")?,
        vlan: message
            .vlan
            .try_into()
            .map_err(|_| ConvertError::new("forwarding.vlan", &message.vlan, "a VLAN id"))?,
    })
}

fn address(text: &str, field: &'static str) -> Result<Option<IpAddr>, ConvertError> {
    optional(text, field, ADDRESS)
}

fn optional<T: FromStr>(
    text: &str,
    field: &'static str,
    expected: &'static str,
) -> Result<Option<T>, ConvertError> {
    if text.is_empty() { Ok(None) } else { parse(text, field, expected).map(Some) }
}

fn parse<T: FromStr>(text: &str, field: &'static str, expected: &'static str) -> Result<T, ConvertError> {
    text.parse().map_err(|_| ConvertError::new(field, text, expected))
}
