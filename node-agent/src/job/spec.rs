//! A capture job as the agent needs it.

use std::net::SocketAddr;

use lastseen_packet::Threshold;

/// How packets are captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Backend {
    /// `af_packet` where the kernel allows it, else `pcap`.
    #[default]
    Auto,
    /// Packet sockets with `TPACKET_V3` rings.
    #[value(name = "af_packet")]
    AfPacket,
    /// libpcap.
    Pcap,
}

/// What to capture.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Capture id.
    pub capture: String,
    /// pcap-filter(7) about the innermost packets; empty for all.
    pub filter: String,
    /// Interface names; empty for `auto`.
    pub interfaces: Vec<String>,
    /// Bytes kept of each packet.
    pub snap_length: u32,
    /// Ends the window after this many recorded packets.
    pub max_packets: Option<u64>,
    /// Ends the window after this many recorded bytes.
    pub max_bytes: Option<u64>,
    /// By what packets are selected.
    pub sampling: Threshold,
    /// Keys identity hashes; the same on every node.
    pub identity_key: [u8; 16],
    /// Keys the flow dictionaries; this process's own.
    pub dictionary_key: [u8; 16],
    /// W3C `traceparent` of the capture; empty, or of no use, where it is not traced.
    pub traceparent: String,
    /// Connections that are left out.
    pub own_endpoints: Vec<SocketAddr>,
}

impl Spec {
    /// Whether the agent chooses the interfaces.
    pub fn is_auto(&self) -> bool {
        self.interfaces.is_empty() || self.interfaces == ["auto"]
    }
}
