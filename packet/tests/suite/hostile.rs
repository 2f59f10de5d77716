//! Arbitrary bytes and damaged packets: a typed error or a decoded packet, never a panic, never a claim beyond the
//! frame.

use lastseen_packet::observation::gso;
use lastseen_packet::{Capture, DecodeConfig, Decoded, Gso, LinkType, decode, observe, segments};
use proptest::prelude::*;

use crate::frames::KEY;
use crate::layers::every_kind;

const LINK_TYPES: [LinkType; 9] = [
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

/// Takes a frame through everything and checks what must hold for any input.
fn digest(link: LinkType, frame: &[u8], original_length: u32, gso: Gso) {
    let mut out = Decoded::default();
    let result = decode(&DecodeConfig::default(), link, frame, original_length, &mut out);
    if let Err(error) = result {
        assert!(error.offset as usize <= frame.len(), "{error}");
    }
    let payload = out.payload;
    assert!(payload.offset as usize + payload.captured as usize <= frame.len(), "{payload:?}");
    assert!(
        payload.length <= out.original_length
            || out.encapsulations().iter().any(|t| t.carrier.more_fragments)
    );
    assert!(out.inner_frame_offset <= payload.offset, "{out:?}");
    let mut rows = 0;
    let mut expanded = 0;
    let _ = observe(&out, frame, Capture { time_nanos: 0, gso }, &KEY, &mut |flow, row| {
        rows += 1;
        expanded += segments(flow, &row, &KEY).count();
    });
    assert!(
        rows <= lastseen_packet::MAX_SEGMENTS as usize && expanded <= lastseen_packet::MAX_SEGMENTS as usize
    );
}

fn any_gso() -> impl Strategy<Value = Gso> {
    let kinds = vec![gso::NONE, gso::TCPV4, gso::TCPV6, gso::UDP_L4, gso::UNKNOWN, 0x81, 0xff];
    (prop::sample::select(kinds), any::<u16>()).prop_map(|(kind, size)| Gso { kind, size })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn arbitrary_bytes_of_every_link_type(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        beyond in prop::sample::select(vec![0_u32, 1, 1500, 70_000, u32::MAX]),
        gso in any_gso(),
    ) {
        let original_length = beyond.saturating_add(bytes.len() as u32);
        for link in LINK_TYPES {
            digest(link, &bytes, original_length, gso);
        }
    }

    #[test]
    fn packets_with_a_few_bytes_changed(
        kind in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        gso in any_gso(),
    ) {
        let kinds = every_kind();
        let mut frame = kind.get(&kinds).1.clone();
        let original_length = frame.len() as u32;
        for (at, value) in changes {
            let at = at.index(frame.len());
            frame[at] = value;
        }
        digest(LinkType::Ethernet, &frame, original_length, gso);
        digest(LinkType::Ethernet, &frame[..cut.index(frame.len())], original_length, gso);
    }
}

#[test]
fn every_value_of_every_byte_of_every_kind_of_packet() {
    for (_, frame) in every_kind() {
        let mut changed = frame.clone();
        for at in 0..frame.len() {
            for value in 0..=255 {
                changed[at] = value;
                digest(LinkType::Ethernet, &changed, frame.len() as u32, Gso { kind: gso::UDP_L4, size: 8 });
            }
            changed[at] = frame[at];
        }
    }
}
