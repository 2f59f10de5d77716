//! What `diff-files` makes of drops that a file tells of with the packet behind them (`epb_dropcount`).

use std::fs;
use std::ops::Range;
use std::time::Duration;

use crate::diff::{losses, report};
use crate::wire::{START, Stamped, Wire};
use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionBlock;
use pcap_file::pcapng::blocks::interface_statistics::{InterfaceStatisticsBlock, InterfaceStatisticsOption};
use tempfile::TempDir;

/// A pcapng file of node `number`, whose packet `before` comes behind so many dropped ones. It was begun with the traffic.
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
    let [start, end] = [START, frames[frames.len() - 1].0].map(|time| Duration::from_nanos(time as u64));
    let statistics = InterfaceStatisticsBlock {
        interface_id: 0,
        timestamp: end,
        options: vec![
            InterfaceStatisticsOption::IsbStartTime(start),
            InterfaceStatisticsOption::IsbEndTime(end),
        ],
    };
    writer.write_pcapng_block(statistics).unwrap();
    writer.into_inner()
}

/// Milliseconds since the first packet.
fn millis(frame: &Stamped) -> i64 {
    (frame.0 - START) / 1_000_000
}

/// There is traffic in `sent`, milliseconds since the first packet. Node b's ring has no room for that in `dropped`, and the
/// file says so with the first packet that follows. What comes to b in `lost` is lost. Returns how many are told lost.
fn told(sent: &[Range<i64>], dropped: Range<i64>, lost: Range<i64>) -> (u64, i32) {
    let dir = TempDir::new().unwrap();
    let frames = Wire::default().frames();
    let of = |node: &'static str| {
        let frames = frames[&(node, "eth0")].iter();
        frames
            .filter(|frame| sent.iter().any(|sent| sent.contains(&millis(frame))))
            .cloned()
            .collect::<Vec<_>>()
    };
    let (a, mut all) = (of("a"), of("b"));
    all.retain(|frame| frame.1[10] == 2 || !lost.contains(&millis(frame)));
    let b: Vec<_> = all.iter().filter(|frame| !dropped.contains(&millis(frame))).cloned().collect();
    let next = b.iter().position(|frame| millis(frame) >= dropped.end).unwrap();
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
    assert_eq!(told(&[0..2_000, 3_000..7_000], 1_900..2_000, 0..0), (0, 3));
}

#[test]
fn what_a_file_says_was_dropped_before_its_last_packet_is_not_lost() {
    let sent = [0..2_000, 5_990..6_000];
    assert_eq!(told(&sent, 1_900..2_000, 0..0), (0, 3));
}

#[test]
fn what_a_file_says_was_dropped_before_its_first_packet_is_not_lost() {
    assert_eq!(told(&[0..2_000, 2_000..7_000], 0..1_000, 0..0), (0, 3));
}

#[test]
fn drops_say_nothing_of_what_was_lost_at_other_times() {
    assert_eq!(told(&[0..2_000, 3_000..7_000], 1_900..2_000, 1_600..1_700), (5, 1));
    assert_eq!(told(&[0..2_000, 3_000..7_000], 1_900..2_000, 3_200..3_300), (5, 1), "after them");
}
