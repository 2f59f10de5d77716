//! `diff-files` on TCP whose segments no file shows and no identification tells: bytes are compared.

#![allow(clippy::disallowed_methods, reason = "the program under test is started")]

use crate::wire;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::wire::{SECOND, START, Stamped};
use serde_json::Value;
use tempfile::TempDir;

/// Chunks of 6,000 bytes, 20 ms apart; of every tenth the bytes 1,000 to 3,000 are lost between the nodes and sent again.
const CHUNKS: u32 = 300;
const CHUNK: u32 = 6_000;
const LOST: (u32, u32) = (1_000, 3_000);

/// Node, interface, how much later it stamps, and what it makes packets of.
type Hop = (&'static str, &'static str, i64, &'static [(u32, u32)]);

/// In the order packets meet them.
const HOPS: [Hop; 6] = [
    ("a", "veth", 0, &[(0, 6_000)]),
    ("a", "flannel.1", 12_000, &[(0, 6_000)]),
    ("a", "eth0", 25_000, &[(0, 1_000), (1_000, 3_000), (3_000, 6_000)]),
    ("b", "eth0", 190_000, &[(0, 3_000), (3_000, 4_000), (4_000, 6_000)]),
    ("b", "flannel.1", 190_000, &[(0, 3_000), (3_000, 6_000)]),
    ("b", "veth", 210_000, &[(0, 6_000)]),
];

fn is_hit(chunk: u32) -> bool {
    chunk % 10 == 4
}

fn sent(chunk: u32) -> i64 {
    START + i64::from(chunk) * 20_000_000
}

/// The packets of one hop: sequence number, length and time.
fn packets(hop: usize, chunk: u32) -> Vec<(u32, u32, i64)> {
    let (base, time) = (chunk * CHUNK, sent(chunk) + HOPS[hop].2);
    let mut packets: Vec<_> = HOPS[hop].3.iter().map(|(from, to)| (base + from, to - from, time)).collect();
    if is_hit(chunk) {
        if hop > 2 {
            packets = vec![(base, LOST.0, time), (base + LOST.1, CHUNK - LOST.1, time)];
        }
        packets.push((base + LOST.0, LOST.1 - LOST.0, time + 5_000_000));
    }
    packets
}

fn write(dir: &Path) -> Vec<String> {
    let file = |hop: usize| {
        let (node, interface, ..) = HOPS[hop];
        let packets = (0..CHUNKS).flat_map(|chunk| packets(hop, chunk));
        let mut frames: Vec<Stamped> =
            packets.map(|(seq, length, time)| (time, frame(hop, seq, length, time))).collect();
        frames.sort_by_key(|frame| frame.0);
        let file = dir.join(format!("{node}-{interface}.pcap"));
        fs::write(&file, wire::pcap(&frames)).unwrap();
        format!("{node}/{interface}={}", file.display())
    };
    (0..HOPS.len()).map(file).collect()
}

/// A segment from the pod of a to that of b. Its identification is 0, as some senders have it.
fn frame(hop: usize, seq: u32, length: u32, time: i64) -> Vec<u8> {
    let stamp = ((time - HOPS[hop].2 - START) / 1_000_000) as u32;
    let ports = [40_000_u16, 80].map(u16::to_be_bytes).concat();
    let numbers = [seq, 1].map(u32::to_be_bytes).concat();
    let options = [&[1, 1, 8, 10][..], &stamp.to_be_bytes(), &[0; 4]].concat();
    let segment =
        [&ports[..], &numbers, &[0x80, 0x10, 1, 0, 0, 0, 0, 0], &options, &vec![7; length as usize]].concat();
    let packet = ip(6, [10, 244, 1, 10], [10, 244, 2, 10], 0, &segment);
    let tunnelled = ethernet((1, 3), (2, 3), &packet);
    match hop {
        0 => ethernet((1, 100), (1, 4), &packet),
        2 | 3 => {
            let vxlan = [&[8, 0, 0, 0, 0, 0, 1, 0][..], &tunnelled].concat();
            let length = (8 + vxlan.len() as u16).to_be_bytes();
            let udp = [&[0xc3, 0x50, 0x21, 0x18][..], &length, &[0, 0], &vxlan].concat();
            ethernet((1, 2), (2, 2), &ip(17, [192, 168, 0, 1], [192, 168, 0, 2], (seq / 100) as u16, &udp))
        }
        5 => ethernet((2, 4), (2, 100), &packet),
        _ => tunnelled,
    }
}

/// From one device to another: the node and the number of each.
fn ethernet(from: (u8, u8), to: (u8, u8), packet: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, to.0, to.1, 2, 0, 0, 0, from.0, from.1, 8, 0][..], packet].concat()
}

fn ip(protocol: u8, source: [u8; 4], destination: [u8; 4], id: u16, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len() as u16).to_be_bytes();
    let id = id.to_be_bytes();
    let header = [0x45, 0, length[0], length[1], id[0], id[1], 0x40, 0, 63, protocol, 0, 0];
    [&header[..], &source, &destination, payload].concat()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

fn nanos(time: &Value) -> i64 {
    time.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_nanosecond() as i64
}

#[test]
fn bytes_lost_and_sent_again_are_lost_once_whatever_each_hop_makes_packets_of() {
    let dir = TempDir::new().unwrap();
    let files = write(dir.path());
    let mut command = Command::new(env!("CARGO_BIN_EXE_ctl"));
    let topology = wire::topology(dir.path());
    command.arg("diff-files").args(&files).arg("--topology").arg(topology).args(["-o", "json"]);
    let output = command.output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let window = nanos(&report["window"]["start"])..nanos(&report["window"]["end"]);
    assert!(window.end - window.start > 2 * SECOND, "{report:#}");
    let hits = (0..CHUNKS).filter(|chunk| is_hit(*chunk) && window.contains(&sent(*chunk))).count();
    let losses: Vec<_> = report["paths"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|path| path["losses"].as_array().unwrap())
        .collect();
    let [loss] = losses[..] else { panic!("not one loss: {report:#}") };
    let leg =
        ["from", "to"].map(|end| format!("{}/{}", text(&loss[end]["node"]), text(&loss[end]["interface"])));
    assert_eq!(
        (leg, text(&loss["count"])),
        (["a/eth0".to_owned(), "b/eth0".to_owned()], hits.to_string()),
        "{report:#}"
    );
    for example in loss["examples"].as_array().unwrap() {
        assert_eq!(text(&example["payloadLength"]), (LOST.1 - LOST.0).to_string(), "{example:#}");
    }
    assert_eq!(
        (text(&report["totals"]["notObservable"]), output.status.code()),
        ("0".to_owned(), Some(1)),
        "{report:#}"
    );
}
