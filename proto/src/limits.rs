//! What both ends of the wire must agree on. An agent keeps to these, a coordinator refuses what does not.
//!
//! Limits that only one program knows (queues, pages, files) stay with that program.

use std::ops::RangeInclusive;

const SECOND: i64 = 1_000_000_000;

/// Bytes of each packet that a capture may keep. Fewer do not hold the headers that tell packets apart; no captured
/// packet is asked for beyond what an IPv4 header can count.
pub const SNAP_LENGTH: RangeInclusive<u32> = 64..=65_535;
/// Bytes of each packet kept when the caller names none: an overlay's headers and the pod's, options included.
pub const DEFAULT_SNAP_LENGTH: u32 = 192;
/// Bytes of a filter, which is longer than any person writes and bounds what the compiler is given.
pub const FILTER_BYTES: usize = 4_096;
/// Captures that have not ended, on one node: each takes rings of its own at every interface.
pub const CAPTURES_PER_NODE: usize = 4;

/// A node that is offline for longer has probably left the fabric, and a capture on all nodes does without it; nanoseconds.
pub const MISSED_NANOS: i64 = 24 * 3_600 * 1_000_000_000;
/// Longest window, in nanoseconds. The clocks' offset is measured before the window and drifts during it.
pub const DURATION_NANOS: i64 = 3600 * SECOND;
/// Nanoseconds that agents record after the window: what the correlation counts on.
pub use lastseen_correlate::GUARD_NANOS as TAIL_NANOS;
/// Nanoseconds that agents record before the window: what the correlation counts on.
pub use lastseen_correlate::LEAD_NANOS;

/// Bytes of one gRPC message in either direction; a node's topology is the largest.
pub const MESSAGE_BYTES: usize = 4 << 20;
/// Bytes of one encoded `ObservationBatch`, names and counters included.
pub const BATCH_BYTES: usize = 1 << 20;
/// Bytes of a batch's `columns`: what `BATCH_BYTES` leaves when every name beside them is as long as it may be.
pub const COLUMNS_BYTES: usize = BATCH_BYTES - (4 << 10);
/// Bytes of a batch's columns after decompression, which bounds what a small message can make a decoder allocate.
pub const RAW_BYTES: u32 = 8 << 20;
/// Rows of one batch. Agents send a few thousand; decoded, this many take about 5 MiB.
pub const BATCH_ROWS: u32 = 65_536;

/// Bytes of a capture's id.
pub const CAPTURE_ID_BYTES: usize = 63;
/// Batches of one point that one agent process makes; sequence numbers are below it.
pub const BATCHES_PER_POINT: u64 = 1 << 32;
/// Lowest threshold that selects packets: one in 2^40 segments. Below it nothing could be judged.
pub const LEAST_SAMPLING_THRESHOLD: u64 = 1 << 24;
/// How far from its capture's recording a slice may lie, and a row from its slice, in nanoseconds: far more than clocks
/// are wrong by, far less than what would drag a report to another day.
pub const TIME_SLACK_NANOS: i64 = 60 * SECOND;

/// Points of earlier processes' batches that an agent tells when it registers.
pub const SPOOLED_POINTS: usize = 4_096;

/// Translated connections that a node tells of one capture.
pub const TRANSLATIONS: usize = 8_192;

/// Probes that a node has at once.
pub const PROBES_PER_NODE: usize = 32;
/// Network namespaces of a node from which probes are sent at once, each by a thread of its own.
pub const PROBE_PLACES: usize = 64;
/// Targets of one probe.
pub const PROBE_TARGETS: usize = 64;
/// Others that each source of a mesh probes.
pub const PROBE_NEIGHBORS: RangeInclusive<u32> = 1..=PROBE_TARGETS as u32;
/// Attempts at each target in a run.
pub const PROBE_COUNT: RangeInclusive<u32> = 1..=100;
/// Between the beginnings of two attempts.
pub const PROBE_INTERVAL_NANOS: RangeInclusive<i64> = 10_000_000..=60 * SECOND;
/// How long an answer may take.
pub const PROBE_TIMEOUT_NANOS: RangeInclusive<i64> = 10_000_000..=30 * SECOND;
/// From one run to the next, where there are several.
pub const PROBE_EVERY_NANOS: RangeInclusive<i64> = SECOND..=24 * 3600 * SECOND;
/// Bytes of an echo request behind its header: what tells it from others, and what IPv4 takes (RFC 791).
pub const PROBE_SIZE: RangeInclusive<u32> = 16..=65_507;
/// Bytes of a datagram's payload: what every path takes (RFC 8200 §5), without the headers of IPv6 and UDP.
pub const PROBE_PAYLOAD_BYTES: usize = 1_232;

/// Bytes of one source's report of a run.
pub const PROBE_REPORT_BYTES: usize = 256 << 10;
/// Servers that a probe asks for each name.
pub const PROBE_SERVERS: usize = 8;
/// Servers of resolv.conf that it asks, as resolvers have it (`MAXNS`, resolv.h).
pub const PROBE_OWN_SERVERS: usize = 3;
/// Gateways of default routes that a probe looks at: some routes have many next hops.
pub const PROBE_GATEWAYS: usize = 8;
/// Domains in which a probe looks for a name, whoever lists them.
pub const PROBE_SEARCH: usize = 6;
/// Bytes of a URL.
pub const PROBE_URL_BYTES: usize = 2_048;
/// Bytes of the certificates that a probe trusts.
pub const PROBE_CA_BYTES: usize = 64 << 10;
/// Bytes of a packet, with its IP header, with which a path MTU is looked for: from what every link takes (RFC 791 §3.2) on.
pub const PROBE_MTU: RangeInclusive<u32> = 68..=65_535;
/// Steps of that search, each of one size: 16 halvings, the ends, and what a router names.
pub const PROBE_MTU_STEPS: u32 = 20;
/// Packets that follow a path.
pub const PROBE_PACKETS: RangeInclusive<u32> = 1..=1_000;
/// Their sizes.
pub const PROBE_SIZES: usize = 64;
/// Routers that a trace looks for.
pub const PROBE_HOPS: RangeInclusive<u32> = 1..=64;
/// How long a throughput is measured.
pub const THROUGHPUT_NANOS: RangeInclusive<i64> = SECOND..=60 * SECOND;
/// Bits of payload a second that a throughput may be asked for.
pub const THROUGHPUT_RATE: RangeInclusive<u64> = 100_000..=10_000_000_000;
/// Bits a second of datagrams unless the caller names a rate.
pub const THROUGHPUT_UDP_RATE: u64 = 10_000_000;
/// Bytes of payload that one run of a throughput sends at most.
pub const THROUGHPUT_BYTES: u64 = 100_000_000_000;
/// Seconds of which a result tells how much came in each.
pub const THROUGHPUT_SECONDS: usize = 60;
/// Addresses that a receiver takes a sender from.
pub const THROUGHPUT_SENDERS: usize = 64;
/// Bytes of what a sender shows to its receiver.
pub const THROUGHPUT_TOKEN_BYTES: usize = 16;
/// Between the packets of one round of a trace.
pub const PROBE_HOP_NANOS: i64 = 10_000_000;
/// Columns of a table of a node.
pub const PROBE_COLUMNS: usize = 24;
/// Bytes of one of its cells.
pub const PROBE_CELL_BYTES: usize = 120;

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::v1;

    #[test]
    fn the_longest_columns_fit_into_a_batch_with_the_longest_names() {
        let point = v1::ObservationPoint {
            netns: "s".repeat(255),
            interface: "i".repeat(15),
            index: u32::MAX,
            direction: v1::Direction::Out.into(),
            kind: i32::MAX,
            mtu: u32::MAX,
            gso_known: true,
        };
        let counters = v1::PointCounters {
            received: u64::MAX,
            kernel_drops: u64::MAX,
            agent_drops: u64::MAX,
            filtered: u64::MAX,
            own_connections: u64::MAX,
            undecoded: u64::MAX,
            bytes: u64::MAX,
            unreadable: u64::MAX,
            sampled_out: u64::MAX,
        };
        let batch = v1::ObservationBatch {
            key: Some(v1::BatchKey {
                capture_id: "c".repeat(CAPTURE_ID_BYTES),
                point: Some(point),
                incarnation: u64::MAX,
                sequence: u64::MAX,
            }),
            slice_start_nanos: -1,
            slice_end_nanos: -1,
            realtime_minus_monotonic_nanos: -1,
            counters: Some(counters),
            rows: BATCH_ROWS,
            columns: vec![0; COLUMNS_BYTES].into(),
            sampling_threshold: Some(u64::MAX),
        };
        assert!(batch.encoded_len() <= BATCH_BYTES, "{} bytes", batch.encoded_len());
    }
}
