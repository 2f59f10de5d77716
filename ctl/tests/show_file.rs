//! `show-file` on real captures.

#![allow(clippy::disallowed_methods, reason = "the program under test is started")]

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn captures() -> PathBuf {
    let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/pcaps"));
    assert!(dir.is_dir(), "{} is missing: it holds the captures this test needs", dir.display());
    dir
}

fn show(file: &str, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ctl"))
        .arg("show-file")
        .arg(captures().join(file))
        .args(more)
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json(file: &str) -> Vec<Value> {
    text(&show(file, &["-o", "json"])).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Packet records in a classic pcap file, counted by walking its record headers (little-endian files only).
fn records(bytes: &[u8]) -> usize {
    let (mut at, mut count) = (24, 0);
    while let Some(length) = bytes.get(at + 8..at + 12) {
        at += 16 + u32::from_le_bytes(length.try_into().unwrap()) as usize;
        count += 1;
    }
    count
}

#[test]
fn every_capture_gives_a_line_per_packet() {
    let mut files = 0;
    for entry in std::fs::read_dir(captures()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let bytes = std::fs::read(captures().join(&name)).unwrap();
        // The README, and files of the other byte order.
        if !matches!(bytes[..4], [0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1]) {
            continue;
        }
        files += 1;
        assert_eq!(text(&show(&name, &[])).lines().count(), records(&bytes), "{name}");
        assert_eq!(json(&name).len(), records(&bytes), "{name}");
    }
    assert!(files >= 20, "only {files} captures in {}", captures().display());
}

#[test]
fn tunnels_and_their_insides_are_shown() {
    let all = text(&show("vxlan.pcap", &[]));
    // What the identity is, is the decoder's own matter.
    let first: Vec<&str> =
        all.lines().take(3).map(|line| line.split("  identity ").next().unwrap()).collect();
    insta::assert_snapshot!(first.join("\n"), @r"
    1  2013-05-18T20:21:44.837063000Z  [vxlan 100 192.168.203.1:45149 → 192.168.202.1:4789]  192.168.203.3 → 192.168.203.5  icmp  ip-id 0  type 8 code 0  id 1292 seq 1  payload 56  captured 148 of 148
    2  2013-05-18T20:21:44.882198000Z  [vxlan 100 192.168.202.1:42710 → 192.168.203.1:4789]  captured 92 of 92  ARP: 192.168.203.5 asks for 192.168.203.3
    3  2013-05-18T20:21:44.882536000Z  [vxlan 100 192.168.203.1:52102 → 192.168.202.1:4789]  captured 92 of 92  ARP: 192.168.203.3 answers 192.168.203.5
    ");
}

#[test]
fn json_has_a_key_for_each_fact() {
    let packets = json("geneve.pcap");
    let syn = &packets[2];
    let expected = serde_json::json!({
        "number": 3, "time": "2015-02-01T22:04:33.999279000Z",
        "encapsulations": [{ "kind": "geneve", "id": 11, "source": "20.0.0.2", "destination": "20.0.0.1",
                             "sourcePort": 43443, "destinationPort": 6081 }],
        "source": "30.0.0.2", "destination": "30.0.0.1", "protocol": "tcp", "sourcePort": 51225, "destinationPort": 22,
        "ttl": 64, "ipId": 23057, "tcpSeq": 397_610_159, "tcpAck": 0, "tcpFlags": "......S.", "payloadLength": 0,
        "capturedLength": 124, "originalLength": 124, "identity": syn["identity"],
    });
    assert_eq!(syn, &expected);
    assert_eq!(syn["identity"].as_str().unwrap().len(), 16);
}

#[test]
fn super_packets_keep_their_size() {
    let packet = &json("bigtcp-ipv4-vxlan-ipv4.pcap")[0];
    assert_eq!((packet["payloadLength"].as_u64(), packet["protocol"].as_str()), (Some(80_000), Some("tcp")));
}

#[test]
fn a_packet_that_cannot_be_decoded_names_layer_offset_and_reason() {
    let packet = &json("esp_truncated.pcap")[0];
    let error = &packet["error"];
    assert_eq!((error["layer"].as_str(), error["offset"].as_u64()), (Some("vxlan"), Some(42)), "{packet}");
    assert!(error["reason"].as_str().unwrap().contains("snap length"), "{packet}");
    assert!(packet["identity"].is_null() && packet["source"].is_string(), "{packet}");
}

#[test]
fn ports_decide_what_is_a_tunnel() {
    let with_port = text(&show("vxlan_port_8472.pcap", &["--geneve-port", "8472"]));
    assert!(
        !with_port.contains("[vxlan") && text(&show("vxlan_port_8472.pcap", &[])).contains("[vxlan 100 ")
    );
}

#[test]
fn a_cut_file_shows_what_is_whole_and_fails() {
    let bytes = std::fs::read(captures().join("vxlan.pcap")).unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes[..bytes.len() - 3]).unwrap();
    let output = show(file.path().to_str().unwrap(), &[]);
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), records(&bytes) - 1);
    assert!(err.contains(&format!("packet {}: the file ends in the middle of it", records(&bytes))), "{err}");
}

#[test]
fn what_is_no_capture_is_refused() {
    for (file, expected) in [("README.md", "not a pcap or pcapng file"), ("absent.pcap", "cannot open")] {
        let output = show(file, &[]);
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.code() == Some(2) && err.lines().count() == 1 && err.contains(expected),
            "{err}"
        );
    }
    let output = show("vxlan.pcap", &["-o", "name"]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("packets have no names"));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    // 64 KiB of pipe must overflow, so that the write meets a closed pipe.
    let one = std::fs::read(captures().join("vxlan.pcap")).unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&one).unwrap();
    for _ in 0..200 {
        file.write_all(&one[24..]).unwrap();
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_ctl"))
        .arg("show-file")
        .arg(file.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), ""));
}
