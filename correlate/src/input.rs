//! What a correlation run is given.

use lastseen_packet::IdentityKey;
use lastseen_packet::observation::FlowKey;

use crate::evidence::scratch::ScratchError;
use crate::fabric::topology::Topology;
pub use crate::fabric::topology::{Direction, InterfaceKind};

/// A half-open interval of Unix nanoseconds on the coordinator's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// First instant judged.
    pub start_nanos: i64,
    /// End, exclusive.
    pub end_nanos: i64,
}

/// Where a node's part in a capture is. The correlation only passes it on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CaptureState {
    /// Not known.
    #[default]
    Unspecified,
    /// Stored, not yet sent.
    Pending,
    /// Opens its handles.
    Arming,
    /// Ready.
    Armed,
    /// The window is committed.
    Running,
    /// The guard time runs, batches are on their way.
    Draining,
    /// The coordinator matches.
    Correlating,
    /// Done.
    Completed,
    /// Could not be done.
    Failed,
    /// Stopped before it had a window.
    Cancelled,
}

/// A node that took part, or should have, or is only known by its network.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Name, unique in the job.
    pub name: String,
    /// Its network.
    pub topology: Topology,
    /// Its clock minus the coordinator's. Absent: not measured.
    pub clock_offset_nanos: Option<i64>,
    /// Bound of the error of that offset.
    pub clock_error_nanos: Option<i64>,
    /// How its part ended.
    pub state: CaptureState,
    /// Why it failed or stopped early, empty otherwise.
    pub reason: String,
    /// What was not covered and why, a line each.
    pub coverage: Vec<String>,
    /// Nobody asked for it: it has no points and no line in the report, but what its addresses receive happens out of
    /// sight instead of outside of the fabric.
    pub is_bystander: bool,
    /// Translations its connection tracking knew during the recording.
    pub translations: Vec<Translation>,
}

/// A translated connection, as connection tracking has it: `ctnetlink`'s `CTA_TUPLE_ORIG` and `CTA_TUPLE_REPLY`. The
/// tuples have no tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Translation {
    /// As its first packet came.
    pub original: FlowKey,
    /// As answers come: reversed, the tuple with which the first packet went on.
    pub reply: FlowKey,
}

/// An observation point: where packets were captured, in one direction.
#[derive(Clone, Debug)]
pub struct Point {
    /// Index into [`Job::nodes`].
    pub node: usize,
    /// Network namespace, empty for the host's.
    pub netns: String,
    /// Interface name.
    pub interface: String,
    /// Interface index in its namespace.
    pub index: u32,
    /// Direction of the packets through it. Absent: a capture file that does not tell its directions apart.
    pub direction: Option<Direction>,
    /// What the interface is.
    pub kind: InterfaceKind,
    /// Layer 3 MTU in bytes.
    pub mtu: u32,
    /// Whether super-packets carry their segment size here.
    pub gso_known: bool,
}

/// How long before the window agents start to record, nanoseconds, so that a packet already under way is known.
pub const LEAD_NANOS: i64 = 1_000_000_000;

/// The kernel freed a packet instead of passing it on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DropEvent {
    /// Index into [`Job::nodes`].
    pub node: usize,
    /// Network namespace, empty for the host's or if not known.
    pub netns: String,
    /// When, Unix nanoseconds on the node's own clock less what the coordinator measured it to be ahead.
    pub time_nanos: i64,
    /// Identity of the innermost segment, [`lastseen_packet::k0`] under the key of the job.
    pub k0: u64,
    /// Name of the drop reason, `NETFILTER_DROP`.
    pub reason: String,
    /// Kernel symbol that freed it.
    pub location: String,
}

/// How long agents go on recording after the window, nanoseconds: long enough for packets that wait for an
/// unresolved neighbour, which the kernel frees after about three seconds.
pub const GUARD_NANOS: i64 = 4_000_000_000;

/// Everything but the observations.
#[derive(Clone, Debug)]
pub struct Job {
    /// Capture id, for the report.
    pub capture_id: String,
    /// Name of the capture, for the report.
    pub name: String,
    /// Capture filter, for the report.
    pub filter: String,
    /// Somebody named the interfaces to capture, and wants no more than those: a path ends at the last of them. Else all
    /// that matter were meant to be captured, and a pod's interface without a point hides what became of its packets.
    pub named_interfaces: bool,
    /// The capture still runs: the report says so.
    pub partial: bool,
    /// The evidence is capture files of whatever tool, not what agents sent: notes say what to do with that tool.
    pub from_files: bool,
    /// Segments first seen in it are judged.
    pub window: Window,
    /// How long after the window observations are complete; usually [`GUARD_NANOS`].
    pub guard_nanos: i64,
    /// The capture's secret.
    pub key: IdentityKey,
    /// Nodes asked for, and bystanders after them.
    pub nodes: Vec<Node>,
    /// Observation points of all nodes.
    pub points: Vec<Point>,
}

/// Why a job cannot be correlated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// The window is empty.
    #[error("window: ends at {end} ns, not after its start at {start} ns")]
    EmptyWindow {
        /// Start, Unix nanoseconds.
        start: i64,
        /// End, Unix nanoseconds.
        end: i64,
    },
    /// A point of a node that is not in the job.
    #[error("point {point}: node {node} is not one of the {nodes} nodes of the job")]
    UnknownNode {
        /// Index of the point.
        point: usize,
        /// The node it names.
        node: usize,
        /// Nodes in the job.
        nodes: usize,
    },
    /// More points than a run can tell apart.
    #[error("points: {count} are more than the {limit} a run can correlate; name fewer interfaces")]
    TooManyPoints {
        /// Points in the job.
        count: usize,
        /// Most points.
        limit: usize,
    },
}

/// Why a batch was not added. Nothing of it was counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// A point that is not in the job.
    #[error("batch of point {point}: the job has {points} points")]
    UnknownPoint {
        /// Index of the point.
        point: usize,
        /// Points in the job.
        points: usize,
    },
    /// Columns of different lengths or a flow outside of the dictionary.
    #[error("batch of {node} {interface}: columns disagree in length or name a flow that is not there")]
    Inconsistent {
        /// Node name.
        node: String,
        /// Interface name.
        interface: String,
    },
    /// A slice that ends before it starts.
    #[error("batch of {node} {interface}: slice ends {by} ns before it starts")]
    BackwardSlice {
        /// Node name.
        node: String,
        /// Interface name.
        interface: String,
        /// How far.
        by: i64,
    },
    /// The scratch space failed while the batch was added: the run is of no use any more.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// The run is full.
    #[error("more than {limit} {what}: shorten the window or narrow the filter")]
    Full {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}

/// Why a drop event was not added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DropError {
    /// A node that is not in the job.
    #[error("drop event of node {node}: the job has {nodes} nodes")]
    UnknownNode {
        /// Index of the node.
        node: usize,
        /// Nodes in the job.
        nodes: usize,
    },
    /// The run is full.
    #[error("more than {limit} drop events: shorten the window or narrow the filter")]
    Full {
        /// The limit.
        limit: usize,
    },
}

/// Packet counters of a point in one slice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SliceCounters {
    /// Packets the kernel delivered to the agent, those that the agent then dropped included.
    pub received: u64,
    /// Packets the kernel dropped: ring full.
    pub kernel_drops: u64,
    /// Observations the agent dropped: queue full.
    pub agent_drops: u64,
    /// Packets that were cut by the snap length or malformed, and so cannot be told from those that others saw.
    pub unreadable: u64,
    /// Packets of the fabric's own connections.
    pub own_connections: u64,
    /// Packets that are no IP packet.
    pub undecoded: u64,
    /// Packets that were not selected.
    pub sampled_out: u64,
}

/// A stretch of time in which a point was capturing. Time that no slice covers was not captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// Begin on the coordinator's clock, Unix nanoseconds.
    pub start_nanos: i64,
    /// End, exclusive.
    pub end_nanos: i64,
    /// What was counted in it.
    pub counters: SliceCounters,
}
