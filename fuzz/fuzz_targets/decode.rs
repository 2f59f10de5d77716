//! Arbitrary bytes through decode, observe and segment expansion.
//!
//! Four bytes choose the link type, the offload type and size, and how much longer the frame was on the wire; the rest
//! is the frame.

#![no_main]

mod common;
#[path = "../../packet/tests/suite/digest.rs"]
mod digest;

use common::planted;
use digest::{GSO_KINDS, LINK_TYPES, digest};
use lastseen_packet::{DecodeConfig, Decoded, Gso, Transport, decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&[link, kind, size, beyond], frame)) = data.split_first_chunk() else { return };
    let link = LINK_TYPES[usize::from(link) % LINK_TYPES.len()];
    let gso = Gso { kind: GSO_KINDS[usize::from(kind) % GSO_KINDS.len()], size: u16::from(size) * 23 };
    let original_length = frame.len() as u32 + u32::from(beyond) * 4099;
    digest(link, frame, original_length, gso);
    planted(|| {
        let mut out = Decoded::default();
        let _ = decode(&DecodeConfig::default(), link, frame, original_length, &mut out);
        out.encapsulations().len() > 1 && matches!(out.transport, Transport::Udp(_))
    });
});
