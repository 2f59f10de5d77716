//! Which node has an address.

use std::net::IpAddr;

use lastseen_correlate::topology::Topology;
use lastseen_correlate::{nodes_claiming, nodes_with};
use lastseen_proto::place::Place;

use super::model::Source;
use crate::analysis::read_topology;
use crate::error::Error;
use crate::fleet::NodeView;
use crate::jobs::{known, names};

/// Nodes as their tables, which all told when they came, place it.
pub(crate) fn nodes_of(address: IpAddr, nodes: &[NodeView]) -> Vec<&str> {
    here(nodes_with(&topologies(nodes), address), nodes)
}

/// Nodes to which tables lead packets for an address.
pub(crate) fn claimants(address: IpAddr, nodes: &[NodeView]) -> Vec<&str> {
    here(nodes_claiming(&topologies(nodes), address), nodes)
}

fn topologies(nodes: &[NodeView]) -> Vec<Topology> {
    nodes.iter().map(|node| read_topology(&node.record.topology).unwrap_or_default()).collect()
}

fn here(found: Vec<usize>, nodes: &[NodeView]) -> Vec<&str> {
    let mut owners: Vec<&NodeView> = found.into_iter().map(|node| &nodes[node]).collect();
    // What a node said that left long ago counts for nothing beside one that is here.
    if owners.iter().any(|node| node.is_ready) {
        owners.retain(|node| node.is_ready);
    }
    owners.into_iter().map(|node| node.record.name.as_str()).collect()
}

/// A source as it is stored: on a node that is known, and in a namespace that can be. One that is an address is placed.
pub(crate) fn place(field: &'static str, given: Source, nodes: &[NodeView]) -> Result<Source, Error> {
    let is_known = nodes.iter().any(|node| node.record.name == given.node);
    match given.node.parse() {
        Ok(address) if !is_known && given.netns.is_empty() => return holder(field, address, nodes),
        _ if !is_known => return Err(Error::NoNode { name: given.node, known: known(nodes) }),
        _ => {}
    }
    let place: Result<Place, String> = given.netns.parse();
    let netns = place.map_err(|reason| Error::invalid(field, reason))?.to_string();
    Ok(Source { node: given.node, netns })
}

/// The network namespace that has an address, on the one node that has it.
fn holder(field: &'static str, address: IpAddr, nodes: &[NodeView]) -> Result<Source, Error> {
    let address = address.to_canonical();
    if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
        return Err(Error::invalid(field, format!("{address} is on every node or on none; give a node")));
    }
    match nodes_of(address, nodes)[..] {
        [node] => Ok(Source { node: node.to_owned(), netns: Place::Holder(address).to_string() }),
        [] => Err(Error::invalid(field, format!("no node has {address}; give NODE or NODE:NETNS"))),
        ref several => {
            let several = names(several.iter().copied());
            Err(Error::invalid(
                field,
                format!("{address} is on several nodes: {several}; give NODE:@{address}"),
            ))
        }
    }
}
