//! Which header fields have one value wherever a packet is seen: RFC 791, 8200, 9293, 768, 792, 4443, 9260.
//!
//! Routers change TTL, TOS and checksums; tunnels and bridges fragment; offloads merge segments into super-packets,
//! whose IP-ID, sequence number and flags stand for many; address translation rewrites the id of an echo.

use super::accessors::Accessor;

/// The fields of a protocol in order, each up to (not including) a byte; `None` is one that may be asked for.
type Fields = &'static [(u32, Option<&'static str>)];

const END: u32 = u32::MAX;

const IP: Fields = &[
    (1, Some("the version and length of the IPv4 header")),
    (2, Some("the TOS (DSCP and ECN)")),
    (4, Some("the total length")),
    (6, Some("the IP-ID")),
    (8, Some("the fragment field")),
    (9, Some("the TTL")),
    (10, None),
    (12, Some("the IPv4 header checksum")),
    (20, None),
    (END, Some("bytes behind the IPv4 addresses")),
];
const IP6: Fields = &[
    (4, Some("the traffic class and flow label")),
    (6, Some("the payload length")),
    (7, None),
    (8, Some("the hop limit")),
    (40, None),
    (END, Some("bytes behind the IPv6 header")),
];
const TCP: Fields = &[
    (4, None),
    (8, Some("the TCP sequence number")),
    (12, Some("the TCP acknowledgment number")),
    (13, Some("the length of the TCP header")),
    (14, Some("TCP flags other than `& tcp-syn` and `& tcp-rst`")),
    (16, Some("the TCP window")),
    (18, Some("the TCP checksum")),
    (20, Some("the TCP urgent pointer")),
    (END, Some("TCP options or payload")),
];
const UDP: Fields = &[(4, None), (6, Some("the UDP length")), (8, Some("the UDP checksum")), (END, None)];
const ICMP: Fields = &[(2, None), (4, Some("the ICMP checksum")), (6, Some("the ICMP echo id")), (END, None)];
const SCTP: Fields = &[
    (4, None),
    (8, Some("the SCTP verification tag")),
    (12, Some("the SCTP checksum")),
    (END, Some("SCTP chunks")),
];

const PROTOCOLS: [(&str, Fields); 7] =
    [("ip", IP), ("ip6", IP6), ("tcp", TCP), ("udp", UDP), ("icmp", ICMP), ("icmp6", ICMP), ("sctp", SCTP)];
const FLAGS: (u32, u32) = (13, 1);

/// What the access looks at, if that can differ from hop to hop.
pub(super) fn changing(accessor: &Accessor<'_>) -> Option<String> {
    let Accessor { protocol, bytes, is_fixed_flag } = *accessor;
    let Some((_, fields)) = PROTOCOLS.iter().find(|(name, _)| *name == protocol) else {
        return Some(format!("raw bytes of {protocol:?}"));
    };
    let Some((first, size)) = bytes else { return Some(format!("a computed offset into {protocol}")) };
    if protocol == "tcp" && is_fixed_flag && (first, size) == FLAGS {
        return None;
    }
    let end = first.saturating_add(size.max(1));
    let mut begin = 0;
    for (until, name) in *fields {
        let is_touched = first < *until && end > begin;
        if let Some(name) = name.filter(|_| is_touched) {
            return Some(name.to_owned());
        }
        begin = *until;
    }
    None
}
