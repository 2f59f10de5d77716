//! The coordinator's own words for jobs, nodes and batches. Free of generated types and of SQL.
//!
//! Times are nanoseconds since 1970 on the coordinator's clock unless a name says otherwise.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// One second in nanoseconds.
pub const SECOND: i64 = 1_000_000_000;
/// One millisecond in nanoseconds.
pub const MILLISECOND: i64 = 1_000_000;

/// What to capture, where and until when; defaults are filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// For people.
    pub name: String,
    /// Free pairs.
    pub labels: BTreeMap<String, String>,
    /// Whether the caller asked for every node; `nodes` names them all the same.
    pub all_nodes: bool,
    /// Node names, sorted, each once.
    pub nodes: Vec<String>,
    /// pcap-filter expression, empty for all.
    pub filter: String,
    /// Interface names, empty for `auto`.
    pub interfaces: Vec<String>,
    /// Length of the window.
    pub duration_nanos: i64,
    /// A node stops after this many packets.
    pub max_packets: Option<u64>,
    /// A node stops after this many captured bytes.
    pub max_bytes: Option<u64>,
    /// Bytes kept of each packet.
    pub snap_length: u32,
    /// Wanted start of the window.
    pub start_at_nanos: Option<i64>,
    /// One in this many canonical segments is recorded.
    #[serde(default = "all_segments")]
    pub sampling_interval: u32,
    /// W3C `traceparent` of the capture's span, kept with the job so that it outlives a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// What jobs asked for that were stored before they could ask for less.
fn all_segments() -> u32 {
    1
}

/// Life of a capture and of a node's part in it. The numbers are those of the wire and of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(i32)]
pub enum State {
    /// Stored, not yet sent.
    Pending = 1,
    /// Nodes get ready.
    Arming = 2,
    /// The node is ready. Only of a node.
    Armed = 3,
    /// The window is fixed.
    Running = 4,
    /// The window is over, batches are on their way.
    Draining = 5,
    /// Observations are being matched. Only of a capture.
    Correlating = 6,
    /// Done.
    Completed = 7,
    /// Could not be done.
    Failed = 8,
    /// Stopped before it had a window.
    Cancelled = 9,
}

impl State {
    /// From the wire or the store.
    pub fn from_number(number: i32) -> Option<Self> {
        use State::{Armed, Arming, Cancelled, Completed, Correlating, Draining, Failed, Pending, Running};
        [Pending, Arming, Armed, Running, Draining, Correlating, Completed, Failed, Cancelled]
            .into_iter()
            .find(|state| *state as i32 == number)
    }

    /// True when nothing follows.
    pub fn is_final(self) -> bool {
        self >= Self::Completed
    }
}

/// A window of time, end exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// T0.
    pub start_nanos: i64,
    /// T1, planned while the capture runs and real afterwards.
    pub end_nanos: i64,
}

/// How a node's clocks related to the coordinator's at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockFix {
    /// When the exchange was made.
    pub at_nanos: i64,
    /// Coordinator's clock minus the node's `CLOCK_MONOTONIC`.
    pub coordinator_minus_monotonic_nanos: i64,
    /// The node's `CLOCK_REALTIME` minus its `CLOCK_MONOTONIC`.
    pub realtime_minus_monotonic_nanos: i64,
    /// Bound of the error of `coordinator_minus_monotonic_nanos`.
    pub error_nanos: i64,
    /// Round trip of the exchange.
    pub round_trip_nanos: i64,
}

impl ClockFix {
    /// The node's `CLOCK_REALTIME` minus the coordinator's clock, what a person calls the offset.
    pub fn offset_nanos(&self) -> i64 {
        self.realtime_minus_monotonic_nanos.saturating_sub(self.coordinator_minus_monotonic_nanos)
    }

    /// A coordinator's time on the node's `CLOCK_MONOTONIC`.
    pub fn to_monotonic(&self, coordinator_nanos: i64) -> i64 {
        coordinator_nanos.saturating_sub(self.coordinator_minus_monotonic_nanos)
    }
}

/// Which observation point: namespace, interface and direction on one node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PointKey {
    /// Network namespace, empty for the host's.
    pub netns: String,
    /// Interface name.
    pub interface: String,
    /// Interface index.
    pub index: u32,
    /// Number of the wire's `Direction`.
    pub direction: i32,
}

impl PointKey {
    /// Interface and direction for a message.
    pub fn place(&self) -> String {
        let direction = match self.direction {
            1 => " in",
            2 => " out",
            _ => "",
        };
        format!("{}{direction}", self.interface)
    }
}

/// An observation point and what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// Which.
    pub key: PointKey,
    /// Number of the wire's `InterfaceKind`.
    pub kind: i32,
    /// MTU when armed.
    pub mtu: u32,
    /// Whether super-packets carry their segment size here.
    pub gso_known: bool,
}

/// Packet counters of a point, see `PointCounters` on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Counters {
    pub received: u64,
    pub kernel_drops: u64,
    pub agent_drops: u64,
    pub filtered: u64,
    pub own_connections: u64,
    pub undecoded: u64,
    pub bytes: u64,
    pub unreadable: u64,
    pub sampled_out: u64,
}

/// What an agent last said about a point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointStatus {
    /// Which.
    pub point: Point,
    /// Since the capture was armed.
    pub counters: Counters,
    /// Batches made so far.
    pub batches: u64,
}

/// One node's part in a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Node name.
    pub node: String,
    /// Where it is.
    pub state: State,
    /// Why it failed or stopped early.
    pub reason: String,
    /// When it reported ready.
    pub armed_at_nanos: Option<i64>,
    /// Agent process that armed it.
    pub incarnation: Option<u64>,
    /// Clock when the window was committed.
    pub clock_start: Option<ClockFix>,
    /// Clock at the last look while it ran.
    pub clock_end: Option<ClockFix>,
    /// Points and counters.
    pub points: Vec<PointStatus>,
    /// What was not covered and why.
    pub coverage: Vec<String>,
}

impl Part {
    /// A part nothing has happened to.
    pub fn new(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            state: State::Pending,
            reason: String::new(),
            armed_at_nanos: None,
            incarnation: None,
            clock_start: None,
            clock_end: None,
            points: Vec::new(),
            coverage: Vec::new(),
        }
    }
}

/// A capture job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// `c-` and six letters and digits; empty once a dry run is over.
    pub id: String,
    /// As resolved.
    pub spec: Spec,
    /// Where it is.
    pub state: State,
    /// Why it failed or was stopped.
    pub reason: String,
    /// When it was stored.
    pub created_at_nanos: i64,
    /// Identity that asked for it.
    pub created_by: String,
    /// Once committed.
    pub window: Option<Window>,
    /// By node name.
    pub parts: Vec<Part>,
    /// Keys the identity hashes of this capture.
    pub identity_key: IdentityKey,
}

impl Capture {
    /// The part of `node`.
    pub fn part(&self, node: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.node == node)
    }

    /// The part of `node`.
    pub fn part_mut(&mut self, node: &str) -> Option<&mut Part> {
        self.parts.iter_mut().find(|part| part.node == node)
    }
}

#[cfg(test)]
impl ClockFix {
    /// A clock that is right to a nanosecond.
    pub(crate) fn sample() -> Self {
        Self {
            at_nanos: 0,
            coordinator_minus_monotonic_nanos: 0,
            realtime_minus_monotonic_nanos: 0,
            error_nanos: 1,
            round_trip_nanos: 2,
        }
    }
}

#[cfg(test)]
impl CheckedBatch {
    /// A batch of node `node-a` that was not encoded.
    pub(crate) fn sample(capture: &str, sequence: u64, contents: &[u8]) -> Self {
        let point = PointKey { netns: String::new(), interface: "eth0".into(), index: 2, direction: 1 };
        let (capture, node, incarnation) = (capture.to_owned(), "node-a".to_owned(), 1);
        Self {
            key: BatchKey { capture, node, point: point.clone(), incarnation, sequence },
            point: Point { key: point, kind: 5, mtu: 1500, gso_known: true },
            bytes: contents.to_vec().into(),
            checksum: crc32fast::hash(contents),
            rows: 1,
            slice_nanos: [0; 2],
        }
    }
}

#[cfg(test)]
impl Capture {
    /// A capture of ten seconds on these nodes that was just stored.
    pub(crate) fn sample(nodes: &[&str]) -> Self {
        let names: Vec<String> = nodes.iter().map(|&node| node.to_owned()).collect();
        Self {
            id: "c-1".into(),
            parts: names.iter().map(|node| Part::new(node)).collect(),
            spec: Spec {
                name: String::new(),
                labels: BTreeMap::new(),
                all_nodes: false,
                nodes: names,
                filter: String::new(),
                interfaces: Vec::new(),
                duration_nanos: 10 * SECOND,
                max_packets: None,
                max_bytes: None,
                snap_length: 192,
                start_at_nanos: None,
                sampling_interval: 1,
                traceparent: None,
            },
            state: State::Pending,
            reason: String::new(),
            created_at_nanos: 1_000 * SECOND,
            created_by: "eve".into(),
            window: None,
            identity_key: IdentityKey([0; 16]),
        }
    }
}

/// 16 secret bytes; never printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct IdentityKey(pub [u8; 16]);

impl std::fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdentityKey(..)")
    }
}

/// What identifies a batch.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BatchKey {
    /// Capture id.
    pub capture: String,
    /// Node of the certificate.
    pub node: String,
    /// Observation point.
    pub point: PointKey,
    /// Agent process.
    pub incarnation: u64,
    /// Counts from 0 per point and incarnation.
    pub sequence: u64,
}

/// A batch that passed every check, as it will be stored.
#[derive(Clone, Debug)]
pub struct CheckedBatch {
    /// Identity.
    pub key: BatchKey,
    /// The point, with what it is.
    pub point: Point,
    /// The encoded message.
    pub bytes: Bytes,
    /// CRC-32 of `bytes`.
    pub checksum: u32,
    /// Observations in it.
    pub rows: u32,
    /// Begin and end of its slice on the node's `CLOCK_MONOTONIC`.
    pub slice_nanos: [i64; 2],
}

/// What an agent can or cannot do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capability {
    /// Name.
    pub name: String,
    /// It works.
    pub available: bool,
    /// What is missing.
    pub reason: String,
}

/// What the coordinator remembers of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// Name.
    pub name: String,
    /// Version of its agent.
    pub agent_version: String,
    /// Kernel release.
    pub kernel: String,
    /// Agent process.
    pub incarnation: u64,
    /// Last message.
    pub last_seen_nanos: i64,
    /// What it can do.
    pub capabilities: Vec<Capability>,
    /// Encoded `NodeTopology` as last reported.
    pub topology: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_stored_before_there_was_sampling_recorded_everything() {
        let spec = Capture::sample(&["node-a"]).spec;
        let mut stored = serde_json::to_value(&spec).unwrap();
        stored.as_object_mut().unwrap().remove("sampling_interval").unwrap();
        assert_eq!(serde_json::from_value::<Spec>(stored).unwrap(), spec);
    }
}
