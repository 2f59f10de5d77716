//! What `diff-files` says of files that do not show all.

use crate::wire;
use std::fs;

use crate::diff::{diff, hit, losses, notes, report, unsure, with_topology};
use crate::wire::{Fault, SECOND, Wire};
use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionBlock;
use pcap_file::pcapng::blocks::interface_statistics::{InterfaceStatisticsBlock, InterfaceStatisticsOption};
use tempfile::TempDir;

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
