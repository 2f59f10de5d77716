//! What a correlation run finds.

pub(crate) mod advice;
pub(crate) mod assemble;
pub(crate) mod cause;
pub(crate) mod notes;
pub(crate) mod text;
pub(crate) mod view;

use std::borrow::Cow;
use std::net::IpAddr;

use lastseen_packet::observation::OverlayKind;

use crate::fabric::topology::{Direction, InterfaceKind};
use crate::input::{CaptureState, Window};

/// What the whole capture comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing lost above the threshold, and enough was seen to say so.
    Delivered,
    /// Loss above the threshold.
    Lost,
    /// No loss above the threshold, but too much could not be observed.
    #[default]
    Inconclusive,
}

/// Segment counts by state: `segments = delivered + lost + not_observable + ambiguous + in_flight + transformed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentTotals {
    /// Canonical segments first seen in the window, but for those that only one point could see and no path leads on
    /// from: they were compared with nothing.
    pub segments: u64,
    /// Seen at the last point of their path.
    pub delivered: u64,
    /// Missing after a named point, with at least one later point that would have seen them.
    pub lost: u64,
    /// Every later point was blind when it should have seen them.
    pub not_observable: u64,
    /// Indistinguishable copies of which some are missing, and not even how many of them belong to the window is
    /// certain.
    pub ambiguous: u64,
    /// On their way when recording ended.
    pub in_flight: u64,
    /// Rewritten beyond recognition.
    pub transformed: u64,
    /// Extra copies; beside the sum.
    pub duplicated: u64,
    /// Sightings that points off the path did not have; beside the sum.
    pub bypassed: u64,
}

/// How well a node observed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeReport {
    /// Name.
    pub node: String,
    /// How its part ended.
    pub state: CaptureState,
    /// Why it failed or stopped early.
    pub reason: String,
    /// Its clock minus the coordinator's.
    pub clock_offset_nanos: Option<i64>,
    /// Bound of the error of that offset.
    pub clock_error_nanos: Option<i64>,
    /// Packets captured.
    pub packets: u64,
    /// Packets the kernel dropped at its points.
    pub kernel_drops: u64,
    /// Observations the agent dropped.
    pub agent_drops: u64,
    /// Packets of the fabric's own connections, which are not captured.
    pub own_connections: u64,
    /// Packets that are no IP packet.
    pub undecoded: u64,
    /// Packets cut by the snap length, malformed, or without what the filter asks for.
    pub unreadable: u64,
    /// Packets that were left out because they were not selected.
    pub sampled_out: u64,
    /// What was not covered and why.
    pub coverage: Vec<String>,
}

/// A tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OverlayReport {
    /// Protocol.
    pub kind: OverlayKind,
    /// VNI, key or 0.
    pub id: u32,
}

/// A tuple the conversation was seen under beyond a translation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Source with port.
    pub source: String,
    /// Destination with port.
    pub destination: String,
    /// The node that translated, absent if it lies between two nodes.
    pub node: Option<String>,
}

/// A point by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PointName {
    /// Node name.
    pub node: String,
    /// Interface name.
    pub interface: String,
}

/// An observation point on a path.
#[derive(Clone, Debug, PartialEq)]
pub struct Hop {
    /// Node name.
    pub node: String,
    /// Interface name.
    pub interface: String,
    /// What the interface is.
    pub kind: InterfaceKind,
    /// Direction of these packets through it. Absent: not known.
    pub direction: Option<Direction>,
    /// What is seen there: `inner`, or the tunnel as `vxlan 1`.
    pub view: String,
    /// Segments of the window that were seen here.
    pub seen: u64,
    /// Segments that were lost between this point and the next.
    pub missing_after: u64,
    /// Share of the path's segments this point cannot have seen because it dropped or was not capturing, 0 to 1.
    pub blind_ratio: f64,
    /// Median delay from the point before, within 3 %. Absent for the first and where nothing matched.
    pub delay_p50_nanos: Option<i64>,
    /// 99th percentile of that delay, within 3 %.
    pub delay_p99_nanos: Option<i64>,
    /// Not on the path after all: it saw nothing of this flow and dropped nothing while points before and after saw it.
    pub bypassed: bool,
}

/// Why the kernel dropped a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropReason {
    /// Name, `NETFILTER_DROP`.
    pub code: String,
    /// What told: `kfree_skb`.
    pub source: String,
    /// Kernel symbol.
    pub location: String,
}

/// What sets the lost apart from the delivered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pattern {
    /// The trait they share: `protocol`, `fragment`, `flag`, `dscp`, `ecn`, `size`, `burst`, `period`, `port`,
    /// `destination`, `source`, `flow` or `direction`. `all` if nothing passed, `none` if no trait sets them apart.
    pub kind: Cow<'static, str>,
    /// In words.
    pub text: String,
    /// The counts behind it. Absent for `all` and `none`.
    pub support: Option<PatternSupport>,
}

/// How many segments of a leg speak for a pattern and how many against it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PatternSupport {
    /// Lost, and have the trait.
    pub lost_with: u64,
    /// Lost all the same.
    pub lost_without: u64,
    /// Have the trait and passed.
    pub passed_with: u64,
    /// Passed, and have it not.
    pub passed_without: u64,
    /// Paths with a loss that were counted together: all of the leg, or 1 for this path alone.
    pub paths: u64,
    /// Chance that any trait of the kind splits them as clearly if it has nothing to do with the loss, 0 to 1.
    pub chance: f64,
}

/// A likely cause and what speaks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Stable code, `mtu_black_hole`.
    pub code: Cow<'static, str>,
    /// In words.
    pub text: String,
    /// Facts, one each.
    pub evidence: Vec<String>,
}

/// One lost segment.
#[derive(Clone, Debug, PartialEq)]
pub struct LostPacket {
    /// First sighting, Unix nanoseconds on the coordinator's clock.
    pub first_seen_nanos: i64,
    /// Source with port.
    pub source: String,
    /// Destination with port.
    pub destination: String,
    /// As [`PathReport::protocol`].
    pub protocol: String,
    /// IPv4 identification. Absent for IPv6.
    pub ip_id: Option<u16>,
    /// TCP sequence number. Absent for others.
    pub tcp_seq: Option<u32>,
    /// TCP flags. Absent for others.
    pub tcp_flags: Option<u8>,
    /// Inner IP length in bytes.
    pub ip_length: u32,
    /// Transport payload in bytes.
    pub payload_length: u32,
    /// Last point that saw it.
    pub last_seen: PointName,
    /// First point that should have. Absent when the next point is unknown.
    pub missing_at: Option<PointName>,
    /// Where it was seen, in order.
    pub trajectory: Vec<PointName>,
    /// That it was lost and not missed by all later points, 0 to 1.
    pub confidence: f64,
}

/// Segments lost on one leg.
#[derive(Clone, Debug, PartialEq)]
pub struct Loss {
    /// Last point that saw them.
    pub from: PointName,
    /// First point that should have. Absent when the next point is unknown.
    pub to: Option<PointName>,
    /// Segments lost here.
    pub count: u64,
    /// Segments that reached `from`.
    pub total: u64,
    /// That these are network losses and not capture losses, 0 to 1.
    pub confidence: f64,
    /// The kernel's reason, where a drop event named one.
    pub reason: Option<DropReason>,
    /// What the lost have in common.
    pub pattern: Option<Pattern>,
    /// What probably happened.
    pub cause: Option<Cause>,
    /// A few of them.
    pub examples: Vec<LostPacket>,
}

/// Hash-based selection, RFC 5475 §6.2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sampling {
    /// One in this many segments was judged, at the times at which the fewest were.
    pub interval: u32,
    /// At other times more were.
    pub varied: bool,
}

/// Payload of a path whose segments are not known, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PieceBytes {
    /// Of all that was judged.
    pub total: u64,
    /// Of what was lost.
    pub lost: u64,
}

/// One direction of one conversation and where its segments were seen.
#[derive(Clone, Debug, PartialEq)]
pub struct PathReport {
    /// `10.244.1.10:41822`; without a port where the protocol has none.
    pub source: String,
    /// As `source`.
    pub destination: String,
    /// `tcp`, `udp`, `icmp`, `icmp6`, `sctp` or the IANA number.
    pub protocol: String,
    /// The tunnel it was carried in, absent if none was seen or expected.
    pub overlay: Option<OverlayReport>,
    /// Other tuples of the same conversation.
    pub translations: Vec<Translation>,
    /// Sums of this path.
    pub totals: SegmentTotals,
    /// Present where no point shows segments, only super-packets of unknown segment size: the sums, and the counts of
    /// the losses, are then of pieces of these, and a share is one of bytes.
    pub in_pieces: Option<PieceBytes>,
    /// Points in path order.
    pub hops: Vec<Hop>,
    /// Legs on which segments were lost, worst first.
    pub losses: Vec<Loss>,
}

/// The result of a correlation run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Capture id.
    pub capture_id: String,
    /// Name of the capture.
    pub name: String,
    /// Capture filter.
    pub filter: String,
    /// What was judged.
    pub window: Window,
    /// The capture still runs; the end of the window is not judged yet.
    pub partial: bool,
    /// Result, for any loss at all; [`Report::filtered`] applies a threshold.
    pub verdict: Verdict,
    /// What the verdict rests on, or what was missing; a line each.
    pub notes: Vec<String>,
    /// Sums over all paths, listed or not.
    pub totals: SegmentTotals,
    /// By name.
    pub nodes: Vec<NodeReport>,
    /// Worst first.
    pub paths: Vec<PathReport>,
    /// Paths that were not listed because the report is full.
    pub omitted_paths: u64,
    /// Which share of the segments was selected. Absent: all. Every count of the report is one of selected segments.
    pub sampling: Option<Sampling>,
}

/// One flow at one observation point. Names follow the IPFIX information elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowRecord {
    /// Node name.
    pub node: String,
    /// Interface name.
    pub interface: String,
    /// Direction through it.
    pub direction: Direction,
    /// IPFIX 8, 27: inner source address.
    pub source_address: IpAddr,
    /// IPFIX 12, 28: inner destination address.
    pub destination_address: IpAddr,
    /// IPFIX 4.
    pub protocol_identifier: u8,
    /// IPFIX 7.
    pub source_transport_port: u16,
    /// IPFIX 11; for ICMP type and code, IPFIX 32.
    pub destination_transport_port: u16,
    /// Tunnel, absent where the flow was seen bare.
    pub overlay: Option<OverlayReport>,
    /// IPFIX 2.
    pub packet_delta_count: u64,
    /// IPFIX 1: inner IP octets.
    pub octet_delta_count: u64,
    /// Canonical segments.
    pub segments: u64,
    /// IPFIX 152 in nanoseconds, on the coordinator's clock.
    pub flow_start_nanos: i64,
    /// IPFIX 153 in nanoseconds.
    pub flow_end_nanos: i64,
    /// IPFIX 6: union of flags.
    pub tcp_control_bits: u8,
    /// Segments whose bytes were all seen before.
    pub retransmissions: u64,
    /// Segments that start before the highest byte seen, yet bring new bytes.
    pub out_of_order: u64,
    /// IPFIX 25: smallest inner IP length.
    pub minimum_ip_total_length: u32,
    /// IPFIX 26.
    pub maximum_ip_total_length: u32,
    /// IPFIX 52.
    pub minimum_ttl: u8,
    /// IPFIX 53.
    pub maximum_ttl: u8,
    /// Present where the record sums several flows; its addresses are prefixes then, and its source port is 0.
    pub aggregate: Option<Aggregate>,
}

/// Flows that share one record, because there were too many to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aggregate {
    /// IPFIX 3: how many.
    pub flows: u64,
    /// IPFIX 9, 29: bits of the source address that all of them share; 0 where they share nothing, neither protocol nor
    /// tunnel.
    pub source_prefix_length: u8,
    /// IPFIX 13, 30: bits of the destination address. Below all of them, the port is 0 too.
    pub destination_prefix_length: u8,
}

/// Segments that are missing on a leg and are not called lost, because every point that testifies to them is known to
/// miss some: counted as not observable.
#[derive(Clone, Debug, PartialEq)]
pub struct Doubt {
    /// Last point that saw them.
    pub from: PointName,
    /// First point that should have.
    pub to: PointName,
    /// Segments.
    pub count: u64,
    /// That they were lost, 0 to 1: below [`crate::LEAST_CONFIDENCE`].
    pub confidence: f64,
}

/// Everything a run gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Where packets disappeared.
    pub report: Report,
    /// By point, then by tuple, and behind them the sums of those beyond [`crate::FLOW_ROWS`].
    pub flows: Vec<FlowRecord>,
    /// By time; at most [`crate::LOST_LIMIT`].
    pub lost: Vec<LostPacket>,
    /// Lost segments beyond that limit.
    pub omitted_lost: u64,
    /// By leg, most segments first.
    pub doubts: Vec<Doubt>,
}
