//! Filters that speak of the pods' packets: compiled in-process, matched against the innermost IP header.
//!
//! The program is compiled for packets that start with the IP header, and run from there, so one expression means
//! the same at a veth, behind VLAN tags and inside a tunnel. Terms about Ethernet, which differ from hop to hop, do
//! not compile for such packets.

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
        Ok(Self { program: Some(program.map_err(syntax)?) })
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
}
