//! Canonical segments: what offload made of a packet undone, so that hops that segment and hops that do not can be
//! compared.

use crate::identity::{IdentityKey, is_fragment, k0_of};
use crate::observation::{FlowKey, Observation, gso, marks, protocol, tcp_flags};

/// Most segments of one super-packet. The largest the kernel builds is `GSO_MAX_SIZE`, 524,280 bytes; at the smallest
/// segment size Linux accepts from a peer (`TCP_MIN_MSS`, 88 bytes) that is 5,958. A row that claims more is malformed
/// or hostile and stays one segment.
pub const MAX_SEGMENTS: u32 = 8192;

/// Congestion window reduced, RFC 3168. Only the first segment of a super-packet keeps it.
const CWR: u8 = 0x80;

/// One TCP segment, datagram or message: the unit that is matched between hops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Receive stamp of the packet it was seen in, nanoseconds since 1970.
    pub time_nanos: i64,
    /// The NAT-invariant key; for fragments that of their datagram, see [`crate::datagram_key`].
    pub k0: u64,
    /// IP total length of the segment as it is on a wire, in bytes.
    pub ip_length: u32,
    /// Transport payload, in bytes.
    pub payload_length: u32,
    /// TCP sequence number of the first byte, or the sequence number of an opaque tunnel.
    pub tcp_seq: u32,
    /// IP identification.
    pub ip_id: u16,
    /// Offset in the datagram in bytes, for fragments.
    pub fragment_offset: u16,
    /// TCP flags.
    pub tcp_flags: u8,
    /// Bits of [`marks`].
    pub marks: u8,
}

impl Segment {
    /// True for every fragment of a datagram, the first included.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.fragment_offset != 0 || self.marks & marks::MORE_FRAGMENTS != 0
    }
}

/// The segments of one row, in order. See [`segments`].
#[derive(Clone, Debug)]
pub struct Segments {
    key: IdentityKey,
    row: Observation,
    headers: u32,
    left: u32,
    step: u32,
    protocol: u8,
    remaining: u32,
    flags: u8,
}

/// The canonical segments of `row`, which belongs to `flow`.
///
/// A TCP super-packet becomes what `tcp_gso_segment` of `net/ipv4/tcp_offload.c` makes of it: sequence numbers
/// `gso_size` apart, the last segment shorter, FIN and PSH on the last only and CWR on the first only, and, over IPv4,
/// identifications that count up, as `inet_gso_segment` of `net/ipv4/af_inet.c` has them. (Packets that receive
/// offload merged from a sender with a constant identification keep it in the kernel; nothing in a capture says so,
/// and no Linux sender does that.) Acknowledgment and timestamps are those of the packet. Every other row is one
/// segment: UDP super-packets were taken apart when they were captured, because their datagrams are told apart by
/// payload.
#[inline]
pub fn segments(flow: &FlowKey, row: &Observation, key: &IdentityKey) -> Segments {
    let count = segment_count(flow.protocol, row);
    Segments {
        key: *key,
        row: *row,
        headers: row.ip_length.saturating_sub(row.payload_length),
        left: row.payload_length,
        step: if count == 1 { row.payload_length } else { u32::from(row.gso_size) },
        protocol: flow.protocol,
        remaining: count,
        flags: row.tcp_flags,
    }
}

#[inline]
pub(crate) fn segment_count(flow_protocol: u8, row: &Observation) -> u32 {
    let is_super = matches!(row.gso_type, gso::TCPV4 | gso::TCPV6)
        && row.gso_size != 0
        && flow_protocol == protocol::TCP
        && row.payload_length > u32::from(row.gso_size)
        && !is_fragment(row);
    if !is_super {
        return 1;
    }
    match row.payload_length.div_ceil(u32::from(row.gso_size)) {
        count if count <= MAX_SEGMENTS => count,
        _ => 1,
    }
}

impl Segments {
    /// Moves `row` on to the segment behind it.
    #[inline]
    fn move_on(&mut self) {
        self.left -= self.row.payload_length;
        self.row.tcp_seq = self.row.tcp_seq.wrapping_add(self.step);
        if self.row.marks & marks::IPV4 != 0 {
            self.row.ip_id = self.row.ip_id.wrapping_add(1);
        }
        self.flags &= !CWR;
    }
}

impl Iterator for Segments {
    type Item = Segment;

    #[inline]
    fn next(&mut self) -> Option<Segment> {
        if self.remaining == 0 {
            return None;
        }
        self.remaining -= 1;
        let is_last = self.remaining == 0;
        let row = &mut self.row;
        row.payload_length = if is_last { self.left } else { self.step };
        row.tcp_flags = if is_last { self.flags } else { self.flags & !(tcp_flags::FIN | tcp_flags::PSH) };
        let segment = Segment {
            time_nanos: row.time_nanos,
            k0: k0_of(&self.key, self.protocol, row),
            ip_length: self.headers + row.payload_length,
            payload_length: row.payload_length,
            tcp_seq: row.tcp_seq,
            ip_id: row.ip_id,
            fragment_offset: row.fragment_offset,
            tcp_flags: row.tcp_flags,
            marks: row.marks,
        };
        if !is_last {
            self.move_on();
        }
        Some(segment)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining as usize, Some(self.remaining as usize))
    }
}

impl ExactSizeIterator for Segments {}
