//! Capture files and tshark, shared by the tests that compare with it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lastseen_packet::LinkType;
use pcap_file::DataLink;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};

/// A captured frame.
pub(crate) struct Frame {
    pub(crate) link: LinkType,
    pub(crate) original_length: u32,
    pub(crate) bytes: Vec<u8>,
}

impl Frame {
    /// A frame captured whole.
    pub(crate) fn whole(link: LinkType, bytes: Vec<u8>) -> Self {
        Self { link, original_length: bytes.len() as u32, bytes }
    }
}

/// The shared capture files, sorted by name.
pub(crate) fn capture_files() -> Vec<PathBuf> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/pcaps");
    let entries = std::fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("capture files are missing: cannot read {directory}: {error}"));
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("readable directory entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pcap"))
        .collect();
    files.sort();
    assert!(files.len() >= 28, "only {} capture files in {directory}", files.len());
    files
}

pub(crate) fn read_frames(path: &Path) -> Vec<Frame> {
    let file = File::open(path).unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()));
    let mut reader = PcapReader::with_capacity(file, 1 << 20).expect("capture file header");
    let dlt = u32::from(reader.header().datalink);
    let link = LinkType::from_dlt(dlt).unwrap_or_else(|| panic!("{}: link type {dlt}", path.display()));
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_raw_packet() {
        let packet = packet.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        frames.push(Frame { link, original_length: packet.orig_len, bytes: packet.data.into_owned() });
    }
    frames
}

/// Writes frames of one link type as a capture file.
pub(crate) fn write_frames(path: &Path, frames: &[Frame]) {
    let file = File::create(path).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    let header = PcapHeader { datalink: DataLink::from(frames[0].link.dlt()), ..PcapHeader::default() };
    let mut writer = PcapWriter::with_header(file, header).expect("capture file header");
    for (index, frame) in frames.iter().enumerate() {
        let time = Duration::from_secs(index as u64);
        let packet =
            PcapPacket::new(time, frame.original_length, frame.bytes.as_slice()).expect("a valid packet");
        writer.write_packet(&packet).expect("writable file");
    }
}

/// The values of `fields` for each packet of `path`, as tshark prints them: repeated fields outermost first.
#[allow(clippy::disallowed_methods, reason = "tshark is the oracle, run in tests only")]
pub(crate) fn tshark(path: &Path, fields: &[&str], options: &[&str]) -> Vec<Vec<Vec<String>>> {
    let mut command = Command::new("tshark");
    command.args(["-o", "tcp.relative_sequence_numbers:FALSE", "-o", "ip.defragment:FALSE"]);
    command.args(["-o", "ipv6.defragment:FALSE", "-n", "-T", "fields", "-E", "separator=|"]);
    command.args(["-E", "occurrence=a", "-E", "aggregator=,"]).args(options).arg("-r").arg(path);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("tshark is needed as the oracle (apt-get install tshark): {error}"));
    let text = String::from_utf8(output.stdout).expect("tshark prints UTF-8");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tshark {}: {errors}", path.display());
    text.lines().map(|line| line.split('|').map(values).collect()).collect()
}

fn values(column: &str) -> Vec<String> {
    column.split(',').filter(|value| !value.is_empty()).map(str::to_owned).collect()
}
