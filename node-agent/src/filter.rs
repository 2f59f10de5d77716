//! Filters that speak of the pods' packets: compiled in-process, matched against the innermost IP header.
//!
//! The program is compiled for packets that start with the IP header, and run from there, so one expression means
//! the same at a veth, behind VLAN tags and inside a tunnel. Terms about Ethernet, which differ from hop to hop, do
//! not compile for such packets; terms about fields that routers and offloads change are refused.

mod per_hop;

use lastseen_packet::Decoded;
use pcap::{BpfProgram, Capture, Linktype};

/// Longest accepted expression in bytes.
const MAX_LENGTH: usize = 4096;
/// `DLT_RAW` of Linux: the version nibble tells IPv4 from IPv6.
const RAW: Linktype = Linktype(12);

/// An expression that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// Longer than any person writes.
    #[error("filter: {0} bytes long; the limit is {MAX_LENGTH}")]
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
        "filter: {expression:?} looks at {term}, which differs from hop to hop, so packets would seem lost; use \
         addresses, protocols and ports instead, for example: host 10.244.2.10 and tcp port 80"
    )]
    PerHop {
        /// What it looks at.
        term: &'static str,
        /// As given.
        expression: String,
    },
}

/// A compiled expression. Stays in the thread that compiled it.
pub struct Filter {
    program: Option<BpfProgram>,
}

impl Filter {
    /// Compiles `expression`, a pcap-filter(7); empty matches everything.
    pub fn compile(expression: &str) -> Result<Self, FilterError> {
        if expression.len() > MAX_LENGTH {
            return Err(FilterError::TooLong(expression.len()));
        }
        if expression.trim().is_empty() {
            return Ok(Self { program: None });
        }
        let program = Capture::dead(RAW).and_then(|handle| handle.compile(expression, true));
        let syntax = |error| FilterError::Syntax { reason: reason(error), expression: expression.to_owned() };
        let program = program.map_err(syntax)?;
        match per_hop::find(&program) {
            Some(term) => Err(FilterError::PerHop { term, expression: expression.to_owned() }),
            None => Ok(Self { program: Some(program) }),
        }
    }

    /// Whether the innermost packet of a decoded `frame` matches. Fragments but the first always do: they carry no
    /// ports, and leaving them out would show as a loss.
    #[inline]
    pub fn matches(&self, decoded: &Decoded, frame: &[u8]) -> bool {
        let Some(program) = &self.program else { return true };
        let Some(network) = &decoded.network else { return false };
        network.fragment_offset != 0
            || frame.get(network.offset as usize..).is_some_and(|ip| program.filter(ip))
    }
}

fn reason(error: pcap::Error) -> String {
    match error {
        pcap::Error::PcapError(text) => text,
        other => other.to_string(),
    }
}

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
    fn an_empty_expression_matches_everything() {
        assert!(Filter::compile("  ").unwrap().matches(&Decoded::default(), &[]));
    }

    #[test]
    fn terms_that_differ_from_hop_to_hop_are_refused_by_name() {
        let refused = [
            ("less 100", "packet length"),
            ("tcp and greater 1000", "packet length"),
            ("host 10.0.0.1 and len > 5", "packet length"),
            ("ip[8] < 5", "TTL"),
            ("udp port 53 and ip[8] == 64", "TTL"),
            ("ip6[7] = 3", "hop limit"),
            ("ip[1] = 0", "TOS"),
            ("ip[0:2] = 0x4500", "TOS"),
            ("ip6[0:4] = 0x60000000", "traffic class"),
            ("ip[10:2] = 1", "checksum"),
            ("ip[11] = 1", "checksum"),
            ("tcp[13] = 2", "TCP flags"),
            ("tcp[12:2] = 2", "TCP flags"),
            ("tcp[tcpflags] & tcp-push != 0", "TCP flags"),
            ("ip6[53] & 8 != 0", "TCP flags"),
        ];
        for (expression, term) in refused {
            let message = Filter::compile(expression).err().expect(expression).to_string();
            assert!(message.contains(term) && message.contains(expression), "{expression}: {message}");
        }
    }

    #[test]
    fn addresses_protocols_and_ports_are_accepted() {
        let accepted = [
            "host 10.1.0.2",
            "host fd00::1",
            "src host 10.1.0.2 and dst host 10.1.0.3",
            "net 10.1.0.0/16",
            "ip6 net fd00::/8",
            "net fd00:1:2:3::/64",
            "port 80",
            "tcp port 80 or udp port 53",
            "portrange 80-90",
            "ip6 and udp portrange 1000-2000",
            "tcp",
            "udp",
            "sctp",
            "icmp",
            "icmp6",
            "ip",
            "ip6",
            "ip proto 47",
            "ip6 proto 17",
            "not (host 10.1.0.2 and tcp port 22)",
            "(host 10.1.0.2 or host fd00::1) and (tcp port 80 or icmp or icmp6)",
            "icmp[icmptype] = 8",
            "ip broadcast or ip multicast",
            "ip[4:2] = 7",
        ];
        for expression in accepted {
            assert!(
                Filter::compile(expression).is_ok(),
                "{expression}: {:?}",
                Filter::compile(expression).err()
            );
        }
    }
}
