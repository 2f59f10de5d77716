//! One capture file for each point.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use pcap_file::DataLink;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapTsResolution, PcapWriter};

use super::carriage;
use super::case::{Case, NODES};
use super::cast::Cast;
use super::traffic::Traffic;

/// How much later each point of the way stamps, nanoseconds. Stamps of a frame on its way up are equal, as the
/// kernel's are.
const DELAYS_NANOS: [i64; 6] = [0, 12_000, 25_000, 190_000, 190_000, 210_000];
/// Every other point keeps no more than headers.
const SNAP_LENGTH: usize = 192;

type Stamped = (i64, Vec<u8>);

/// Writes all files and returns the arguments that name them, in no order that would tell the path.
pub(super) fn write(case: &Case, cast: &Cast, traffic: &Traffic, folder: &Path) -> Result<Vec<String>> {
    let mut arguments = Vec::new();
    for (at, frames) in seen(case, cast, traffic).into_iter().enumerate() {
        let (node, interface) = case.points()[at];
        let file = folder.join(format!("{}-{interface}.pcap", NODES[node]));
        let link = if carriage::is_raw(case, interface) { DataLink::RAW } else { DataLink::ETHERNET };
        let length = if at % 2 == 1 { SNAP_LENGTH } else { usize::from(u16::MAX) };
        write_one(&file, link, length, &frames).with_context(|| format!("write {}", file.display()))?;
        arguments.push(format!("{}/{interface}={}", NODES[node], file.display()));
    }
    arguments.sort_by_key(|argument| argument.bytes().rev().collect::<Vec<_>>());
    Ok(arguments)
}

/// Frames by point, in the order of their stamps.
fn seen(case: &Case, cast: &Cast, traffic: &Traffic) -> [Vec<Stamped>; 6] {
    let mut seen: [Vec<Stamped>; 6] = Default::default();
    for (number, packet) in traffic.packets.iter().enumerate() {
        let reach = case.lost_after.filter(|_| packet.is_lost).map_or(6, |after| after + 1);
        for (hop, delay) in DELAYS_NANOS.iter().enumerate().take(reach) {
            let point = if packet.from == 0 { hop } else { 5 - hop };
            let ahead = if point < 3 { 0 } else { cast.ahead_nanos };
            let frame = carriage::frame(case, cast, packet, hop, number as u64);
            seen[point].push((packet.sent_nanos + delay + ahead, frame));
        }
    }
    for frames in &mut seen {
        frames.sort_by_key(|(time, _)| *time);
    }
    seen
}

fn write_one(file: &Path, datalink: DataLink, snap_length: usize, frames: &[Stamped]) -> Result<()> {
    let header = PcapHeader {
        datalink,
        ts_resolution: PcapTsResolution::NanoSecond,
        snaplen: snap_length as u32,
        ..PcapHeader::default()
    };
    let mut writer = PcapWriter::with_header(BufWriter::new(File::create(file)?), header)?;
    for (time, frame) in frames {
        let kept = &frame[..frame.len().min(snap_length)];
        let time = Duration::from_nanos(*time as u64);
        writer.write_packet(&PcapPacket::new(time, frame.len() as u32, kept)?)?;
    }
    writer.flush()?;
    Ok(())
}
