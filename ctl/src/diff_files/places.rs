//! Files that the topology contradicts: of another node than their names say.
//!
//! What comes out of a pod bears the pod's address, and what a node sends into a tunnel the node's. Where every such
//! packet of a file has the address of another node, name and topology do not belong together. The two ends of a link
//! show the same packets, so files of two nodes' underlay devices that were taken for each other only show it where
//! something other than the addresses tells the direction: the name, or the file.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use lastseen_correlate::topology::{Direction, Interface, InterfaceKind, Prefix, Topology};
use lastseen_packet::Decoded;

use super::name::Named;
use crate::output::units;

/// Which nodes have which addresses.
#[derive(Debug)]
pub(super) struct Places {
    /// Addresses of interfaces, of nodes and of pods.
    exact: HashMap<IpAddr, BTreeSet<String>>,
    /// Networks of the nodes' bridges.
    pods: Vec<(Prefix, String)>,
}

impl Places {
    pub(super) fn new(nodes: &BTreeMap<String, Topology>) -> Self {
        let (mut exact, mut pods) = (HashMap::<_, BTreeSet<_>>::new(), Vec::new());
        for (node, tables) in nodes {
            for interface in &tables.interfaces {
                for prefix in &interface.addresses {
                    exact.entry(prefix.address).or_default().insert(node.clone());
                    if interface.is_host() && interface.kind == InterfaceKind::Bridge {
                        pods.push((*prefix, node.clone()));
                    }
                }
            }
        }
        Self { exact, pods }
    }

    /// The node that has an address. Absent if none has, or several do.
    fn node(&self, address: IpAddr) -> Option<&str> {
        let mut nodes: BTreeSet<&str> =
            self.exact.get(&address).into_iter().flatten().map(String::as_str).collect();
        if nodes.is_empty() {
            let holds = self.pods.iter().filter(|(prefix, _)| prefix.contains(address));
            nodes.extend(holds.map(|(_, node)| node.as_str()));
        }
        if nodes.len() == 1 { nodes.pop_first() } else { None }
    }
}

/// Whose packets an interface shows with their sender's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    /// What comes in is from the pod.
    Pod,
    /// The carriers that go out are from the node.
    Node,
}

/// What the packets of a file say about the node they were captured at.
pub(super) struct Witness<'f> {
    places: &'f Places,
    sender: Option<Sender>,
    node: &'f str,
    /// First sender on another node, and how many packets came from such.
    elsewhere: Option<(IpAddr, &'f str)>,
    packets: u64,
    /// A packet is of the file's own node: it says no more.
    is_settled: bool,
}

impl<'f> Witness<'f> {
    pub(super) fn new(places: &'f Places, tables: &Topology, interface: &Interface, node: &'f str) -> Self {
        let is_carrier = |device: &Interface| {
            device.is_host()
                && device.overlay.is_some_and(|tunnel| {
                    tunnel.underlay_index == Some(interface.index)
                        || interface.addresses.iter().any(|prefix| Some(prefix.address) == tunnel.local)
                })
        };
        let sender = match interface.kind {
            _ if !interface.is_host() => None,
            _ if tables.interfaces.iter().any(is_carrier) => Some(Sender::Node),
            InterfaceKind::PodVeth => Some(Sender::Pod),
            _ => None,
        };
        Self { places, sender, node, elsewhere: None, packets: 0, is_settled: sender.is_none() }
    }

    /// Takes note of a packet and where it goes.
    pub(super) fn see(&mut self, direction: Option<Direction>, decoded: &Decoded) {
        if self.is_settled {
            return;
        }
        let carrier = decoded.encapsulations().first().map(|tunnel| &tunnel.carrier);
        let packet = match (self.sender, direction) {
            (Some(Sender::Pod), Some(Direction::In)) => carrier.or(decoded.network.as_ref()),
            (Some(Sender::Node), Some(Direction::Out)) => carrier,
            _ => None,
        };
        let Some(source) = packet.map(|packet| packet.source) else { return };
        match self.places.node(source) {
            Some(node) if node == self.node => self.is_settled = true,
            Some(node) => {
                self.elsewhere.get_or_insert((source, node));
                self.packets += 1;
            }
            None => {}
        }
    }

    /// Why the file cannot be of its point, if nothing spoke for it and something against. To go on would judge packets
    /// by the routes of a node that never had them, so this refuses, as an unknown node does.
    pub(super) fn contradiction(&self, named: &Named) -> Option<String> {
        let (address, node) = self.elsewhere.filter(|_| !self.is_settled)?;
        let come = match self.sender? {
            Sender::Pod => "come out of its pod",
            Sender::Node => "leave it in a tunnel",
        };
        Some(format!(
            "{}: {} does not fit the topology: all {} packets that {come} are from other nodes' addresses, the first from \
             {address}, which is on {node}; name the file after the node it is of, or give the topology of that time or none",
            named.name(),
            named.file.display(),
            units::count(self.packets)
        ))
    }
}
