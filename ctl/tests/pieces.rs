//! `diff-files` on TCP super-packets of which no file tells the segments: what is counted are pieces.

#![allow(clippy::disallowed_methods, reason = "the program under test is started")]

use crate::wire;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::wire::{START, Stamped};
use serde_json::Value;
use tempfile::TempDir;

const SEGMENTS: u32 = 4_000;
/// Payload of each.
const SEGMENT: u32 = 1_384;
/// Microseconds from one to the next.
const APART: i64 = 1_000;

fn is_lost(segment: u32) -> bool {
    random(segment).is_multiple_of(50)
}

/// The finalizer of `SplitMix64`.
fn random(seed: u32) -> u64 {
    let mut mixed = (u64::from(seed) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// First segment and number of each super-packet of what arrives of `segments`, none longer than `most`.
fn merged(most: u64, seed: u32, arrives: impl Fn(u32) -> bool) -> Vec<(u32, u32)> {
    let (mut packets, mut room): (Vec<(u32, u32)>, u64) = (Vec::new(), 0);
    for segment in (0..SEGMENTS).filter(|segment| arrives(*segment)) {
        match packets.last_mut() {
            Some((first, count)) if *first + *count == segment && u64::from(*count) < room => *count += 1,
            _ => {
                room = 1 + random(segment ^ seed) % most;
                packets.push((segment, 1));
            }
        }
    }
    packets
}

fn frame(is_ipv6: bool, ttl: u8, is_back: bool, seq: u32, length: u32) -> Vec<u8> {
    let (ports, ends) = if is_back { ([80_u16, 40_000], [2, 1]) } else { ([40_000, 80], [1, 2]) };
    let tcp = [
        &ports.map(u16::to_be_bytes).concat()[..],
        &[seq, 1].map(u32::to_be_bytes).concat(),
        &[0x50, 0x10, 1, 0, 0, 0, 0, 0],
        &vec![7; length as usize],
    ];
    let tcp = tcp.concat();
    let (kind, header): ([u8; 2], Vec<u8>) = if is_ipv6 {
        let length = (tcp.len() as u16).to_be_bytes();
        let address = |end: u8| [&[0xfd, 0, 0, 0, 0, 0, 0, end][..], &[0; 7], &[1]].concat();
        let fixed = [0x60, 0, 0, 0, length[0], length[1], 6, ttl];
        ([0x86, 0xdd], [&fixed[..], &address(ends[0]), &address(ends[1])].concat())
    } else {
        let length = (20 + tcp.len() as u16).to_be_bytes();
        let fixed = [0x45, 0, length[0], length[1], 0, 0, 0x40, 0, ttl, 6, 0, 0];
        ([8, 0], [&fixed[..], &[10, 244, ends[0], 10], &[10, 244, ends[1], 10]].concat())
    };
    [&[2, 0, 0, 0, 2, 1, 2, 0, 0, 0, 1, 1][..], &kind, &header, &tcp].concat()
}

/// The frames of a point that stamps what comes, and what goes back, so much later than it was sent. Nothing that goes
/// back acknowledges, which would prove that what is lost arrived.
fn frames(is_ipv6: bool, packets: &[(u32, u32)], ttls: [u8; 2], delays: [i64; 2]) -> Vec<Stamped> {
    let time = |segment: u32| START + i64::from(segment) * APART * 1_000;
    let there = packets.iter().map(|&(first, count)| {
        let data = frame(is_ipv6, ttls[0], false, first * SEGMENT, count * SEGMENT);
        // A super-packet is sent when its first segment is and comes when its last one has.
        let segment = if delays[0] == 0 { first } else { first + count - 1 };
        (time(segment) + delays[0], data)
    });
    let back = (0..SEGMENTS / 20)
        .map(|at| (time(at * 20) + delays[1], frame(is_ipv6, ttls[1], true, at * 20 * SEGMENT, 0)));
    let mut frames: Vec<_> = there.chain(back).collect();
    frames.sort_by_key(|frame| frame.0);
    frames
}

fn write(dir: &Path, is_ipv6: bool) -> Vec<String> {
    let sent = merged(44, 1, |_| true);
    let came = merged(30, 2, |segment| !is_lost(segment));
    let points = [
        ("a", frames(is_ipv6, &sent, [64, 62], [0, 900_000])),
        ("b", frames(is_ipv6, &came, [62, 64], [400_000, 500_000])),
    ];
    let write = |(node, frames): (&str, Vec<Stamped>)| {
        let file = dir.join(format!("{node}.pcap"));
        fs::write(&file, wire::pcap(&frames)).unwrap();
        format!("{node}/veth={}", file.display())
    };
    points.into_iter().map(write).collect()
}

fn diff(files: &[String], more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ctl")).arg("diff-files").args(files).args(more).output().unwrap()
}

#[test]
fn pieces_have_no_lengths_and_their_share_is_one_of_bytes() {
    let dir = TempDir::new().unwrap();
    for is_ipv6 in [false, true] {
        let files = write(dir.path(), is_ipv6);
        let output = diff(&files, &["-o", "json"]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let path = &report["paths"][0];
        let [loss] = &path["losses"].as_array().unwrap()[..] else { panic!("not one loss: {report:#}") };
        assert_ne!(loss["pattern"]["kind"], "size", "{report:#}");
        let bytes = |name: &str| path["inPieces"][name].as_str().unwrap().parse::<f64>().unwrap();
        let share = bytes("lost") / bytes("total");
        assert!((0.01..0.03).contains(&share), "{share}: {report:#}");
        let text = String::from_utf8(diff(&files, &["-o", "wide"]).stdout).unwrap();
        for expected in [
            "TCP between a veth and b veth is counted in pieces, not segments (segment size unknown): capture at the \
             underlay interface too",
            "% of the bytes)",
            "pieces   lost after",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in {text}");
        }
        assert_eq!(text.contains("  ip-id 0  "), !is_ipv6, "{text}");
        let foreign = text.split("ip-id ").skip(1).filter(|rest| !rest.starts_with("0 "));
        assert_eq!(foreign.count(), 0, "no packet had another identification: {text}");
        assert_eq!(output.status.code(), Some(1));
        for (threshold, code) in [("5%", 0), ("1%", 1)] {
            assert_eq!(
                diff(&files, &["--min-loss", threshold]).status.code(),
                Some(code),
                "{threshold}: {text}"
            );
            let junit = diff(&files, &["--min-loss", threshold, "-o", "junit"]);
            let failures = String::from_utf8(junit.stdout).unwrap().matches("<failure ").count();
            assert_eq!(failures, usize::from(code == 1), "{threshold}");
        }
    }
}
