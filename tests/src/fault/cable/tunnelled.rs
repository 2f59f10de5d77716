//! The few fields the box looks at, at the places where the lab's own frames have them: no options, no tags, IPv4.

use std::net::Ipv4Addr;

use crate::lab::plan::VXLAN_PORT;

/// Ethernet, IPv4, UDP and VXLAN headers around a frame of a pod.
const OUTER: usize = 14 + 20 + 8 + 8;
const ETHERNET: usize = 14;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Whether it is a frame in the overlay between two nodes.
pub(super) fn is_between(frame: &[u8], from: Ipv4Addr, to: Ipv4Addr) -> bool {
    frame.len() >= OUTER + ETHERNET + 20
        && frame[12..14] == [8, 0]
        && frame[23] == UDP
        && frame[26..30] == from.octets()
        && frame[30..34] == to.octets()
        && frame[36..38] == VXLAN_PORT.to_be_bytes()
}

/// Whether such a frame carries a UDP datagram of a pod.
pub(super) fn is_datagram(frame: &[u8]) -> bool {
    let ip = &frame[OUTER + ETHERNET..];
    ip[0] == 0x45 && ip[9] == UDP
}

/// A TCP segment with payload in such a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Data {
    /// Addresses and ports, as they are on the wire.
    pub(super) flow: [u8; 12],
    /// First sequence number.
    pub(super) seq: u32,
    /// Bytes of payload.
    pub(super) length: u32,
}

impl Data {
    /// Absent if the frame carries anything else.
    pub(super) fn of(frame: &[u8]) -> Option<Self> {
        let ip = frame.get(OUTER + ETHERNET..)?;
        let tcp = ip.get(20..).filter(|_| ip[0] == 0x45 && ip[9] == TCP)?;
        let mut flow = [0; 12];
        flow[..8].copy_from_slice(ip.get(12..20)?);
        flow[8..].copy_from_slice(tcp.get(..4)?);
        let seq = u32::from_be_bytes(tcp.get(4..8)?.try_into().ok()?);
        let headers = 20 + u32::from(tcp.get(12)? >> 4) * 4;
        let length = u32::from(u16::from_be_bytes([ip[2], ip[3]])).checked_sub(headers)?;
        (length > 0).then_some(Self { flow, seq, length })
    }
}
