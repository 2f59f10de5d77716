//! Runs that have no room in memory for what was observed.
#![allow(missing_docs)]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::lab::*;
use crate::worlds::*;
use lastseen_correlate::{Ablation, BatchError, Correlator, Outcome, Scratch, ScratchError};
use proptest::collection::vec;
use proptest::prelude::*;

fn unnamed() -> File {
    tempfile::tempfile().unwrap()
}

fn within(lab: &Lab, bytes: usize, rows: usize, without: Option<Ablation>) -> Outcome {
    let mut correlator = Correlator::new(lab.job.clone()).unwrap().within(bytes, Box::new(unnamed()));
    if let Some(idea) = without {
        correlator = correlator.without(idea);
    }
    feed(correlator, lab.batches_of(rows))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_run_says_the_same_with_any_room(
        packets in vec((kind(), 0..60_u32, -900..13_900_i64, mask(), mask(), any::<bool>()), 1..100),
        world in world(),
        bytes in 0..8192_usize,
        rows in 1..50_usize,
    ) {
        let lab = lab_of(&packets, world);
        let correlator = || Correlator::new(lab.job.clone()).unwrap();
        let held = format!("{:?}", selected(correlator(), &lab, rows, world));
        let with_scratch = correlator().within(bytes, Box::new(unnamed()));
        prop_assert_eq!(format!("{:?}", selected(with_scratch, &lab, rows, world)), held);
    }
}

/// Two hundred packets of a kind each way, of which some lose their second half between the nodes and some all.
fn traffic(kinds: &[Kind]) -> Vec<Sent> {
    let mut packets = Vec::new();
    for id in 0..200 {
        for (&kind, of_kind) in kinds.iter().zip(0..) {
            let (first, second) = match id % 20 {
                3 => (ALL, up_to(4)),
                7 => (up_to(4), up_to(4)),
                _ => (ALL, ALL),
            };
            let millis = i64::from(id) * 20 + of_kind;
            packets.push((kind, id * 2, millis, first, second, false));
            if !matches!(kind, Kind::Translated | Kind::Merged) {
                packets.push((kind, 1000 + id, millis, ALL, ALL, true));
            }
        }
    }
    packets
}

/// What is found within next to no memory and, the same, with all there is.
fn found(kinds: &[Kind], world: World) -> Outcome {
    let lab = lab_of(&traffic(kinds), world);
    let held = run(lab.job.clone(), lab.batches());
    for bytes in [0, 3_000, 40_000] {
        assert_eq!(format!("{:?}", within(&lab, bytes, 64, None)), format!("{held:?}"));
    }
    held
}

fn is_noted(outcome: &Outcome, text: &str) -> bool {
    outcome.report.notes.iter().any(|note| note.contains(text))
}

#[test]
fn fragments_are_put_together_without_room() {
    for kind in [Kind::Inner, Kind::Outer] {
        let outcome = found(&[kind, Kind::Udp], PLAIN);
        assert!(is_noted(&outcome, "did not come with all of their fragments"), "{:?}", outcome.report.notes);
        assert!(outcome.report.totals.lost >= 20, "{kind:?} {:?}", outcome.report.totals);
    }
}

/// Two hundred super-packets of three segments, of which some come to be two, and some none.
#[test]
fn segments_are_selected_without_room() {
    for intervals in [[3, 3], [2, 4]] {
        let world = World { intervals, drops: 7, ..PLAIN };
        let lab = lab_of(&traffic(&[Kind::Super, Kind::Udp, Kind::Inner]), world);
        let correlator = || Correlator::new(lab.job.clone()).unwrap();
        let held = selected(correlator(), &lab, 64, world);
        assert_eq!(held.report.sampling.map(|one| one.interval), Some(intervals[1]));
        assert!(
            held.report.totals.segments > 100 && held.report.totals.lost > 10,
            "{:?}",
            held.report.totals
        );
        for bytes in [0, 3_000, 40_000] {
            let within = correlator().within(bytes, Box::new(unnamed()));
            assert_eq!(format!("{:?}", selected(within, &lab, 64, world)), format!("{held:?}"));
        }
    }
}

#[test]
fn bytes_are_matched_without_room() {
    let outcome = found(&[Kind::Merged], World { gso_known: false, ..PLAIN });
    assert_sums(&outcome);
    assert_eq!((outcome.report.totals.segments, outcome.report.totals.lost), (400, 10 + 20));
    assert!(!is_noted(&outcome, "segment sizes"), "{:?}", outcome.report.notes);
}

#[test]
fn bytes_are_matched_where_all_were_in_memory_but_what_is_cut_is_not() {
    let lab = lab_of(&traffic(&[Kind::Merged]), World { gso_known: false, ..PLAIN });
    let held = run(lab.job.clone(), lab.batches());
    let rows: usize = lab.batches().iter().map(|(_, _, columns)| columns.len()).sum();
    // Collected, they fill half of it: none is put away before they are cut.
    let bytes = rows * 32 * 2;
    assert_eq!(format!("{:?}", within(&lab, bytes, 64, None)), format!("{held:?}"));
    assert_eq!(format!("{:?}", within(&lab, bytes / 2, 64, None)), format!("{held:?}"));
}

#[test]
fn clocks_are_corrected_once_without_room() {
    for gso_known in [true, false] {
        let world = World { ahead_nanos: 300 * MILLI, gso_known, ..PLAIN };
        let outcome = found(&[Kind::Tcp, Kind::Merged], world);
        assert!(is_noted(&outcome, "b: its clock is 0."), "{:?}", outcome.report.notes);
        let crossing = outcome.report.paths.iter().filter_map(|path| path.hops[4].delay_p50_nanos);
        assert!(crossing.clone().count() > 0 && crossing.clone().all(|nanos| (0..MILLI).contains(&nanos)));
    }
}

#[test]
fn translations_are_found_without_room() {
    let outcome = found(&[Kind::Translated], PLAIN);
    assert_eq!(outcome.report.paths.len(), 1);
    assert_eq!(outcome.report.paths[0].translations.len(), 1, "{:#?}", outcome.report.paths);
}

#[test]
fn the_order_of_points_is_inferred_without_room() {
    let outcome = found(&[Kind::Udp, Kind::Tcp], World { is_unmapped: true, ..PLAIN });
    assert!(outcome.report.paths.iter().all(|path| path.hops.len() > 2), "{:#?}", outcome.report.paths);
    assert!(outcome.report.totals.lost > 0);
}

#[test]
fn a_large_run_says_the_same_on_all_cores() {
    let kinds = [Kind::Udp, Kind::Tcp];
    let packets: Vec<Sent> = (0..20_000_u32)
        .map(|id| {
            let mask = if id % 97 == 0 { up_to(4) } else { ALL };
            (kinds[id as usize % 2], id, i64::from(id) / 3, mask, mask, id % 5 == 0)
        })
        .collect();
    for gso_known in [true, false] {
        let lab = lab_of(&packets, World { gso_known, ..PLAIN });
        let held = run(lab.job.clone(), lab.batches());
        assert!(held.report.totals.lost > 0);
        for bytes in [64 << 10, 1 << 20] {
            assert_eq!(format!("{:?}", within(&lab, bytes, 4096, None)), format!("{held:?}"));
        }
    }
}

#[test]
fn a_set_is_a_set_without_room() {
    let packets: Vec<Sent> = (0..100).map(|at| (Kind::Udp, at % 7, i64::from(at), ALL, ALL, false)).collect();
    let lab = lab_of(&packets, PLAIN);
    assert_eq!(within(&lab, 100, 9, Some(Ablation::Multiset)).report.totals.segments, 7);
}

/// Takes so many writes, then is full.
#[derive(Debug)]
struct Full(File, AtomicU64);

impl Scratch for Full {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let is_left =
            self.1.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        if is_left { self.0.write_all_at(bytes, offset) } else { Err(io::ErrorKind::StorageFull.into()) }
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(bytes, offset)
    }
}

/// Why a run fails whose scratch space takes so many writes, and whether it did while observations were added.
fn failed(lab: &Lab, writes: u64) -> Option<(ScratchError, bool)> {
    let full = Full(unnamed(), writes.into());
    let mut correlator = Correlator::new(lab.job.clone()).unwrap().within(1000, Box::new(full));
    for (point, slice, columns) in lab.batches_of(10) {
        match correlator.add(point, slice, 0, &columns) {
            Err(BatchError::Scratch(error)) => return Some((error, true)),
            added => added.unwrap(),
        }
    }
    correlator.finish().err().map(|error| (error, false))
}

#[test]
fn scratch_space_that_fills_up_ends_the_run_with_its_reason() {
    let world = World { gso_known: false, ..PLAIN };
    let lab = lab_of(&traffic(&[Kind::Merged, Kind::Outer])[..120], world);
    let (mut while_adding, mut at_the_end, mut writes) = (0, 0, 0);
    while let Some((error, is_added)) = failed(&lab, writes) {
        assert!(
            error.to_string().starts_with("cannot write ") && error.reason.contains("storage"),
            "{error}"
        );
        (while_adding, at_the_end) =
            if is_added { (while_adding + 1, at_the_end) } else { (while_adding, at_the_end + 1) };
        writes += 7;
    }
    assert!(while_adding > 0 && at_the_end > 10, "{while_adding} {at_the_end}");
}
