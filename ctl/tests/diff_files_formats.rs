//! `diff-files` on what other tools write: formats, byte orders, precisions, compression and snap lengths.

#![allow(clippy::disallowed_methods, reason = "the program under test and Wireshark's are started")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::wire::{Fault, SECOND, Stamped, Wire};
use serde_json::Value;
use tempfile::TempDir;

/// The report on files by point, and the exit code.
fn report(files: &[(&str, PathBuf)]) -> (Value, i32) {
    let arguments = files.iter().map(|(point, file)| format!("{point}={}", file.display()));
    let output = Command::new(env!("CARGO_BIN_EXE_ctl"))
        .arg("diff-files")
        .args(arguments)
        .args(["-o", "json"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    (
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}{error}")),
        output.status.code().unwrap(),
    )
}

/// What a tool of Wireshark's makes of `file`.
fn edited(file: &Path, arguments: &[&str], name: &str) -> PathBuf {
    let to = file.with_file_name(name);
    let output = Command::new("editcap").args(arguments).arg(file).arg(&to).output();
    let output = output.expect("editcap: install tshark, which brings wireshark-common");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    to
}

fn zipped(file: &Path) -> PathBuf {
    let to = file.with_extension("gz");
    let mut zip = flate2::write::GzEncoder::new(fs::File::create(&to).unwrap(), flate2::Compression::fast());
    zip.write_all(&fs::read(file).unwrap()).unwrap();
    zip.finish().unwrap();
    to
}

/// As a machine of the other byte order writes it, with stamps in `unit` nanoseconds.
fn big_endian(frames: &[Stamped], magic: u32, unit: i64) -> Vec<u8> {
    let mut bytes = [magic, 0x0002_0004, 0, 0, 262_144, 1].map(u32::to_be_bytes).concat();
    for (time, frame) in frames {
        let length = frame.len() as u32;
        let words = [(time / SECOND) as u32, (time % SECOND / unit) as u32, length, length];
        bytes.extend(words.map(u32::to_be_bytes).concat());
        bytes.extend(frame);
    }
    bytes
}

fn losses(report: &Value) -> Vec<(String, String)> {
    let name = |point: &Value| {
        format!("{}/{}", point["node"].as_str().unwrap(), point["interface"].as_str().unwrap())
    };
    let paths = report["paths"].as_array().unwrap().iter();
    let losses = paths.flat_map(|path| path["losses"].as_array().unwrap());
    losses
        .map(|loss| (format!("{} {}", name(&loss["from"]), name(&loss["to"])), loss["count"].to_string()))
        .collect()
}

/// Plain files of a run by point.
fn plain(dir: &Path, wire: &Wire) -> Vec<(&'static str, PathBuf)> {
    wire.write(dir);
    ["a/veth", "a/flannel.1", "a/eth0", "b/eth0", "b/flannel.1", "b/veth"]
        .map(|point| (point, dir.join(format!("{}.pcap", point.replace('/', "-")))))
        .to_vec()
}

#[test]
fn the_format_of_the_files_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let fault = Some(Fault { every: 7, after: 2 });
    let wire = Wire { fault, ahead_nanos: -41 * SECOND, ..Wire::default() };
    let plain = plain(dir.path(), &wire);
    let frames = wire.frames();
    let mut files = plain.clone();
    files[0].1 = edited(&plain[0].1, &["-F", "pcap"], "micro.pcap");
    files[1].1 = edited(&plain[1].1, &["-F", "pcapng", "-s", "192", "-a", "3:a comment"], "next.pcapng");
    files[2].1 = zipped(&edited(&plain[2].1, &["-F", "nsecpcap", "-s", "192"], "nano.pcap"));
    files[3].1 = zipped(&edited(&plain[3].1, &["-F", "pcapng"], "zipped.pcapng"));
    files[4].1 = dir.path().join("big-micro.pcap");
    fs::write(&files[4].1, big_endian(&frames[&("b", "flannel.1")], 0xa1b2_c3d4, 1_000)).unwrap();
    files[5].1 = dir.path().join("big-nano.pcap");
    fs::write(&files[5].1, big_endian(&frames[&("b", "veth")], 0xa1b2_3c4d, 1)).unwrap();
    let (expected, code) = report(&plain);
    let (found, same) = report(&files);
    assert!(!losses(&expected).is_empty(), "{expected:#}");
    assert_eq!((losses(&found), same), (losses(&expected), code), "{found:#}");
    assert_eq!(found["totals"], expected["totals"], "{found:#}");
}

#[test]
fn a_snap_length_that_cuts_what_tells_packets_apart_makes_a_point_blind() {
    let dir = TempDir::new().unwrap();
    let fault = Some(Fault { every: 7, after: 2 });
    for (fault, expected) in [(None, (vec![], 0)), (fault, (vec!["a/eth0 b/flannel.1"], 1))] {
        let mut files = plain(dir.path(), &Wire { fault, ..Wire::default() });
        files[3].1 = edited(&files[3].1, &["-s", "60"], "short.pcap");
        let (report, code) = report(&files);
        let found = losses(&report);
        let legs: Vec<_> = found.iter().map(|(leg, _)| leg.as_str()).collect();
        assert_eq!((legs, code), expected, "the leg goes past the blind point: {report:#}");
        assert_ne!(report["nodes"][1]["unreadable"].as_str(), Some("0"), "{report:#}");
    }
}

#[test]
fn formats_of_other_tools_are_refused_with_the_way_to_convert_them() {
    let dir = TempDir::new().unwrap();
    let files = plain(dir.path(), &Wire::default());
    for format in ["snoop", "modpcap", "netmon2", "k12text"] {
        let file = edited(&files[0].1, &["-F", format], "other");
        let named = format!("a/veth={}", file.display());
        let second = format!("a/eth0={}", files[2].1.display());
        let output =
            Command::new(env!("CARGO_BIN_EXE_ctl")).args(["diff-files", &named, &second]).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), error.lines().count()), (Some(2), 1), "{format}: {error}");
        for part in ["other: not a pcap or pcapng file", "editcap -F pcapng"] {
            assert!(error.contains(part), "{format}: {error}");
        }
    }
}
