//! What makes a packet the same packet at the next hop.
//!
//! All hashes are SipHash-1-3 under a key that is drawn per capture: whoever sends the packets cannot aim at
//! collisions, and a hash reveals no payload to those without the key. The short fixed inputs (at most 48 bytes)
//! keep its cost near that of an unkeyed hash.

use siphasher::sip::SipHasher13;

use crate::decoded::{Decoded, Embedded, Icmp, Opaque, Sctp, Transport};
use crate::observation::{FlowKey, Observation, marks, protocol, tcp_flags};

/// Payload bytes that enter a transport hash.
pub const HASHED_BYTES: usize = 32;
/// What separates a datagram's key from a packet's.
const DATAGRAM: u64 = 1 << 63;

/// The secret of one capture, shared by its agents and the coordinator.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct IdentityKey(pub [u8; 16]);

impl std::fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdentityKey(..)")
    }
}

impl IdentityKey {
    /// The keyed hash of `bytes`.
    #[inline]
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        SipHasher13::new_with_key(&self.0).hash(bytes)
    }

    /// The keyed hash of `words` in little-endian order.
    #[inline]
    pub(crate) fn hash_words<const N: usize>(&self, words: [u64; N]) -> u64 {
        self.hash(words.map(u64::to_le_bytes).as_flattened())
    }
}

/// The NAT-invariant key of a whole observation, taken as one segment. For super-packets see [`crate::segments`].
#[inline]
pub fn k0(key: &IdentityKey, flow: &FlowKey, row: &Observation) -> u64 {
    k0_of(key, flow.protocol, row)
}

#[inline]
pub(crate) fn k0_of(key: &IdentityKey, protocol: u8, row: &Observation) -> u64 {
    if is_fragment(row) { datagram_key(key, protocol, row.ip_id) } else { packet_key(key, protocol, row) }
}

/// The key that every fragment of a datagram has, whatever hop split it. A whole packet has one too: where a
/// neighbouring hop saw fragments, both sides meet under this key and are compared by byte coverage.
#[inline]
pub fn datagram_key(key: &IdentityKey, protocol: u8, ip_id: u16) -> u64 {
    key.hash_words([DATAGRAM | u64::from(protocol) | u64::from(ip_id) << 16])
}

/// True for every fragment of a datagram, the first included.
#[inline]
pub fn is_fragment(row: &Observation) -> bool {
    row.is_fragment()
}

/// The key of a packet that is no fragment. TCP is told apart by its header; FIN, PSH and CWR are left out because
/// segmentation moves them. Everything else by the hash the agent took.
#[inline]
fn packet_key(key: &IdentityKey, protocol: u8, row: &Observation) -> u64 {
    let ip_id = if row.marks & marks::IPV4 == 0 { 0 } else { row.ip_id };
    let common = u64::from(protocol) | u64::from(ip_id) << 16 | u64::from(row.payload_length) << 32;
    if protocol != protocol::TCP {
        return key.hash_words([common, row.transport_hash]);
    }
    let flags = u64::from(row.tcp_flags & (tcp_flags::SYN | tcp_flags::RST)) << 8;
    let numbers = u64::from(row.tcp_seq) | u64::from(row.tcp_ack) << 32;
    let timestamps = u64::from(row.ts_value) | u64::from(row.ts_echo) << 32;
    key.hash_words([common | flags, numbers, timestamps])
}

/// A hash and whether the snap length cut what it should cover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransportHash {
    /// The keyed hash.
    pub value: u64,
    /// Fewer bytes were captured than the hash covers.
    pub truncated: bool,
}

/// The hash that tells packets without sequence numbers apart: of at most 32 payload bytes and of the header fields
/// that address translation leaves alone. TCP and fragments without a transport header have none.
#[inline]
pub fn transport_hash(key: &IdentityKey, decoded: &Decoded, frame: &[u8]) -> TransportHash {
    let later_fragment = decoded.network.is_none_or(|network| network.fragment_offset != 0);
    match &decoded.transport {
        Transport::Tcp(_) => TransportHash::default(),
        Transport::None if later_fragment => TransportHash::default(),
        transport => {
            let payload = decoded.payload.of(frame);
            header_and_payload(key, transport, payload, decoded.payload.length as usize)
        }
    }
}

/// The hash of a datagram's payload: exactly its first 32 bytes, or all of a shorter one. `length` is the payload's
/// on the wire, in bytes.
#[inline]
pub(crate) fn datagram_hash(key: &IdentityKey, captured: &[u8], length: usize) -> TransportHash {
    let wanted = length.min(HASHED_BYTES);
    let bytes = &captured[..captured.len().min(wanted)];
    TransportHash { value: key.hash(bytes), truncated: bytes.len() < wanted }
}

#[inline]
fn header_and_payload(
    key: &IdentityKey,
    transport: &Transport,
    payload: &[u8],
    length: usize,
) -> TransportHash {
    let mut input = Input::default();
    match transport {
        Transport::None | Transport::Udp(_) | Transport::Tcp(_) => {
            return datagram_hash(key, payload, length);
        }
        Transport::Icmp(Icmp { embedded: Some(quote), kind, code, .. }) => {
            input.put(&[*kind, *code]);
            input.put_quote(quote);
            return TransportHash { value: key.hash(input.bytes()), truncated: false };
        }
        Transport::Icmp(icmp) if icmp.is_echo => {
            input.put(&[icmp.kind]);
            input.put(&icmp.seq.to_be_bytes());
        }
        Transport::Icmp(icmp) => input.put(&[icmp.kind, icmp.code]),
        Transport::Sctp(Sctp { verification_tag, .. }) => input.put(&verification_tag.to_be_bytes()),
        Transport::Opaque(Opaque { index, sequence, .. }) => {
            return opaque_hash(key, *index, *sequence, payload, length);
        }
    }
    input.finish(key, payload, length)
}

/// The hash of an encrypted message: index, sequence number and the first 32 bytes of ciphertext.
#[inline]
pub(crate) fn opaque_hash(
    key: &IdentityKey,
    index: u32,
    sequence: u64,
    ciphertext: &[u8],
    length: usize,
) -> TransportHash {
    let mut input = Input::default();
    input.put(&index.to_be_bytes());
    input.put(&sequence.to_be_bytes());
    input.finish(key, ciphertext, length)
}

/// A short hash input on the stack.
struct Input {
    bytes: [u8; 48],
    length: usize,
}

impl Default for Input {
    fn default() -> Self {
        Self { bytes: [0; 48], length: 0 }
    }
}

impl Input {
    /// The hash of what was put and the first 32 of a payload of `length` bytes.
    #[inline]
    fn finish(mut self, key: &IdentityKey, captured: &[u8], length: usize) -> TransportHash {
        let wanted = length.min(HASHED_BYTES);
        let bytes = &captured[..captured.len().min(wanted)];
        self.put(bytes);
        TransportHash { value: key.hash(self.bytes()), truncated: bytes.len() < wanted }
    }

    /// Appends at most what is free; every caller stays below 48 bytes.
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        let free = &mut self.bytes[self.length..];
        let count = bytes.len().min(free.len());
        free[..count].copy_from_slice(&bytes[..count]);
        self.length += count;
    }

    /// What translation leaves alone in a quoted packet: not addresses, ports, echo identifiers nor checksums. Of the
    /// eight transport bytes these are the sequence number (TCP), the length (UDP), the type, code and sequence
    /// (ICMP) and the verification tag (SCTP).
    fn put_quote(&mut self, quote: &Embedded) {
        self.put(&[quote.protocol]);
        self.put(&quote.ip_id.to_be_bytes());
        self.put(&quote.total_length.to_be_bytes());
        let bytes = &quote.transport;
        match quote.protocol {
            _ if quote.transport_length < 8 => {}
            protocol::TCP | protocol::SCTP => self.put(&bytes[4..8]),
            protocol::UDP => self.put(&bytes[4..6]),
            protocol::ICMP | protocol::ICMPV6 => {
                self.put(&bytes[0..2]);
                self.put(&bytes[6..8]);
            }
            _ => {}
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}
