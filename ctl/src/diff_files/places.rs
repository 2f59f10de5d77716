//! Files that the topology seems to contradict: of another node than their names say.
//!
//! What comes out of a pod mostly bears the pod's address, and what a node sends into a tunnel the node's. Where no
//! packet of a file does, and all have the address of another node, name and topology may not belong together. It is
//! never certain: pods route, nodes forward, and answers may have the address of a service. So it is only said, and
//! nothing is refused. The two ends of a link show the same packets, so files of two nodes that were taken for each
//! other only show it where something other than IP addresses tells the direction: the name, or the file.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
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

impl Sender {
    /// Which way those packets go.
    fn shown(self) -> Direction {
        match self {
            Self::Pod => Direction::In,
            Self::Node => Direction::Out,
        }
    }
}

/// Fewer packets say nothing.
const LEAST_PACKETS: u64 = 10;
/// Senders that are remembered each way. More are no pod's and no node's.
const MOST_SENDERS: usize = 1 << 10;

/// What the packets of a file say about the node they were captured at.
pub(super) struct Witness<'f> {
    places: &'f Places,
    sender: Option<Sender>,
    node: &'f str,
    /// First sender on another node.
    first: Option<(IpAddr, &'f str)>,
    packets: u64,
    /// Senders on other nodes, of packets that show their sender's address and of those the other way.
    senders: [HashSet<IpAddr>; 2],
    /// Something speaks for the file, or nothing can be told: it says no more.
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
        let senders = Default::default();
        Self { places, sender, node, first: None, packets: 0, senders, is_settled: sender.is_none() }
    }

    /// Takes note of a packet and where it goes.
    pub(super) fn see(&mut self, direction: Option<Direction>, decoded: &Decoded) {
        let (Some(sender), Some(direction), false) = (self.sender, direction, self.is_settled) else {
            return;
        };
        let carrier = decoded.encapsulations().first().map(|tunnel| &tunnel.carrier);
        let packet = match sender {
            Sender::Pod => carrier.or(decoded.network.as_ref()),
            Sender::Node => carrier,
        };
        let Some(source) = packet.map(|packet| packet.source) else { return };
        let is_from_here = direction == sender.shown();
        match self.places.node(source) {
            Some(node) if node != self.node => self.elsewhere(source, node, is_from_here),
            // The node's own, or one that the topology does not know or has on several nodes.
            _ => self.is_settled |= is_from_here,
        }
    }

    /// A packet from another node's address. If some of that address go the other way, they are passed on here.
    fn elsewhere(&mut self, source: IpAddr, node: &'f str, is_from_here: bool) {
        if is_from_here {
            self.first.get_or_insert((source, node));
            self.packets += 1;
        }
        let (way, back) = if is_from_here { (0, 1) } else { (1, 0) };
        self.senders[way].insert(source);
        self.is_settled = self.senders[back].contains(&source) || self.senders[way].len() > MOST_SENDERS;
    }

    /// That the file may not be of its point, if nothing speaks for it and enough against.
    pub(super) fn remark(&self, named: &Named) -> Option<String> {
        let (address, node) = self.first.filter(|_| !self.is_settled && self.packets >= LEAST_PACKETS)?;
        let packets = match self.sender? {
            Sender::Pod => "IP packets that go in there, as from its pod,",
            Sender::Node => "tunnel packets that go out there",
        };
        Some(format!(
            "{}: all {} {packets} are from addresses that the topology has on other nodes, the first from {address} on \
             {node}, and none from one of {}; if {} is of another node, the report on it is wrong: name it after that",
            named.name(),
            units::count(self.packets),
            self.node,
            named.file.display(),
        ))
    }
}
