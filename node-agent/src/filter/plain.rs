//! IPv6 packets as programs can read them: libpcap's look for ports right behind the fixed header (RFC 8200 §4), and
//! find none where a fragment header stands between.

use lastseen_packet::Network;

/// Bytes of a packet that are shown.
pub(crate) const SHOWN_BYTES: usize = 2_048;
const HEADER: usize = 40;
const NEXT_HEADER: usize = 6;

/// The packet that starts with its IP header, without extension headers, and the length of its header. Those that have
/// none are not copied.
#[inline]
pub(crate) fn plain<'p>(
    network: &Network,
    ip: &'p [u8],
    buffer: &'p mut [u8; SHOWN_BYTES],
) -> (&'p [u8], usize) {
    let length = usize::from(network.header_length);
    if !network.source.is_ipv6() || length <= HEADER {
        return (ip, length);
    }
    let (Some(header), Some(rest)) = (ip.get(..HEADER), ip.get(length..)) else { return (ip, length) };
    let rest = &rest[..rest.len().min(SHOWN_BYTES - HEADER)];
    buffer[..HEADER].copy_from_slice(header);
    buffer[NEXT_HEADER] = network.protocol;
    buffer[HEADER..HEADER + rest.len()].copy_from_slice(rest);
    (&buffer[..HEADER + rest.len()], HEADER)
}
