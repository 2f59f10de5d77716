//! What the seed chooses.

use std::net::{Ipv4Addr, SocketAddrV4};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Addresses, ports and the clocks.
#[derive(Clone, Debug)]
pub(super) struct Cast {
    /// Third byte of the pods' prefix on each node.
    pub prefixes: [u8; 2],
    /// A pod on each node.
    pub pods: [Ipv4Addr; 2],
    /// The nodes.
    pub underlay: [Ipv4Addr; 2],
    /// Port on each pod, the same for UDP and TCP.
    pub ports: [u16; 2],
    /// A service in front of the second pod.
    pub service: SocketAddrV4,
    /// What replaces the first pod's port where its address is replaced.
    pub port_on_node: u16,
    /// VNI, and the receiver index of each node's `WireGuard`.
    pub tunnel_id: u32,
    /// Node b's clock less node a's.
    pub ahead_nanos: i64,
    /// How many of the packets vanish: one in so many.
    pub every: u64,
}

impl Cast {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let first = random.random_range(1..120);
        let prefixes = [first, random.random_range(first + 1..250)];
        let pod = |prefix, last| Ipv4Addr::new(10, 244, prefix, last);
        let (one, other) = (random.random_range(2..250), random.random_range(2..250));
        let subnet = random.random_range(0..250);
        Self {
            prefixes,
            pods: [pod(prefixes[0], one), pod(prefixes[1], other)],
            underlay: [1, 2].map(|last| Ipv4Addr::new(192, 168, subnet, last)),
            ports: [random.random_range(32_768..60_000), random.random_range(7_000..8_000)],
            service: SocketAddrV4::new(Ipv4Addr::new(10, 96, 3, random.random_range(1..250)), 80),
            port_on_node: random.random_range(32_768..60_000),
            tunnel_id: random.random_range(1..1 << 24),
            ahead_nanos: random.random_range(-9_000_000_000..9_000_000_000),
            every: random.random_range(3..12),
        }
    }

    /// A node's own address inside the overlay.
    pub(super) fn own(&self, node: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 244, self.prefixes[node], 0)
    }
}
