//! What `diff-files` makes of drops that a file tells of with the packet behind them (`epb_dropcount`).

mod diff;
mod wire;

use std::fs;
use std::time::Duration;

use diff::{losses, report};
use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionBlock;
use tempfile::TempDir;
use wire::{START, Stamped, Wire};

/// A pcapng file of node `number`, whose packet `before` comes behind so many dropped ones.
fn pcapng(frames: &[Stamped], number: u8, (before, drops): (usize, u64)) -> Vec<u8> {
    let mut writer = PcapNgWriter::new(Vec::new()).unwrap();
    let description = InterfaceDescriptionBlock::new(DataLink::ETHERNET, 262_144);
    writer.write_pcapng_block(description).unwrap();
    for (at, (time, frame)) in frames.iter().enumerate() {
        let direction = if frame[10] == number { 2 } else { 1 };
        let dropped = (at == before && drops > 0).then_some(EnhancedPacketOption::DropCount(drops));
        let packet = EnhancedPacketBlock {
            interface_id: 0,
            timestamp: Duration::from_nanos(*time as u64),
            original_len: frame.len() as u32,
            data: frame.into(),
            options: [EnhancedPacketOption::Flags(direction)].into_iter().chain(dropped).collect(),
        };
        writer.write_pcapng_block(packet).unwrap();
    }
    writer.into_inner()
}

/// Milliseconds since the first packet.
fn millis(frame: &Stamped) -> i64 {
    (frame.0 - START) / 1_000_000
}

/// Traffic pauses from 2 to 3 s. Node b's ring has no room for the last packets before it, and the file says so with the
/// first packet that follows.
fn lost_where_b_drops(from_millis: i64) -> (u64, i32) {
    let dir = TempDir::new().unwrap();
    let frames = Wire::default().frames();
    let sent = |node: &'static str| {
        let frames = frames[&(node, "eth0")].iter();
        frames.filter(|frame| !(2_000..3_000).contains(&millis(frame))).cloned().collect::<Vec<_>>()
    };
    let (a, all) = (sent("a"), sent("b"));
    let b: Vec<_> =
        all.iter().filter(|frame| !(from_millis..2_000).contains(&millis(frame))).cloned().collect();
    let next = b.iter().position(|frame| millis(frame) >= 2_000).unwrap();
    let drops = (all.len() - b.len()) as u64;
    assert!(drops >= 5, "{drops}");
    let files = [("a", 1, &a, (0, 0)), ("b", 2, &b, (next, drops))].map(|(node, number, frames, drops)| {
        let file = dir.path().join(format!("{node}.pcapng"));
        fs::write(&file, pcapng(frames, number, drops)).unwrap();
        format!("{node}/eth0={}", file.display())
    });
    let (report, code) = report(&files);
    (losses(&report).iter().map(|(_, _, count)| count).sum(), code)
}

#[test]
fn what_a_file_says_was_dropped_before_a_pause_is_not_lost() {
    assert_eq!(lost_where_b_drops(1_900), (0, 3));
}
