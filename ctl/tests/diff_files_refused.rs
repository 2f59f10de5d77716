//! Files, names and topologies that `diff-files` refuses, and how.

use crate::wire;
use std::fs;
use std::io::Write;

use crate::diff::{refused, report};
use crate::wire::{START, Wire};
use tempfile::TempDir;

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
