//! `diff-files` on clocks that are apart or set, and on files of different times.

use crate::wire;
use std::fs;

use crate::diff::{diff, hit, losses, notes, number, report, unsure, with_topology};
use crate::wire::{Fault, PACKETS, SECOND, START, Wire};
use tempfile::TempDir;

#[test]
fn clocks_seconds_apart_are_compared_by_the_packets() {
    let dir = TempDir::new().unwrap();
    let fault = Fault { every: 5, after: 2 };
    for ahead_nanos in [17 * SECOND, -90 * SECOND, SECOND / 2] {
        let files = Wire { fault: Some(fault), ahead_nanos, ..Wire::default() }.write(dir.path());
        for arguments in [with_topology(files.clone(), dir.path()), files] {
            let (report, code) = report(&arguments);
            let expected = vec![("a/eth0".to_owned(), "b/eth0".to_owned(), hit(fault))];
            assert_eq!((losses(&report), code), (expected, 1), "{ahead_nanos}: {report:#}");
            let b = &report["nodes"].as_array().unwrap()[1];
            let offset: i64 = b["clockOffsetNanos"].as_str().unwrap().parse().unwrap();
            assert!((offset - ahead_nanos).abs() < 1_000_000, "{b:#}");
        }
    }
}

#[test]
fn nodes_that_saw_no_common_packet_are_not_compared() {
    let dir = TempDir::new().unwrap();
    let fault = Fault { every: 1, after: 2 };
    let wire = Wire { fault: Some(fault), is_one_way: true, ..Wire::default() };
    let mut files = wire.write(dir.path());
    let other = dir.path().join("other.pcap");
    let unrelated = Wire { is_one_way: true, ahead_nanos: 0, fault: None };
    let frames: Vec<_> = unrelated.frames()[&("b", "veth")]
        .iter()
        .map(|(time, frame)| {
            let mut frame = frame.clone();
            frame[18] ^= 0x80;
            (*time, frame)
        })
        .collect();
    fs::write(&other, wire::pcap(&frames)).unwrap();
    files.push(format!("b/veth={}", other.display()));
    unsure(&with_topology(files.clone(), dir.path()), "its clock cannot be compared");
    unsure(&files, "its clock cannot be compared");
}

/// The files of `a` hold the first half of the packets and those of `b` the second, by a clock that is as much behind:
/// their stamps overlap, and nothing was lost.
#[test]
fn nodes_that_captured_at_different_times_do_not_testify_about_each_other() {
    let dir = TempDir::new().unwrap();
    let half = START + i64::from(PACKETS / 2) * 20_000_000;
    let mut files = Vec::new();
    for ((node, interface), frames) in Wire::default().frames() {
        let is_of = |time: i64| (time < half) == (node == "a");
        let stamp = |time: i64| if node == "a" { time } else { time - (half - START) };
        let kept = frames.into_iter().filter(|(time, _)| is_of(*time));
        let frames: Vec<_> = kept.map(|(time, frame)| (stamp(time), frame)).collect();
        let file = dir.path().join(format!("half-{node}-{interface}.pcap"));
        fs::write(&file, wire::pcap(&frames)).unwrap();
        files.push(format!("{node}/{interface}={}", file.display()));
    }
    let turned: Vec<String> = files.iter().rev().cloned().collect();
    for (files, apart) in [(files, 'b'), (turned, 'a')] {
        for arguments in [with_topology(files.clone(), dir.path()), files] {
            let (report, code) = report(&arguments);
            assert_eq!((losses(&report), code), (Vec::new(), 3), "{arguments:?}\n{report:#}");
            let said = diff(&arguments).out;
            assert!(
                said.contains(&format!("{apart}: no packet in its files is in another node's too")),
                "{said}"
            );
            assert!(said.contains("clock error unknown"), "{said}");
        }
    }
}

#[test]
fn files_of_other_times_are_said_to_be() {
    let dir = TempDir::new().unwrap();
    let half = START + i64::from(PACKETS / 2) * 20_000_000;
    let file = |(node, interface): (&'static str, &'static str)| {
        let frames = Wire::default().frames().remove(&(node, interface)).unwrap();
        let kept: Vec<_> = frames.into_iter().filter(|(time, _)| (*time < half) == (node == "a")).collect();
        let file = dir.path().join(format!("other-{node}-{interface}.pcap"));
        fs::write(&file, wire::pcap(&kept)).unwrap();
        format!("{node}/{interface}={}", file.display())
    };
    let files = [("a", "eth0"), ("b", "eth0")].map(file);
    unsure(&files, "by their stamps its files do not overlap with those of a: 2023-11-14T22:13:23.");
    let said = diff(&files).out;
    assert!(said.contains(" – 2023-11-14T22:13:22."), "{said}");
    assert!(said.contains("of 1 of 2 files") && !said.contains("captured at one point only"), "{said}");
}

#[test]
fn a_stray_packet_hours_before_the_others_of_a_file_does_not_stretch_the_window() {
    let dir = TempDir::new().unwrap();
    let fault = Fault { every: 7, after: 2 };
    let wire = Wire { fault: Some(fault), ..Wire::default() };
    let frames = wire.frames();
    let nic = |node: &'static str, frames: &[wire::Stamped]| {
        let file = dir.path().join(format!("stray-{node}.pcap"));
        fs::write(&file, wire::pcap(frames)).unwrap();
        format!("{node}/eth0={}", file.display())
    };
    let (a, b) = (&frames[&("a", "eth0")], nic("b", &frames[&("b", "eth0")]));
    let mut stray = a[0].clone();
    stray.1[14 + 20 + 8 + 8 + 14 + 18] ^= 0x40;
    let at = |time: i64| (time, stray.1.clone());
    let strays = |before: &[wire::Stamped], after: &[wire::Stamped]| {
        with_topology(vec![nic("a", &[before, a, after].concat()), b.clone()], dir.path())
    };
    let early = [at(START - 7_200 * SECOND)];
    let late = [at(START + 7_200 * SECOND)];
    let expected = vec![("a/eth0".to_owned(), "b/eth0".to_owned(), hit(fault))];
    for (before, after, said) in [
        (&early[..], &[][..], "a/eth0: its first packet is "),
        (&[], &late, "a/eth0: its last packet is "),
        (&early, &late, "the window leaves that out"),
    ] {
        let (report, code) = report(&strays(before, after));
        assert_eq!((losses(&report), code), (expected.clone(), 1), "{report:#}");
        assert!(
            notes(&report).contains(said) && notes(&report).contains("that 2 files overlap"),
            "{report:#}"
        );
        assert_eq!(number(&report["totals"]["notObservable"]), 0, "{report:#}");
    }
}

/// Nothing was lost, and the clock of one node or of one file of it is set in the middle.
#[test]
fn a_clock_that_is_set_while_files_are_captured_makes_no_loss() {
    let dir = TempDir::new().unwrap();
    let half = START + i64::from(PACKETS / 2) * 20_000_000;
    for (stepped, nanos) in
        [("b/", 7 * SECOND), ("b/", -7 * SECOND), ("b/eth0", 7 * SECOND), ("a/", 7 * SECOND)]
    {
        let mut files = Vec::new();
        for ((node, interface), frames) in Wire::default().frames() {
            let name = format!("{node}/{interface}");
            let is_set = |time: i64| name.starts_with(stepped) && time >= half;
            let stamp = |time: i64| time + if is_set(time) { nanos } else { 0 };
            let frames: Vec<_> = frames.into_iter().map(|(time, frame)| (stamp(time), frame)).collect();
            let file = dir.path().join(format!("step-{node}-{interface}.pcap"));
            fs::write(&file, wire::pcap(&frames)).unwrap();
            files.push(format!("{name}={}", file.display()));
        }
        for arguments in [with_topology(files.clone(), dir.path()), files] {
            let (report, code) = report(&arguments);
            // The other file of the node may have seen all of them arrive.
            let is_open = code == 3 || code == 0 && stepped == "b/eth0";
            assert!(losses(&report).is_empty() && is_open, "{stepped} {nanos} {code}\n{report:#}");
            let said = diff(&arguments).out;
            let node = &stepped[..1];
            let by = if nanos > 0 { "7.00 s at 22:13:" } else { "-7.00 s at 22:13:" };
            assert!(said.contains(&format!("{node}: its clock steps by about {by}")), "{said}");
            assert!(said.contains("clock error unknown"), "{said}");
        }
    }
}

/// A quarter of a second costs no verdict, but is not called more exact than it is.
#[test]
fn a_small_step_is_an_error_of_the_clock() {
    let dir = TempDir::new().unwrap();
    let half = START + i64::from(PACKETS / 2) * 20_000_000;
    let fault = Some(Fault { every: 7, after: 2 });
    let files = |fault: Option<Fault>| {
        let frames = Wire { fault, ..Wire::default() }.frames().into_iter();
        let write = |((node, interface), frames): ((&str, &str), Vec<wire::Stamped>)| {
            let ahead = |time: i64| if node == "b" && time >= half { SECOND / 4 } else { 0 };
            let frames: Vec<_> =
                frames.into_iter().map(|(time, frame)| (time + ahead(time), frame)).collect();
            let file = dir.path().join(format!("small-{}-{node}-{interface}.pcap", fault.is_some()));
            fs::write(&file, wire::pcap(&frames)).unwrap();
            format!("{node}/{interface}={}", file.display())
        };
        frames.map(write).collect::<Vec<_>>()
    };
    for arguments in [files(None), with_topology(files(None), dir.path())] {
        let (found, code) = report(&arguments);
        assert_eq!((losses(&found), code), (Vec::new(), 0), "{found:#}");
        assert!(number(&found["nodes"][1]["clockErrorNanos"]) >= 240_000_000, "{found:#}");
        assert!(diff(&arguments).out.contains("b: its clock steps by about 250 ms at 22:13:2"), "{found:#}");
    }
    let (found, code) = report(&with_topology(files(fault), dir.path()));
    let legs: Vec<_> = losses(&found).into_iter().map(|(from, to, _)| (from, to)).collect();
    assert_eq!((legs, code), (vec![("a/eth0".to_owned(), "b/eth0".to_owned())], 1), "{found:#}");
}
