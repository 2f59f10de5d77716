//! What must hold for any input. The fuzz target includes this file too.

use lastseen_packet::observation::gso;
use lastseen_packet::{Capture, DecodeConfig, Decoded, Gso, IdentityKey, LinkType, MAX_SEGMENTS, Transport};
use lastseen_packet::{decode, observe, segments};

pub(crate) const LINK_TYPES: [LinkType; 9] = [
    LinkType::Ethernet,
    LinkType::Raw,
    LinkType::Null,
    LinkType::Loop,
    LinkType::LinuxSll,
    LinkType::LinuxSll2,
    LinkType::Ipv4,
    LinkType::Ipv6,
    LinkType::Ppp,
];

pub(crate) const GSO_KINDS: [u8; 7] =
    [gso::NONE, gso::TCPV4, gso::TCPV6, gso::UDP_L4, gso::UNKNOWN, gso::TCPV4 | 0x80, gso::UDP_L4 | 0x40];

/// Takes a frame through everything.
pub(crate) fn digest(link: LinkType, frame: &[u8], original_length: u32, gso: Gso) {
    let mut out = Decoded::default();
    let result = decode(&DecodeConfig::default(), link, frame, original_length, &mut out);
    if let Err(error) = result {
        assert!(error.offset as usize <= frame.len(), "{error} in {} bytes", frame.len());
    }
    check_payload(frame, &out);
    check_rows(frame, &out, gso);
}

/// Nothing lies beyond the frame, except what the first fragment of a carrier announces.
fn check_payload(frame: &[u8], out: &Decoded) {
    let payload = out.payload;
    assert!(payload.offset as usize + payload.captured as usize <= frame.len(), "{payload:?}");
    assert!(out.inner_frame_offset <= payload.offset, "{out:?}");
    let is_fragmented = |network: &lastseen_packet::Network| network.is_fragment();
    let announced =
        out.encapsulations().iter().map(|tunnel| &tunnel.carrier).chain(&out.network).any(is_fragmented);
    assert!(announced || payload.offset + payload.length <= out.original_length, "{out:?}");
}

/// Rows and segments are bounded, and expansion neither makes nor loses payload.
fn check_rows(frame: &[u8], out: &Decoded, gso: Gso) {
    let key = IdentityKey(*b"fuzz and hostile");
    let (mut rows, mut carried, mut expanded) = (0, 0, 0);
    let observed = observe(out, frame, Capture { time_nanos: 0, gso }, &key, &mut |flow, row| {
        rows += 1;
        carried += u64::from(row.payload_length);
        let segments = segments(flow, &row, &key);
        assert!(segments.len() <= MAX_SEGMENTS as usize);
        expanded += segments.map(|segment| u64::from(segment.payload_length)).sum::<u64>();
    });
    assert_eq!(observed.is_err(), out.network.is_none());
    assert_eq!(rows == 0, observed.is_err());
    assert!(rows <= MAX_SEGMENTS);
    assert_eq!(carried, expanded);
    // Each datagram of an opaque super-packet has a header of its own, which the decoder counts for the first only.
    let hides_headers = matches!(out.transport, Transport::Opaque(_)) && rows > 1;
    let payload = u64::from(out.payload.length);
    assert!(observed.is_err() || carried == payload || (hides_headers && carried < payload));
}
