//! Filters that speak of the pods' packets: compiled in-process, matched against the innermost IP header.
//!
//! The program is compiled for packets that start with the IP header, and run from there, so one expression means
//! the same at a veth, behind VLAN tags and inside a tunnel. Terms about Ethernet, which differ from hop to hop, do
//! not compile for such packets; terms about fields that routers and offloads change are refused, and a term about
//! payload gives no answer for a frame that lacks it.

mod accessors;
mod fields;
mod per_hop;
mod plain;
mod reach;

use lastseen_packet::{Decoded, Gso};
use lastseen_proto::limits::FILTER_BYTES;
use pcap::{BpfProgram, Capture, Linktype};

pub(crate) use self::plain::{SHOWN_BYTES, plain};
use self::reach::Reach;

/// `DLT_RAW` of Linux: the version nibble tells IPv4 from IPv6.
const RAW: Linktype = Linktype(12);

/// An expression that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// Longer than any person writes.
    #[error("filter: {0} bytes long; the limit is {FILTER_BYTES}")]
    TooLong(usize),
    /// libpcap refused it.
    #[error(
        "filter: {reason} in {expression:?}; see pcap-filter(7), for example: host 10.244.2.10 and tcp port 80"
    )]
    Syntax {
        /// What libpcap said.
        reason: String,
        /// As given.
        expression: String,
    },
    /// It would match the same packet at one point and not at another.
    #[error(
        "filter: {expression:?} looks at {term}, which can differ from hop to hop, so packets would seem lost; use \
         addresses, protocols and ports instead, for example: host 10.244.2.10 and tcp port 80"
    )]
    PerHop {
        /// What it looks at.
        term: String,
        /// As given.
        expression: String,
    },
}

/// A compiled expression. Stays in the thread that compiled it.
pub struct Filter {
    program: Option<BpfProgram>,
    reach: Reach,
}

impl Filter {
    /// Compiles `expression`, a pcap-filter(7); empty matches everything.
    pub fn compile(expression: &str) -> Result<Self, FilterError> {
        if expression.len() > FILTER_BYTES {
            return Err(FilterError::TooLong(expression.len()));
        }
        if expression.trim().is_empty() {
            return Ok(Self { program: None, reach: Reach::default() });
        }
        let program = Capture::dead(RAW).and_then(|handle| handle.compile(expression, true));
        let syntax = |error| FilterError::Syntax { reason: reason(error), expression: expression.to_owned() };
        let program = program.map_err(syntax)?;
        match per_hop::find(expression, &program) {
            Some(term) => Err(FilterError::PerHop { term, expression: expression.to_owned() }),
            None => Ok(Self { program: Some(program), reach: Reach::of(&accessors::find(expression)) }),
        }
    }

    /// Whether there is an expression at all.
    pub fn is_empty(&self) -> bool {
        self.program.is_none()
    }

    /// Whether a packet that starts with its IP header and is no fragment matches, as far as it goes.
    #[inline]
    pub fn matches_packet(&self, packet: &[u8]) -> bool {
        self.program.as_ref().is_none_or(|program| program.filter(packet))
    }

    /// Whether the innermost packet of a decoded `frame` matches; `None` if the frame cannot tell. Fragments but the
    /// first always do: they carry no ports, and leaving them out would show as a loss.
    #[inline]
    pub fn matches(&self, decoded: &Decoded, frame: &[u8], offload: Gso) -> Option<bool> {
        let Some(program) = &self.program else { return Some(true) };
        let Some(network) = &decoded.network else { return Some(false) };
        if network.fragment_offset != 0 {
            return Some(true);
        }
        if self.reach.exceeds(decoded, offload) {
            return None;
        }
        let mut buffer = [0; SHOWN_BYTES];
        let ip = frame.get(network.offset as usize..);
        Some(ip.is_some_and(|ip| program.filter(plain(network, ip, &mut buffer).0)))
    }
}

fn reason(error: pcap::Error) -> String {
    match error {
        pcap::Error::PcapError(text) => text,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod per_hop_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_expression_and_the_reason() {
        let message = |expression: &str| Filter::compile(expression).err().unwrap().to_string();
        assert!(message("tcp prot 80").contains("syntax error"), "{}", message("tcp prot 80"));
        assert!(message("tcp prot 80").contains("\"tcp prot 80\""));
        assert!(message("ether host 02:00:00:00:00:01").starts_with("filter: "));
        assert!(message(&"x".repeat(5000)).contains("5000 bytes long"));
        assert!(message("host 10.0.0.1\0").starts_with("filter: "));
    }

    #[test]
    fn ports_are_found_behind_the_extension_headers_of_ipv6() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 24, 44, 64];
        packet.extend([[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]; 2].concat());
        packet.extend([17, 0, 0, 1, 0, 0, 0, 7]);
        packet.extend([40_000_u16, 53, 16, 0].map(u16::to_be_bytes).concat());
        packet.extend([0; 8]);
        let mut decoded = Decoded::default();
        let link = lastseen_packet::LinkType::Raw;
        let config = lastseen_packet::DecodeConfig::default();
        lastseen_packet::decode(&config, link, &packet, packet.len() as u32, &mut decoded).unwrap();
        for (filter, passes) in [
            ("udp and port 53", true),
            ("port 54", false),
            ("udp", true),
            ("tcp", false),
            ("host fd00::1", true),
        ] {
            let filter = Filter::compile(filter).unwrap();
            assert_eq!(filter.matches(&decoded, &packet, Gso::default()), Some(passes));
        }
    }

    #[test]
    fn an_empty_expression_matches_everything() {
        let filter = Filter::compile("  ").unwrap();
        assert_eq!(filter.matches(&Decoded::default(), &[], Gso::default()), Some(true));
    }
}
