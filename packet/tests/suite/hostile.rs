//! Arbitrary bytes and damaged packets: a typed error or a decoded packet, never a panic, never a claim beyond the
//! frame.

use std::path::Path;

use lastseen_packet::observation::gso;
use lastseen_packet::{Gso, LinkType};
use proptest::prelude::*;

use crate::digest::{GSO_KINDS, LINK_TYPES, digest};
use crate::layers::every_kind;

fn any_gso() -> impl Strategy<Value = Gso> {
    (prop::sample::select(&GSO_KINDS[..]), any::<u16>()).prop_map(|(kind, size)| Gso { kind, size })
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

/// The fuzz target starts from the same packets: four bytes of choices (Ethernet, no offload, captured whole), then the
/// frame. `UPDATE_SEEDS=1` writes them.
#[test]
fn the_fuzz_corpus_begins_with_every_kind_of_packet() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/decode");
    for (name, frame) in every_kind() {
        let path = directory.join(name.replace(' ', "-"));
        let seed = [&[0; 4], &frame[..]].concat();
        if std::env::var_os("UPDATE_SEEDS").is_some() {
            std::fs::write(&path, &seed).expect("a writable corpus");
        }
        let found = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(found, seed, "{}: run with UPDATE_SEEDS=1 to write it anew", path.display());
    }
}
