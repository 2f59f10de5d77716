//! A tracked connection with everything the kernel tells of it, `linux/netfilter/nfnetlink_conntrack.h`.

use lastseen_packet::observation::{FlowKey, protocol};

use super::message::{STATUS, TUPLE_ORIGINAL, TUPLE_PROTO, TUPLE_REPLY, tuple};
use crate::netlink::attributes::{be_u16, be_u32, be_u64, each, find};

// Attributes, `enum ctattr_type` and those nested in it.
const PROTOCOL_INFO: u16 = 4;
const TIMEOUT: u16 = 7;
const MARK: u16 = 8;
const COUNTERS_ORIGINAL: u16 = 9;
const COUNTERS_REPLY: u16 = 10;
const ZONE: u16 = 18;
const INFO_TCP: u16 = 1;
const TCP_STATE: u16 = 1;
const PACKETS: u16 = 1;
const BYTES: u16 = 2;
/// `CTA_PROTO_ICMP_ID` and `CTA_PROTO_ICMPV6_ID`.
const ICMP_IDS: [u16; 2] = [4, 7];

/// Bits of `enum ip_conntrack_status` and what they are called here.
const FLAGS: [(u32, &str); 6] = [
    (1 << 2, "assured"),
    (1 << 4, "snat"),
    (1 << 5, "dnat"),
    (1 << 9, "dying"),
    (1 << 14, "offload"),
    (1 << 15, "hw_offload"),
];
/// `IPS_SEEN_REPLY`.
const SEEN_REPLY: u32 = 1 << 1;

/// `enum tcp_conntrack`, `linux/netfilter/nf_conntrack_tcp.h`.
const TCP_STATES: [&str; 10] = [
    "none",
    "syn_sent",
    "syn_recv",
    "established",
    "fin_wait",
    "close_wait",
    "last_ack",
    "time_wait",
    "close",
    "syn_sent2",
];

/// Packets and bytes, where the kernel counts them (`net.netfilter.nf_conntrack_acct`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Of its first packet.
    pub(crate) original: FlowKey,
    /// Of what comes back.
    pub(crate) reply: FlowKey,
    /// Of ICMP, both ways.
    pub(crate) icmp_ids: [Option<u16>; 2],
    /// Of TCP.
    pub(crate) state: Option<&'static str>,
    /// Until it is forgotten, seconds; absent: it is dying, or offloaded.
    pub(crate) timeout_seconds: Option<u32>,
    pub(crate) mark: u32,
    pub(crate) zone: Option<u16>,
    /// Those of the first packet's direction and of the other.
    pub(crate) counters: [Option<Counters>; 2],
    status: u32,
}

impl Entry {
    /// From the attributes of a message; absent: a tuple is missing.
    pub(crate) fn read(attributes: &[u8]) -> Option<Self> {
        let (mut original, mut reply) = (None, None);
        let mut entry = Self {
            original: FlowKey::UNSPECIFIED,
            reply: FlowKey::UNSPECIFIED,
            icmp_ids: [None; 2],
            state: None,
            timeout_seconds: None,
            mark: 0,
            zone: None,
            counters: [None; 2],
            status: 0,
        };
        for (kind, value) in each(attributes) {
            match kind {
                TUPLE_ORIGINAL => (original, entry.icmp_ids[0]) = (tuple(value), icmp_id(value)),
                TUPLE_REPLY => (reply, entry.icmp_ids[1]) = (tuple(value), icmp_id(value)),
                STATUS => entry.status = be_u32(value)?,
                PROTOCOL_INFO => entry.state = tcp_state(value),
                TIMEOUT => entry.timeout_seconds = be_u32(value),
                MARK => entry.mark = be_u32(value)?,
                COUNTERS_ORIGINAL => entry.counters[0] = counters(value),
                COUNTERS_REPLY => entry.counters[1] = counters(value),
                ZONE => entry.zone = be_u16(value),
                _ => {}
            }
        }
        (entry.original, entry.reply) = (original?, reply?);
        Some(entry)
    }

    /// What is special about it: `assured`, `unreplied` and so on.
    pub(crate) fn flags(&self) -> Vec<&'static str> {
        let unreplied = (self.status & SEEN_REPLY == 0).then_some("unreplied");
        let others = FLAGS.iter().filter(|(bit, _)| self.status & bit != 0).map(|(_, name)| *name);
        unreplied.into_iter().chain(others).collect()
    }
}

/// Absent: it is no ICMP.
fn icmp_id(tuple: &[u8]) -> Option<u16> {
    let transport = find(tuple, TUPLE_PROTO)?;
    let is_icmp = find(transport, 1)?.first().is_some_and(|protocol| is_icmp(*protocol));
    ICMP_IDS.iter().find_map(|kind| find(transport, *kind)).and_then(be_u16).filter(|_| is_icmp)
}

/// Whether messages of this protocol have an id in place of ports.
pub(crate) fn is_icmp(number: u8) -> bool {
    matches!(number, protocol::ICMP | protocol::ICMPV6)
}

fn tcp_state(info: &[u8]) -> Option<&'static str> {
    let number = *find(find(info, INFO_TCP)?, TCP_STATE)?.first()?;
    TCP_STATES.get(usize::from(number)).copied()
}

fn counters(value: &[u8]) -> Option<Counters> {
    let number = |kind| find(value, kind).and_then(be_u64);
    Some(Counters { packets: number(PACKETS)?, bytes: number(BYTES)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = [(4 + value.len() as u16).to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn tuple_of(kind: u16, addresses: [[u8; 4]; 2], transport: &[Vec<u8>]) -> Vec<u8> {
        let ip = attribute(1, &[attribute(1, &addresses[0]), attribute(2, &addresses[1])].concat());
        attribute(kind, &[ip, attribute(2, &transport.concat())].concat())
    }

    fn tcp() -> Vec<u8> {
        let ports = |from: u16, to: u16| {
            [attribute(1, &[6]), attribute(2, &from.to_be_bytes()), attribute(3, &to.to_be_bytes())]
        };
        let counted =
            [attribute(PACKETS, &7_u64.to_be_bytes()), attribute(BYTES, &420_u64.to_be_bytes())].concat();
        [
            tuple_of(TUPLE_ORIGINAL, [[10, 1, 0, 2], [10, 96, 0, 10]], &ports(40_000, 80)),
            tuple_of(TUPLE_REPLY, [[10, 2, 0, 2], [10, 1, 0, 2]], &ports(8_080, 40_000)),
            attribute(STATUS, &0x2e_u32.to_be_bytes()),
            attribute(PROTOCOL_INFO, &attribute(INFO_TCP, &attribute(TCP_STATE, &[3]))),
            attribute(TIMEOUT, &431_999_u32.to_be_bytes()),
            attribute(MARK, &0x4000_u32.to_be_bytes()),
            attribute(COUNTERS_ORIGINAL, &counted),
            attribute(ZONE, &5_u16.to_be_bytes()),
        ]
        .concat()
    }

    #[test]
    fn a_connection_has_state_counters_and_flags() {
        let entry = Entry::read(&tcp()).unwrap();
        assert_eq!((entry.original.source_port, entry.reply.source_port), (40_000, 8_080));
        assert_eq!((entry.state, entry.timeout_seconds), (Some("established"), Some(431_999)));
        assert_eq!((entry.mark, entry.zone, entry.icmp_ids), (0x4000, Some(5), [None; 2]));
        assert_eq!(entry.counters, [Some(Counters { packets: 7, bytes: 420 }), None]);
        assert_eq!(entry.flags(), ["assured", "dnat"]);
        let lonely = Entry { status: 8, ..entry };
        assert_eq!(lonely.flags(), ["unreplied"]);
    }

    #[test]
    fn echoes_have_an_id() {
        let icmp =
            |kind: u8| [attribute(1, &[1]), attribute(4, &[0, 7]), attribute(5, &[kind]), attribute(6, &[0])];
        let attributes = [
            tuple_of(TUPLE_ORIGINAL, [[10, 0, 0, 1], [10, 0, 0, 2]], &icmp(8)),
            tuple_of(TUPLE_REPLY, [[10, 0, 0, 2], [10, 0, 0, 1]], &icmp(0)),
        ];
        assert_eq!(Entry::read(&attributes.concat()).unwrap().icmp_ids, [Some(7); 2]);
    }

    #[test]
    fn damaged_entries_are_left_out_and_never_a_panic() {
        let whole = tcp();
        for length in 0..whole.len() {
            let _ = Entry::read(&whole[..length]).map(|entry| entry.flags());
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                let _ = Entry::read(&damaged);
            }
        }
        assert_eq!(Entry::read(&[]), None);
    }
}
