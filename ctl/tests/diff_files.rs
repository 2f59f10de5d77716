//! `diff-files` on files of two nodes: losses, legs, clocks, orders, and what is said when files cannot be compared.

#![allow(clippy::disallowed_methods, reason = "the program under test is started")]

mod wire;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionBlock;
use pcap_file::pcapng::blocks::interface_statistics::{InterfaceStatisticsBlock, InterfaceStatisticsOption};
use serde_json::Value;
use tempfile::TempDir;
use wire::{Fault, PACKETS, SECOND, START, Wire};

/// How a run ended.
#[derive(Debug)]
struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

fn diff(arguments: &[String]) -> Run {
    diff_beside(arguments, &std::env::temp_dir())
}

/// The same with another directory for temporary files.
fn diff_beside(arguments: &[String], scratch: &Path) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ctl"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LASTSEEN_")) {
        command.env_remove(name);
    }
    let output = command.env("TMPDIR", scratch).arg("diff-files").args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// The report and the exit code.
fn report(arguments: &[String]) -> (Value, i32) {
    let run = diff(&[arguments, &["-o".to_owned(), "json".to_owned()]].concat());
    let code = run.code.unwrap();
    (serde_json::from_str(&run.out).unwrap_or_else(|error| panic!("{error}: {run:?}")), code)
}

fn with_topology(mut arguments: Vec<String>, dir: &Path) -> Vec<String> {
    arguments.push("--topology".to_owned());
    arguments.push(wire::topology(dir).display().to_string());
    arguments
}

fn notes(report: &Value) -> String {
    report["notes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|note| note.as_str().unwrap())
        .collect::<Vec<_>>()
        .join("\n")
}

fn number(value: &Value) -> u64 {
    value.as_str().map_or_else(|| value.as_u64().unwrap(), |text| text.parse().unwrap())
}

/// Every loss as (from, to, count).
fn losses(report: &Value) -> Vec<(String, String, u64)> {
    let point = |point: &Value| {
        format!("{}/{}", point["node"].as_str().unwrap(), point["interface"].as_str().unwrap())
    };
    let paths = report["paths"].as_array().unwrap().iter();
    let losses = paths.flat_map(|path| path["losses"].as_array().unwrap());
    losses.map(|loss| (point(&loss["from"]), point(&loss["to"]), number(&loss["count"]))).collect()
}

/// Numbers of packets from a to b that are hit by a fault and first seen in the window.
fn hit(fault: Fault) -> u64 {
    // Number 0 is always hit, so some files begin with the packet that comes back 10 ms later.
    let start = START + 11_000_000;
    let end = START + i64::from(PACKETS - 1) * 20_000_000 + 10_000_000;
    let window = start + SECOND / 10..end - (end - start) / 4;
    let sent = |number: u16| START + i64::from(number) * 20_000_000;
    (0..PACKETS)
        .filter(|number| number.is_multiple_of(fault.every) && window.contains(&sent(*number)))
        .count() as u64
}

#[test]
fn a_loss_is_found_on_every_leg_with_a_topology_and_without() {
    let dir = TempDir::new().unwrap();
    let points = ["a/veth", "a/flannel.1", "a/eth0", "b/eth0", "b/flannel.1", "b/veth"];
    for after in 0..points.len() - 1 {
        let fault = Fault { every: 7, after };
        let files = Wire { fault: Some(fault), ..Wire::default() }.write(dir.path());
        for arguments in [with_topology(files.clone(), dir.path()), files] {
            let (report, code) = report(&arguments);
            let expected = (points[after].to_owned(), points[after + 1].to_owned(), hit(fault));
            assert_eq!((losses(&report), code), (vec![expected], 1), "{arguments:?}\n{report:#}");
            assert_eq!(number(&report["totals"]["notObservable"]), 0, "{report:#}");
        }
    }
}

#[test]
fn little_memory_changes_nothing_and_leaves_nothing_behind() {
    let (dir, scratch) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let fault = Fault { every: 7, after: 2 };
    let files = Wire { fault: Some(fault), ahead_nanos: SECOND / 2, ..Wire::default() }.write(dir.path());
    for mut arguments in [with_topology(files.clone(), dir.path()), files] {
        arguments.extend(["-o", "json"].map(str::to_owned));
        let held = diff_beside(&arguments, scratch.path());
        arguments.extend(["--correlation-memory-bytes", "65536"].map(str::to_owned));
        let away = diff_beside(&arguments, scratch.path());
        assert_eq!((away.code, &away.out), (Some(1), &held.out), "{away:?}");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
        let nowhere = scratch.path().join("gone");
        let refused = diff_beside(&arguments, &nowhere);
        let is_said = |text: &str| refused.err.contains(text);
        let place = nowhere.display().to_string();
        assert!(refused.code == Some(2) && is_said(&place) && is_said("TMPDIR"), "{refused:?}");
    }
}

#[test]
fn nothing_lost_exits_with_0() {
    let dir = TempDir::new().unwrap();
    let files = Wire::default().write(dir.path());
    for arguments in [with_topology(files.clone(), dir.path()), files] {
        let (report, code) = report(&arguments);
        assert_eq!((report["verdict"].as_str(), code), (Some("DELIVERED"), 0), "{report:#}");
        assert!(
            notes(&report).contains("that 6 files overlap, less 100 ms at its begin and 1.50 s at its end"),
            "{report:#}"
        );
    }
}

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
fn one_way_traffic_loses_on_the_right_leg_and_its_end_is_open_without_a_topology() {
    let dir = TempDir::new().unwrap();
    let fault = Fault { every: 5, after: 2 };
    let wire = Wire { fault: Some(fault), is_one_way: true, ahead_nanos: 3 * SECOND };
    let files = wire.write(dir.path());
    let (with, code) = report(&with_topology(files.clone(), dir.path()));
    let expected = ("a/eth0".to_owned(), "b/eth0".to_owned());
    let legs =
        |report: &Value| losses(report).into_iter().map(|(from, to, _)| (from, to)).collect::<Vec<_>>();
    assert_eq!((legs(&with), code), (vec![expected.clone()], 1), "{with:#}");
    let (without, _) = report(&files);
    assert_eq!(legs(&without), vec![expected], "{without:#}");
    let clean = Wire { is_one_way: true, ..Wire::default() }.write(dir.path());
    let (open, code) = report(&clean);
    assert_eq!((open["verdict"].as_str(), code), (Some("INCONCLUSIVE"), 3), "{open:#}");
    assert!(notes(&open).contains("cannot be told without a topology"), "{open:#}");
    assert_eq!(report(&with_topology(clean, dir.path())).1, 0);
}

/// Runs and expects exit code 2 and one line that contains each of `parts`.
fn refused(arguments: &[&str], parts: &[&str]) {
    let run = diff(&arguments.iter().map(|&argument| argument.to_owned()).collect::<Vec<_>>());
    let is_one_line = run.err.lines().count() == 1 && run.err.starts_with("error: ");
    assert!(run.code == Some(2) && run.out.is_empty() && is_one_line, "{arguments:?}: {run:?}");
    for part in parts {
        assert!(run.err.contains(part), "{part:?} is not in {:?}", run.err);
    }
}

/// Expects an inconclusive report one of whose notes contains `part`.
fn unsure(arguments: &[String], part: &str) {
    let (report, code) = report(arguments);
    assert_eq!((report["verdict"].as_str(), code), (Some("INCONCLUSIVE"), 3), "{report:#}");
    let coverage = report["nodes"].to_string();
    assert!(notes(&report).contains(part) || coverage.contains(part), "{part:?} is not in {report:#}");
}

#[test]
fn files_that_cannot_be_read_are_refused_in_one_line() {
    let dir = TempDir::new().unwrap();
    let whole = wire::pcap(&Wire::default().frames()[&("a", "eth0")]);
    let file = |name: &str, bytes: &[u8]| {
        let file = dir.path().join(name);
        fs::write(&file, bytes).unwrap();
        format!("a/eth0={}", file.display())
    };
    let good = file("good.pcap", &whole).replace("a/eth0", "b/eth0");
    refused(&["a/eth0=/nonexistent.pcap", &good], &["cannot open /nonexistent.pcap"]);
    refused(&[&format!("a/eth0={}", dir.path().display()), &good], &["is a directory"]);
    refused(&[&file("empty.pcap", b""), &good], &["empty.pcap: not a pcap or pcapng file"]);
    refused(
        &[&file("text.pcap", b"#!/bin/sh\necho a long enough text\n"), &good],
        &["not a pcap or pcapng file"],
    );
    let cut = file("cut.pcap", &whole[..whole.len() - 7]);
    refused(
        &[&cut, &good],
        &["cut.pcap: packet 600: the file ends in the middle of it", "`editcap ", "keeps what is whole"],
    );
    let mut damaged = whole.clone();
    let record = whole.len() - 300 * ((whole.len() - 24) / 600);
    damaged[record + 8..record + 12].copy_from_slice(&[0xff; 4]);
    let expected = format!("damaged.pcap: packet 301: the file is damaged at byte {record}: ");
    refused(&[&file("damaged.pcap", &damaged), &good], &[&expected, "keeps what is whole"]);
    let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    zipped.write_all(&whole).unwrap();
    let zipped = zipped.finish().unwrap();
    refused(&[&file("cut.gz", &zipped[..zipped.len() / 2]), &good], &["cut.gz: packet "]);
    let cooked = |index: u8, number: u8| {
        let header = [8, 0, 0, 0, 0, 0, 0, index, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0];
        (
            START + i64::from(number),
            [&header[..], &Wire::default().frames()[&("a", "veth")][0].1[14..]].concat(),
        )
    };
    let mut any = wire::pcap(&[cooked(2, 0), cooked(3, 1)]);
    any[20..22].copy_from_slice(&276_u16.to_le_bytes());
    refused(&[&file("any.pcap", &any), &good], &["any.pcap: packet 2: it is of another interface", "-i any"]);
    let mut foreign = whole.clone();
    foreign[20] = 147;
    refused(&[&file("user0.pcap", &foreign), &good], &["user0.pcap: packet 1: link type 147 is not known"]);
}

#[test]
fn names_and_ends_that_cannot_be_are_refused_in_one_line() {
    let dir = TempDir::new().unwrap();
    let files = Wire::default().write(dir.path());
    let file = dir.path().join("a-eth0.pcap").display().to_string();
    let at = |name: &str| format!("{name}={file}");
    refused(&[], &["NAME=FILE"]);
    refused(&[&file], &["is not NODE/INTERFACE[/in|out]=FILE"]);
    refused(&[&at("a/eth0/up")], &["a/eth0/up", "is not NODE/INTERFACE[/in|out]=FILE"]);
    refused(&[&at("a/eth0"), &at("b/eth0")], &["given as a/eth0 and as b/eth0"]);
    let veth = dir.path().join("a-veth.pcap").display().to_string();
    refused(
        &[&at("a/eth0"), &format!("a/eth0={veth}")],
        &["a/eth0: given twice", "a-eth0.pcap", "a-veth.pcap"],
    );
    refused(&[&at("a/eth0/in"), &format!("a/eth0={veth}")], &["a/eth0: given twice"]);
    refused(
        &[&files[0], &files[1], "--from", "c"],
        &["error: --from: \"c\" is neither a node of these files nor an address"],
    );
    refused(&[&files[0], &files[1], "--min-loss", "2"], &["--min-loss", "is not a share"]);
    let fabric = wire::topology(dir.path()).display().to_string();
    let with = |name: &str| [at(name), "--topology".to_owned(), fabric.clone()];
    for (name, expected) in [
        ("c/eth0", "the topology has no node \"c\"; it has a, b"),
        ("a/eth9", "has no interface \"eth9\"; it has eth0, flannel.1"),
    ] {
        refused(&with(name).each_ref().map(String::as_str), &[expected]);
    }
    refused(&[&files[0], "--topology", &file], &["a-eth0.pcap: not a topology"]);
    refused(&["a/eth0=-"], &["-: is not a regular file: save it first"]);
    refused(&["a/eth0=/dev/stdin"], &["/dev/stdin: is not a regular file: save it first"]);
    refused(&[&files[0], "--vxlan-port", "0"], &["--vxlan-port", "whole number from 1 to 65535"]);
    refused(&[&files[0], "--geneve-port", "0"], &["--geneve-port", "whole number from 1 to 65535"]);
    refused(&[&files[0], "--correlation-memory-bytes", "1KiB"], &["is not 64 KiB or more"]);
    assert_eq!(report(&[&files[..], &["--correlation-memory-bytes=64MiB".to_owned()]].concat()).1, 0);
    refused(&[&files[0], "--topology", "/nonexistent.json"], &["cannot open /nonexistent.json"]);
    fs::write(dir.path().join("other.json"), "{\"nodes\": [{\"name\": \"a\"}]}").unwrap();
    let other = dir.path().join("other.json").display().to_string();
    refused(&[&files[0], "--topology", &other], &["other.json: not a topology", "ctl export-topology"]);
    fs::write(dir.path().join("none.json"), "{}").unwrap();
    let none = dir.path().join("none.json").display().to_string();
    refused(&[&files[0], "--topology", &none], &["none.json: names no node"]);
}

/// Files of each node that are given as the other's.
fn swapped(files: &[String]) -> Vec<String> {
    let swap = |file: &String| {
        let (node, rest) = file.split_once('/').unwrap();
        format!("{}/{rest}", if node == "a" { "b" } else { "a" })
    };
    files.iter().map(swap).collect()
}

#[test]
fn files_that_the_topology_places_on_another_node_are_refused() {
    let dir = TempDir::new().unwrap();
    let files = Wire::default().write(dir.path());
    let with = |files: &[String]| with_topology(files.to_vec(), dir.path());
    let refused = |files: &[String], parts: &[&str]| {
        refused(&with(files).iter().map(String::as_str).collect::<Vec<_>>(), parts);
    };
    let all = swapped(&files);
    refused(
        &all,
        &[
            "b/veth: ",
            "a-veth.pcap does not fit the topology: all 300 packets that come out of its pod",
            "the first from 10.244.1.10, which is on a;",
        ],
    );
    assert_eq!(report(&all).1, 0, "without a topology a name is only a name");
    let sent = |files: Vec<String>| {
        let leaving = |file: &String, from: u8| {
            let name = format!("{}-out.pcap", file.split_once('/').unwrap().0);
            let node = if from == 1 { "a" } else { "b" };
            let frames = Wire::default().frames().remove(&(node, "eth0")).unwrap();
            let sent: Vec<_> = frames.into_iter().filter(|(_, frame)| frame[10] == from).collect();
            let path = dir.path().join(name);
            fs::write(&path, wire::pcap(&sent)).unwrap();
            format!("{}/eth0/out={}", file.split_once('/').unwrap().0, path.display())
        };
        let eth0 = files.iter().filter(|file| file.contains("/eth0="));
        eth0.map(|file| leaving(file, if file.contains("a-eth0") { 1 } else { 2 })).collect::<Vec<_>>()
    };
    let carriers =
        "packets that leave it in a tunnel are from other nodes' addresses, the first from 192.168.0.1,";
    refused(&sent(all), &["b/eth0/out: ", "all 300 ", carriers, "which is on a;"]);
    let right = report(&with(&sent(files))).0;
    assert!(right["nodes"].as_array().is_some_and(|nodes| nodes.len() == 2), "{right:#}");
}

#[test]
fn a_point_that_shows_nothing_of_one_protocol_is_asked_for_its_filter() {
    let dir = TempDir::new().unwrap();
    let frames = Wire::default().frames();
    let write = |node: &str, has_udp: bool| {
        let both = frames[&("a", "veth")].iter().zip(&frames[&(if node == "a" { "a" } else { "b" }, "veth")]);
        let both = both.flat_map(|(_, (time, frame))| {
            // The same under a protocol for experiments, RFC 3692.
            let mut other = frame.clone();
            other[23] = 253;
            [(*time, frame.clone()), (*time + 1_000, other)]
        });
        let kept: Vec<_> = both.filter(|(_, frame)| has_udp || frame[23] != 17).collect();
        let file = dir.path().join(format!("{node}.pcap"));
        fs::write(&file, wire::pcap(&kept)).unwrap();
        format!("{node}/veth={}", file.display())
    };
    let asked = "b veth saw no udp at all: was it captured with another filter?";
    for (has_udp, expected) in [(true, false), (false, true)] {
        let (report, _) = report(&with_topology(vec![write("a", true), write("b", has_udp)], dir.path()));
        assert_eq!(notes(&report).contains(asked), expected, "{report:#}");
    }
}

#[test]
fn files_of_doubles_and_of_no_ip_packets_are_told() {
    let dir = TempDir::new().unwrap();
    let frames = Wire::default().frames();
    let file = |name: &str, bytes: Vec<u8>| {
        let file = dir.path().join(name);
        fs::write(&file, bytes).unwrap();
        format!("{}={}", name.replace('-', "/"), file.display())
    };
    let twice: Vec<_> =
        frames[&("b", "eth0")].iter().flat_map(|frame| [frame.clone(), frame.clone()]).collect();
    let one = file("a-eth0", wire::pcap(&frames[&("a", "eth0")]));
    unsure(
        &with_topology(vec![one.clone(), file("b-eth0", wire::pcap(&twice))], dir.path()),
        "every packet of b is in its file twice, or it mixes interfaces (-i any): remove doubles with editcap -d",
    );
    let mut no_ip = frames[&("b", "eth0")].clone();
    for (_, frame) in &mut no_ip {
        frame[12..14].copy_from_slice(&[0x88, 0xcc]);
    }
    let expected = format!("b/eth0: all of its {} packets are not IP and were left out", no_ip.len());
    unsure(&with_topology(vec![one, file("b-eth0", wire::pcap(&no_ip))], dir.path()), &expected);
}

#[test]
fn what_is_cut_too_short_is_told_with_what_to_do_about_the_tool() {
    let dir = TempDir::new().unwrap();
    let mut frames = Wire::default().frames();
    for (_, frame) in frames.get_mut(&("b", "eth0")).unwrap() {
        frame.truncate(60);
    }
    let files = [("a", "eth0"), ("b", "eth0")].map(|(node, interface)| {
        let file = dir.path().join(format!("cut-{node}.pcap"));
        fs::write(&file, wire::pcap(&frames[&(node, interface)])).unwrap();
        format!("{node}/{interface}={}", file.display())
    });
    let (report, _) = report(&with_topology(files.to_vec(), dir.path()));
    let said =
        "packets were cut too short or malformed; capture again with a larger snap length (tcpdump -s 0)";
    assert!(notes(&report).contains(said), "{report:#}");
    assert!(!notes(&report).contains("--snaplen"), "{report:#}");
}

#[test]
fn what_is_missing_makes_the_report_inconclusive() {
    let dir = TempDir::new().unwrap();
    let files = Wire::default().write(dir.path());
    unsure(&files[..1], "captured at one point only");
    unsure(&files[..1], "of the file, less 100 ms");
    let empty = dir.path().join("empty.pcap");
    fs::write(&empty, wire::pcap(&[])).unwrap();
    let empty = format!("b/eth0={}", empty.display());
    unsure(std::slice::from_ref(&empty), "no file holds a packet");
    unsure(&with_topology(vec![files[0].clone(), empty], dir.path()), "b/eth0: no packet in ");
    let later = |frames: &[wire::Stamped], nanos: i64| {
        frames.iter().map(|(time, frame)| (time + nanos, frame.clone())).collect::<Vec<_>>()
    };
    let frames = Wire::default().frames();
    let (veth, nic) = (&frames[&("a", "veth")], &frames[&("a", "eth0")]);
    let pair = |veth: &[wire::Stamped], nic: &[wire::Stamped]| {
        let write = |name: &str, frames: &[wire::Stamped]| {
            let file = dir.path().join(format!("apart-{name}.pcap"));
            fs::write(&file, wire::pcap(frames)).unwrap();
            format!("a/{name}={}", file.display())
        };
        vec![write("veth", veth), write("eth0", nic)]
    };
    unsure(
        &pair(veth, &later(nic, 3_600 * SECOND)),
        "that of a/eth0 begins 3594.01 s after that of a/veth has ended",
    );
    let nowhere = pair(veth, &later(nic, 3_600 * SECOND));
    assert!(diff(&nowhere).out.contains("no window"));
    assert!(report(&nowhere).0["window"].is_null(), "1970 is no window");
    unsure(&pair(&veth[..100], &nic[..100]), "the files overlap for");
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

#[test]
fn a_black_hole_before_the_last_point_of_a_node_needs_no_other_clock() {
    let dir = TempDir::new().unwrap();
    let fault = Fault { every: 2, after: 1 };
    let wire = Wire { fault: Some(fault), is_one_way: true, ..Wire::default() };
    let files: Vec<String> =
        wire.write(dir.path()).into_iter().filter(|name| name.starts_with("a/")).collect();
    let (report, code) = report(&with_topology(files, dir.path()));
    let (from, to, _) = &losses(&report)[0];
    assert_eq!((from.as_str(), to.as_str(), code), ("a/flannel.1", "a/eth0", 1), "{report:#}");
}

/// A pcapng file whose packets carry their direction.
fn pcapng(frames: &[wire::Stamped], out_from: u8, drops: u64) -> Vec<u8> {
    let mut writer = PcapNgWriter::new(Vec::new()).unwrap();
    let description = InterfaceDescriptionBlock::new(DataLink::ETHERNET, 262_144);
    writer.write_pcapng_block(description).unwrap();
    for (time, frame) in frames {
        let flags = if frame[10] == out_from { 2 } else { 1 };
        let packet = EnhancedPacketBlock {
            interface_id: 0,
            timestamp: std::time::Duration::from_nanos(*time as u64),
            original_len: frame.len() as u32,
            data: frame.into(),
            options: vec![EnhancedPacketOption::Flags(flags)],
        };
        writer.write_pcapng_block(packet).unwrap();
    }
    let statistics = InterfaceStatisticsBlock {
        interface_id: 0,
        timestamp: std::time::Duration::from_nanos(frames[0].0 as u64),
        options: vec![InterfaceStatisticsOption::IsbOsDrop(drops)],
    };
    writer.write_pcapng_block(statistics).unwrap();
    writer.into_inner()
}

#[test]
fn pcapng_tells_direction_and_drops() {
    let dir = TempDir::new().unwrap();
    let fault = Fault { every: 7, after: 2 };
    let wire = Wire { fault: Some(fault), ..Wire::default() };
    for drops in [0, 3] {
        let mut files = Vec::new();
        for ((node, number), drops) in [("a", 1), ("b", 2)].into_iter().zip([0, drops]) {
            let file = dir.path().join(format!("{node}.pcapng"));
            fs::write(&file, pcapng(&wire.frames()[&(node, "eth0")], number, drops)).unwrap();
            files.push(format!("{node}/eth0={}", file.display()));
        }
        let (report, code) = report(&files);
        let hops = report["paths"][0]["hops"].as_array().unwrap();
        let directions: Vec<&str> = hops.iter().map(|hop| hop["direction"].as_str().unwrap()).collect();
        assert_eq!(directions, ["OUT", "IN"], "{report:#}");
        if drops == 0 {
            let leg = ("a/eth0".to_owned(), "b/eth0".to_owned());
            assert_eq!((losses(&report)[0].clone(), code), ((leg.0, leg.1, hit(fault)), 1), "{report:#}");
        } else {
            assert_eq!(
                (losses(&report).len(), code),
                (0, 3),
                "a point that dropped says nothing: {report:#}"
            );
            let said = "; capture again with a larger buffer (tcpdump -B) or a narrower filter";
            assert!(notes(&report).contains("b eth0 in: dropped 3 of "), "{report:#}");
            assert!(notes(&report).contains(said), "{report:#}");
        }
    }
}

#[test]
fn ends_and_threshold_choose_as_on_a_fabric() {
    let dir = TempDir::new().unwrap();
    let fault = Fault { every: 50, after: 2 };
    let files = Wire { fault: Some(fault), ..Wire::default() }.write(dir.path());
    let with = |more: &[&str]| {
        let more = more.iter().map(|&argument| argument.to_owned());
        report(&files.iter().cloned().chain(more).collect::<Vec<_>>())
    };
    assert_eq!(with(&["--min-loss", "50%"]).1, 0);
    let (from_b, code) = with(&["--from", "b"]);
    assert_eq!(
        (code, notes(&from_b).contains("only paths from b; 1 more not shown")),
        (0, true),
        "{from_b:#}"
    );
    assert_eq!(with(&["--from", "10.244.1.10", "--to", "b"]).1, 1);
    assert_eq!(with(&["--to", "10.9.9.9"]).1, 3);
}

/// Holds `xml` against the schema that Jenkins' xUnit plug-in publishes with `xmllint` and counts the elements named `element`.
fn valid_junit(xml: &str, element: &str) -> usize {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(xml.as_bytes()).unwrap();
    let schema = concat!(env!("CARGO_TARGET_TMPDIR"), "/../schemas/jenkins-junit.xsd");
    assert!(Path::new(schema).exists(), "{schema}: `make packages` fetches it");
    let output = Command::new("xmllint").args(["--noout", "--schema", schema]).arg(file.path()).output();
    let output = output.expect("xmllint: install libxml2-utils");
    assert!(output.status.success(), "{}\n{xml}", String::from_utf8_lossy(&output.stderr));
    xml.matches(&format!("<{element} ")).count()
}

#[test]
fn junit_has_a_case_for_each_path_and_obeys_the_schema() {
    let dir = TempDir::new().unwrap();
    let junit = |wire: Wire, more: &[&str]| {
        let more = more.iter().map(|&argument| argument.to_owned());
        diff(&wire.write(dir.path()).into_iter().chain(more).collect::<Vec<_>>())
    };
    let lossy = || Wire { fault: Some(Fault { every: 50, after: 2 }), ..Wire::default() };
    let lost = junit(lossy(), &["-o", "junit"]);
    assert_eq!((lost.code, valid_junit(&lost.out, "testcase")), (Some(1), 2), "{lost:?}");
    assert_eq!(valid_junit(&lost.out, "failure"), 1, "{lost:?}");
    assert!(lost.out.contains("a eth0 → b eth0"), "{lost:?}");
    let below = junit(lossy(), &["-o", "junit", "--min-loss", "50%"]);
    assert_eq!((below.code, valid_junit(&below.out, "failure")), (Some(0), 0), "{below:?}");
    let open = junit(Wire { is_one_way: true, ..Wire::default() }, &["-o", "junit"]);
    assert_eq!((open.code, valid_junit(&open.out, "error")), (Some(3), 1), "{open:?}");
    let nothing = dir.path().join("nothing.pcap");
    fs::write(&nothing, wire::pcap(&[])).unwrap();
    let nothing = diff(&[format!("a/eth0={}", nothing.display()), "-o".into(), "junit".into()]);
    assert_eq!((nothing.code, valid_junit(&nothing.out, "error")), (Some(3), 1), "{nothing:?}");
}

/// The files of these points only.
fn only(files: Vec<String>, points: &[&str]) -> Vec<String> {
    files
        .into_iter()
        .filter(|file| points.iter().any(|point| file.starts_with(&format!("{point}="))))
        .collect()
}

#[test]
fn the_order_is_inferred_from_both_ways_and_left_open_where_packets_go_one_way() {
    let dir = TempDir::new().unwrap();
    let fault = Some(Fault { every: 7, after: 2 });
    let ends = ["a/eth0", "b/eth0"];
    let wire = Wire { fault, ahead_nanos: -5 * SECOND, is_one_way: false };
    let (found, code) = report(&only(wire.write(dir.path()), &ends));
    let leg = ("a/eth0".to_owned(), "b/eth0".to_owned(), hit(Fault { every: 7, after: 2 }));
    assert_eq!((losses(&found), code), (vec![leg], 1), "{found:#}");
    let one_way = || only(Wire { fault, is_one_way: true, ..Wire::default() }.write(dir.path()), &ends);
    unsure(&one_way(), "the place of some points on some paths cannot be told");
    let named: Vec<String> = one_way()
        .iter()
        .map(|file| file.replace("a/eth0=", "a/eth0/out=").replace("b/eth0=", "b/eth0/in="))
        .collect();
    let (found, code) = report(&named);
    assert_eq!((losses(&found).len(), code), (1, 1), "directions tell the order: {found:#}");
}
