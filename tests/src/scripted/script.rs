//! What happens on the wire between the nodes, and so the truth about every packet.
//!
//! Nodes go in pairs. In each direction of a pair some UDP flows send in turn, with the silence around each whole second
//! of `CLOCK_REALTIME`: a window of whole seconds has no packet near its edges. Some packets get lost between the nodes.

use std::hash::Hasher;
use std::net::Ipv4Addr;
use std::ops::Range;

use lastseen_node_agent::capture::backend::Direction;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

/// Environment variable that tells an agent its [`Script`].
pub const VARIABLE: &str = "LASTSEEN_SCRIPT";

/// Environment variable that tells how many agents run in a process, from the node of `--node-name` on; each has a folder
/// of its own below `--pki-dir` and `--spool-dir`. Absent: one, in those folders.
pub const COUNT_VARIABLE: &str = "LASTSEEN_SCRIPT_AGENTS";

const MILLISECOND: i64 = 1_000_000;
const SECOND: i64 = 1_000 * MILLISECOND;
/// The part of each second in which packets are sent.
const BUSY: Range<i64> = 100 * MILLISECOND..900 * MILLISECOND;
/// Port of a direction's first flow; the others follow.
const SOURCE_PORT: u16 = 40_000;
const DESTINATION_PORT: u16 = 9_000;
/// Bytes of a packet: IPv4, UDP, and its number.
pub const PACKET_BYTES: usize = 20 + 8 + 16;

/// How a network that is made up behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// Chooses which packets get lost.
    pub seed: u64,
    /// Flows of each direction.
    pub flows: u16,
    /// Nanoseconds between two packets of one direction.
    pub every_nanos: i64,
    /// How many of a thousand packets get lost between the nodes.
    pub lost_permille: u64,
}

/// An observation point of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interface {
    /// Of the pod.
    Veth,
    /// To the other nodes.
    Nic,
}

impl Interface {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Veth, Self::Nic];

    /// As netlink names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Veth => "veth0",
            Self::Nic => "eth0",
        }
    }

    /// As netlink numbers it.
    pub fn index(self) -> u32 {
        match self {
            Self::Nic => 2,
            Self::Veth => 3,
        }
    }
}

/// One packet: who sends it, and its number among those of all directions. The number tells the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Packet {
    /// Node whose pod sends it.
    pub from: usize,
    /// Packets of its direction since 1970.
    pub number: i64,
}

/// Where a packet passes a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passage {
    /// The node.
    pub node: usize,
    /// The interface.
    pub interface: Interface,
    /// Its direction there.
    pub direction: Direction,
}

impl Passage {
    /// The passages of a packet on its whole way.
    pub fn all(from: usize) -> [Self; 4] {
        let at = |node, interface, direction| Self { node, interface, direction };
        [
            at(from, Interface::Veth, Direction::In),
            at(from, Interface::Nic, Direction::Out),
            at(peer(from), Interface::Nic, Direction::In),
            at(peer(from), Interface::Veth, Direction::Out),
        ]
    }

    /// How long after its start a packet is here, in nanoseconds.
    pub fn delay(self) -> i64 {
        match (self.interface, self.direction) {
            (Interface::Veth, Direction::In) => 0,
            (Interface::Nic, Direction::Out) => 30_000,
            (Interface::Nic, Direction::In) => 150_000,
            (Interface::Veth, Direction::Out) => 180_000,
        }
    }

    /// The node whose packets pass here.
    pub fn sender(self) -> usize {
        let is_source = self.is_before_the_wire();
        if is_source { self.node } else { peer(self.node) }
    }

    fn is_before_the_wire(self) -> bool {
        matches!(
            (self.interface, self.direction),
            (Interface::Veth, Direction::In) | (Interface::Nic, Direction::Out)
        )
    }

    /// Time to live of the packets here.
    pub fn ttl(self) -> u8 {
        match (self.interface, self.direction) {
            (Interface::Veth, Direction::In) => 64,
            (Interface::Veth, Direction::Out) => 62,
            (Interface::Nic, _) => 63,
        }
    }
}

/// The other node of the pair.
pub fn peer(node: usize) -> usize {
    node ^ 1
}

/// Name of a node.
pub fn name(node: usize) -> String {
    format!("node-{node:04}")
}

/// The node of this name.
pub fn number(name: &str) -> Option<usize> {
    name.strip_prefix("node-")?.parse().ok()
}

/// Address of a node's pod.
pub fn pod(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 64 + (node >> 8) as u8, node as u8, 10)
}

/// Address of a node on the network of all nodes.
pub fn underlay(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(172, 20, 1 + (node >> 7) as u8, 1 + (node & 127) as u8)
}

impl Script {
    /// The packets that pass here from `from` until before `until`, nanoseconds since 1970, in their order, with when
    /// they do.
    pub fn passing(&self, at: Passage, from: i64, until: i64) -> impl Iterator<Item = (i64, Packet)> + '_ {
        let (sender, delay) = (at.sender(), at.delay());
        let first = (from - delay).div_euclid(self.every_nanos)
            + i64::from((from - delay).rem_euclid(self.every_nanos) > 0);
        let last = (until - delay - 1).div_euclid(self.every_nanos);
        let packets = (first..=last).map(move |number| Packet { from: sender, number });
        let passing = packets.filter(move |packet| {
            self.is_sent(*packet) && (at.is_before_the_wire() || !self.is_lost(*packet))
        });
        passing.map(move |packet| (self.sent_nanos(packet) + delay, packet))
    }

    /// When a packet leaves its pod, nanoseconds since 1970.
    pub fn sent_nanos(&self, packet: Packet) -> i64 {
        packet.number * self.every_nanos
    }

    fn is_sent(&self, packet: Packet) -> bool {
        BUSY.contains(&self.sent_nanos(packet).rem_euclid(SECOND))
    }

    /// Whether the wire between the nodes loses it.
    pub fn is_lost(&self, packet: Packet) -> bool {
        let mut hasher = SipHasher13::new_with_keys(self.seed, packet.from as u64);
        hasher.write_i64(packet.number);
        hasher.finish() % 1_000 < self.lost_permille
    }

    /// The packet of a node that has this identification and left its pod nearest to a time, nanoseconds since 1970.
    pub fn packet_near(&self, from: usize, ip_id: u16, nanos: i64) -> Packet {
        let guess = (nanos + self.every_nanos / 2).div_euclid(self.every_nanos);
        let number = guess + i64::from(ip_id.wrapping_sub(guess as u16) as i16);
        Packet { from, number }
    }

    /// Which of its direction's flows a packet belongs to.
    pub fn flow(&self, packet: Packet) -> u16 {
        packet.number.rem_euclid(self.flows.into()) as u16
    }

    /// Ports of a flow.
    pub fn ports(&self, flow: u16) -> (u16, u16) {
        (SOURCE_PORT + flow, DESTINATION_PORT + flow)
    }

    /// The packet as it is on the wire.
    pub fn frame(&self, packet: Packet, ttl: u8) -> [u8; PACKET_BYTES] {
        let mut frame = [0; PACKET_BYTES];
        let (source_port, destination_port) = self.ports(self.flow(packet));
        frame[..4].copy_from_slice(&[0x45, 0, 0, PACKET_BYTES as u8]);
        frame[4..6].copy_from_slice(&ip_id(packet).to_be_bytes());
        frame[8..10].copy_from_slice(&[ttl, 17]);
        frame[12..16].copy_from_slice(&pod(packet.from).octets());
        frame[16..20].copy_from_slice(&pod(peer(packet.from)).octets());
        frame[20..22].copy_from_slice(&source_port.to_be_bytes());
        frame[22..24].copy_from_slice(&destination_port.to_be_bytes());
        frame[24..26].copy_from_slice(&(PACKET_BYTES as u16 - 20).to_be_bytes());
        frame[28..36].copy_from_slice(&packet.number.to_be_bytes());
        frame[36..].copy_from_slice(&self.seed.to_be_bytes());
        frame
    }
}

/// The identification in a packet's IPv4 header: no two of a few seconds share one.
pub fn ip_id(packet: Packet) -> u16 {
    packet.number as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: Script = Script { seed: 7, flows: 4, every_nanos: MILLISECOND, lost_permille: 50 };

    #[test]
    fn packets_pass_every_point_of_their_way_once_unless_they_are_lost_on_the_wire() {
        let all = |at: Passage, from, until| SCRIPT.passing(at, from, until).collect::<Vec<_>>();
        let [first, out, over, last] = Passage::all(0).map(|at| all(at, 0, SECOND));
        assert_eq!((first.len(), out.len()), (800, 800));
        assert_eq!(
            over.iter().map(|(_, packet)| packet).collect::<Vec<_>>(),
            last.iter().map(|(_, packet)| packet).collect::<Vec<_>>()
        );
        let lost = first.iter().filter(|(_, packet)| SCRIPT.is_lost(*packet)).count();
        assert!((10..100).contains(&lost) && over.len() == 800 - lost, "{lost}");
        for (time, packet) in &first {
            let near = time - 3 * SECOND;
            assert_eq!(SCRIPT.packet_near(0, ip_id(*packet), near), *packet);
        }
        // However the time is cut.
        let at = Passage::all(0)[3];
        let cut: Vec<_> = (0..1_000)
            .flat_map(|part| all(at, part * 1_000_300 - 300, (part + 1) * 1_000_300 - 300))
            .collect();
        assert_eq!(cut, all(at, -300, 1_000 * 1_000_300 - 300));
    }
}
