//! What happened to the packets of an observation point.

use std::ops::{AddAssign, Sub};

/// Packet counters of a point. Every packet that is received ends in exactly one of: recorded, `filtered`,
/// `own_connections`, `undecoded`, `unreadable`, `sampled_out`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets handed to the agent.
    pub received: u64,
    /// Packets the kernel dropped: ring full.
    pub kernel_drops: u64,
    /// Observations discarded because the queue to the coordinator was full.
    pub agent_drops: u64,
    /// Packets the filter did not match.
    pub filtered: u64,
    /// Packets of the fabric's own connections.
    pub own_connections: u64,
    /// Packets that are no IP packet.
    pub undecoded: u64,
    /// Captured bytes.
    pub bytes: u64,
    /// Packets cut by the snap length, malformed, or without what the filter asks for: they may have been any packet.
    pub unreadable: u64,
    /// Packets of which no segment was selected.
    pub sampled_out: u64,
}

impl Counters {
    /// Packets of which observations were made, those dropped behind the queue included.
    pub fn recorded(&self) -> u64 {
        let set_aside =
            [self.filtered, self.own_connections, self.undecoded, self.unreadable, self.sampled_out];
        set_aside.into_iter().fold(self.received, u64::saturating_sub)
    }
}

impl AddAssign for Counters {
    fn add_assign(&mut self, more: Self) {
        self.received += more.received;
        self.kernel_drops += more.kernel_drops;
        self.agent_drops += more.agent_drops;
        self.filtered += more.filtered;
        self.own_connections += more.own_connections;
        self.undecoded += more.undecoded;
        self.bytes += more.bytes;
        self.unreadable += more.unreadable;
        self.sampled_out += more.sampled_out;
    }
}

impl Sub for Counters {
    type Output = Self;

    fn sub(self, less: Self) -> Self {
        Self {
            received: self.received - less.received,
            kernel_drops: self.kernel_drops - less.kernel_drops,
            agent_drops: self.agent_drops - less.agent_drops,
            filtered: self.filtered - less.filtered,
            own_connections: self.own_connections - less.own_connections,
            undecoded: self.undecoded - less.undecoded,
            bytes: self.bytes - less.bytes,
            unreadable: self.unreadable - less.unreadable,
            sampled_out: self.sampled_out - less.sampled_out,
        }
    }
}
