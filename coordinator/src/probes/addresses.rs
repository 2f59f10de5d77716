//! By which address a source can be reached, as the tables of its node tell.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lastseen_correlate::topology::Topology;
use lastseen_correlate::{host_address, host_addresses};
use lastseen_proto::place::Place;

use super::model::{Family, Source};
use super::pairs::HostNetwork;
use crate::analysis::read_topology;
use crate::fleet::NodeView;

/// The tables of nodes, each read once.
pub(crate) struct Addresses<'a> {
    nodes: BTreeMap<&'a str, &'a NodeView>,
    read: BTreeMap<String, Topology>,
}

impl<'a> Addresses<'a> {
    pub(crate) fn new(nodes: &'a [NodeView]) -> Self {
        let nodes = nodes.iter().map(|node| (node.record.name.as_str(), node)).collect();
        Self { nodes, read: BTreeMap::new() }
    }

    /// The address of a source, or why there is none.
    pub(crate) fn of(
        &mut self,
        source: &Source,
        network: HostNetwork,
        family: Family,
    ) -> Result<IpAddr, String> {
        let place: Place = source.netns.parse()?;
        let of = family.words();
        match place {
            Place::Holder(address) if family.takes(address) => Ok(address),
            Place::Holder(address) => Err(format!("{source}: {address} is not{of}")),
            Place::Host => {
                let found = host_address(self.topology(&source.node), network.into(), |address| family.takes(address));
                found.ok_or_else(|| match network {
                    HostNetwork::Underlay => format!(
                        "{source}: its tables show neither the end of a tunnel nor a default route with an \
                         address{of}; give one of its addresses in its place"
                    ),
                    HostNetwork::Overlay => {
                        format!("{source}: its tables show no tunnel device with an address{of}; give an address of the node in its place")
                    }
                })
            }
            Place::Named(_) | Place::Process(_) => self.inside(source, family).ok_or_else(|| {
                format!(
                    "{source}: the address{of} of this network namespace is not known; give the address in its place"
                )
            }),
        }
    }

    /// Addresses of this family that packets of a source may come from, whether its node translates them or not; the
    /// source's own first. Empty: not known.
    pub(super) fn senders(&mut self, source: &Source, is_v6: bool) -> Vec<IpAddr> {
        let own = match source.netns.parse() {
            Ok(Place::Host) => None,
            Ok(Place::Holder(address)) => Some(address),
            _ => match self.inside(source, Family::of(is_v6)) {
                Some(address) => Some(address),
                None => return Vec::new(),
            },
        };
        let hosts = host_addresses(self.topology(&source.node));
        own.into_iter().chain(hosts).filter(|address| address.is_ipv6() == is_v6).collect()
    }

    /// Of a namespace that the node's tables show.
    fn inside(&mut self, source: &Source, family: Family) -> Option<IpAddr> {
        let interfaces = &self.topology(&source.node).interfaces;
        let own = interfaces.iter().filter(|interface| interface.netns == source.netns);
        let mut all: Vec<IpAddr> =
            own.flat_map(|own| own.addresses.iter().map(|prefix| prefix.address)).collect();
        all.retain(|address| family.takes(*address) && !address.is_loopback() && !is_link_local(*address));
        all.sort_by_key(IpAddr::is_ipv6);
        all.first().copied()
    }

    /// Of a node that is not known, or told none, one without anything.
    fn topology(&mut self, node: &str) -> &Topology {
        let view = self.nodes.get(node);
        let read = || view.and_then(|view| read_topology(&view.record.topology).ok()).unwrap_or_default();
        self.read.entry(node.to_owned()).or_insert_with(read)
    }
}

/// Of one link alone, RFC 3927 and RFC 4291 §2.5.6.
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}
