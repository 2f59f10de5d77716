//! Frames of a pcap or pcapng file, gzipped or not, with bounded memory.

use std::io::{self, Cursor, Read};

use flate2::read::MultiGzDecoder;
use lastseen_correlate::topology::Direction;
use lastseen_packet::LinkType;
use pcap_file::pcap::{PcapReadError, PcapReader, PcapTsResolution};
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
use pcap_file::pcapng::{Block, PcapNgReadError, PcapNgReader, PcapNgState};

/// Largest record that is read; libpcap's largest snap length is 256 KiB.
const LARGEST_RECORD: usize = 2 << 20;
/// RFC 1952 §2.3.1.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const PCAPNG_MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

type Source = Box<dyn Read>;
/// A source whose first bytes have been looked at.
type Prefixed = io::Chain<Cursor<Vec<u8>>, Source>;

/// A captured frame.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    /// Nanoseconds since 1970; absent in simple packet blocks.
    pub(crate) time_nanos: Option<i128>,
    /// `LINKTYPE_` number.
    pub(crate) link: u32,
    /// Bytes on the wire.
    pub(crate) original_length: u32,
    /// Bytes captured.
    pub(crate) data: &'a [u8],
    /// Number of its interface in the file, or the kernel's index of it where frames carry that.
    pub(crate) interface: u32,
    /// Through the interface, if the file says (`epb_flags`).
    pub(crate) direction: Option<Direction>,
    /// Packets that were dropped before this one (`epb_dropcount`).
    pub(crate) drops: u64,
}

/// What a file holds at one place.
#[derive(Debug)]
pub(crate) enum Item<'a> {
    /// A frame.
    Frame(Frame<'a>),
    /// A packet's record that contradicts itself; reading goes on behind it.
    Malformed(String),
}

/// Reads either format.
pub(crate) struct Reader {
    format: Format,
    /// Bytes of the current frame.
    data: Vec<u8>,
    statistics: Statistics,
}

/// What a pcapng file's interface statistics say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Statistics {
    /// Packets that were dropped by the interface or the kernel, all interfaces together.
    pub(crate) drops: u64,
    /// Begin of the capture, Unix nanoseconds.
    pub(crate) start_nanos: Option<i128>,
    /// Its end.
    pub(crate) end_nanos: Option<i128>,
}

enum Format {
    Pcap(Box<PcapReader<Prefixed>>),
    PcapNg(Box<PcapNgReader<Prefixed>>),
}

/// A frame without its bytes.
struct Record {
    time_nanos: Option<i128>,
    link: u32,
    original_length: u32,
    interface: u32,
    direction: Option<Direction>,
    drops: u64,
}

/// A record, or what is wrong with this one.
type Found = Result<Record, String>;

impl Reader {
    /// Tells the format by its magic number.
    pub(crate) fn open(source: Source) -> Result<Self, String> {
        let (mut magic, mut source) = begin(source)?;
        if magic.starts_with(&GZIP_MAGIC) {
            (magic, source) = begin(Box::new(MultiGzDecoder::new(Cursor::new(magic).chain(source))))?;
        }
        let is_pcapng = magic == PCAPNG_MAGIC;
        let source = Cursor::new(magic).chain(source);
        let format = if is_pcapng {
            let reader =
                PcapNgReader::with_capacity(source, LARGEST_RECORD).map_err(|e| not_a_capture(&e))?;
            Format::PcapNg(Box::new(reader))
        } else {
            let reader = PcapReader::with_capacity(source, LARGEST_RECORD).map_err(|e| not_a_capture(&e))?;
            Format::Pcap(Box::new(reader))
        };
        Ok(Self { format, data: Vec::new(), statistics: Statistics::default() })
    }

    /// The next item, or why none can be read from here on.
    pub(crate) fn next(&mut self) -> Option<Result<Item<'_>, String>> {
        let found = match &mut self.format {
            Format::Pcap(reader) => next_of_pcap(reader, &mut self.data),
            Format::PcapNg(reader) => next_of_pcapng(reader, &mut self.data, &mut self.statistics),
        };
        Some(found?.map(|found| match found {
            Ok(Record { time_nanos, link, original_length, interface, direction, drops }) => {
                let (data, interface) =
                    (self.data.as_slice(), cooked_index(link, &self.data).unwrap_or(interface));
                Item::Frame(Frame { time_nanos, link, original_length, data, interface, direction, drops })
            }
            Err(reason) => Item::Malformed(reason),
        }))
    }

    /// What has been read of the file's statistics; they are at its end.
    pub(crate) fn statistics(&self) -> Statistics {
        self.statistics
    }
}

/// The first bytes of a source, and the rest.
fn begin(mut source: Source) -> Result<(Vec<u8>, Source), String> {
    let mut magic = Vec::with_capacity(PCAPNG_MAGIC.len());
    source.by_ref().take(PCAPNG_MAGIC.len() as u64).read_to_end(&mut magic).map_err(|e| e.to_string())?;
    Ok((magic, source))
}

fn not_a_capture(error: &dyn std::error::Error) -> String {
    format!("not a pcap or pcapng file ({}); `editcap -F pcapng` converts other formats", innermost(error))
}

fn next_of_pcap(reader: &mut PcapReader<Prefixed>, data: &mut Vec<u8>) -> Option<Result<Found, String>> {
    let header = reader.header();
    let unit = if header.ts_resolution == PcapTsResolution::NanoSecond { 1 } else { 1_000 };
    // Raw packets: files whose records exceed the snap length of their header are common and readable.
    Some(match reader.next_raw_packet()? {
        Ok(packet) => {
            data.clear();
            data.extend_from_slice(&packet.data);
            Ok(Ok(Record {
                time_nanos: Some(
                    i128::from(packet.ts_sec) * 1_000_000_000 + i128::from(packet.ts_frac) * unit,
                ),
                link: header.datalink.into(),
                original_length: packet.orig_len,
                interface: 0,
                direction: None,
                drops: 0,
            }))
        }
        Err(PcapReadError::Io(error)) => Err(io_reason(&error)),
        Err(error) => Err(innermost(&error)),
    })
}

fn next_of_pcapng(
    reader: &mut PcapNgReader<Prefixed>,
    data: &mut Vec<u8>,
    statistics: &mut Statistics,
) -> Option<Result<Found, String>> {
    loop {
        let found = match reader.next_raw_block()? {
            // Only what contradicts itself within its block can be stepped over.
            Ok((raw, state)) => match raw.try_into_block(state) {
                Ok(Block::InterfaceStatistics(block)) => {
                    statistics.add(&block.options);
                    None
                }
                Ok(block) => record(&block, state, data),
                Err(error) => Some(Err(innermost(&error))),
            },
            Err(PcapNgReadError::Io(error)) => return Some(Err(io_reason(&error))),
            Err(error) => return Some(Err(innermost(&error))),
        };
        if let Some(found) = found {
            return Some(Ok(found));
        }
    }
}

/// The packet in a block; none in blocks of other kinds.
fn record(block: &Block<'_>, state: &PcapNgState, data: &mut Vec<u8>) -> Option<Found> {
    let (mut direction, mut drops) = (None, 0);
    let (interface, time, original_length, bytes) = match block {
        Block::EnhancedPacket(packet) => {
            (direction, drops) = notes_of(&packet.options);
            (packet.interface_id, Some(packet.timestamp), packet.original_len, &packet.data)
        }
        Block::Packet(packet) => {
            (u32::from(packet.interface_id), Some(packet.timestamp), packet.original_len, &packet.data)
        }
        // Belongs to the first interface, draft-ietf-opsawg-pcapng §4.4.
        Block::SimplePacket(packet) => (0, None, packet.original_len, &packet.data),
        _ => return None,
    };
    let Some(description) = state.interfaces().get(interface as usize) else {
        return Some(Err(format!("interface {interface} is not described in the file")));
    };
    data.clear();
    data.extend_from_slice(bytes);
    let time_nanos = time.and_then(|time| time.as_nanos().try_into().ok());
    let link = description.linktype.into();
    Some(Ok(Record { time_nanos, link, original_length, interface, direction, drops }))
}

/// The interface index of a Linux cooked frame of version 2.
fn cooked_index(link: u32, frame: &[u8]) -> Option<u32> {
    let is_cooked = LinkType::from_dlt(link) == Some(LinkType::LinuxSll2);
    let index = frame.get(4..8).filter(|_| is_cooked)?;
    Some(u32::from_be_bytes(*index.first_chunk()?))
}

/// Direction and drops of a packet: bits 0 and 1 of `epb_flags`, and `epb_dropcount`, draft-ietf-opsawg-pcapng §4.3.
fn notes_of(options: &[EnhancedPacketOption<'_>]) -> (Option<Direction>, u64) {
    let (mut direction, mut drops) = (None, 0_u64);
    for option in options {
        match option {
            EnhancedPacketOption::Flags(flags) if flags & 3 == 1 => direction = Some(Direction::In),
            EnhancedPacketOption::Flags(flags) if flags & 3 == 2 => direction = Some(Direction::Out),
            EnhancedPacketOption::DropCount(count) => drops = drops.saturating_add(*count),
            _ => {}
        }
    }
    (direction, drops)
}

impl Statistics {
    fn add(&mut self, options: &[InterfaceStatisticsOption<'_>]) {
        use InterfaceStatisticsOption::{IsbEndTime, IsbIfDrop, IsbOsDrop, IsbStartTime};
        for option in options {
            match option {
                IsbStartTime(time) => self.start_nanos = time.as_nanos().try_into().ok(),
                IsbEndTime(time) => self.end_nanos = time.as_nanos().try_into().ok(),
                IsbIfDrop(count) | IsbOsDrop(count) => self.drops = self.drops.saturating_add(*count),
                _ => {}
            }
        }
    }
}

fn io_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            "the file ends in the middle of it (copied while being written?), or it is larger than 2 MiB"
                .to_owned()
        }
        _ => error.to_string(),
    }
}

/// The innermost message: the outer ones only repeat that something is wrong.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pcap_file::DataLink;
    use pcap_file::pcapng::PcapNgWriter;
    use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
    use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionBlock;

    use super::*;

    fn pcapng() -> Vec<u8> {
        let mut writer = PcapNgWriter::new(Vec::new()).unwrap();
        writer.write_pcapng_block(InterfaceDescriptionBlock::new(DataLink::RAW, 65_535)).unwrap();
        for seconds in [1, 2] {
            let packet = EnhancedPacketBlock {
                interface_id: 0,
                timestamp: Duration::new(seconds, 123_456_000),
                original_len: 100,
                data: vec![0x45; 20].into(),
                options: Vec::new(),
            };
            writer.write_pcapng_block(packet).unwrap();
        }
        writer.into_inner()
    }

    fn items(bytes: Vec<u8>) -> Vec<Result<String, String>> {
        let mut reader = Reader::open(Box::new(Cursor::new(bytes))).unwrap();
        let mut items = Vec::new();
        while let Some(item) = reader.next() {
            let is_error = item.is_err();
            items.push(item.map(|item| format!("{item:?}")));
            if is_error {
                break;
            }
        }
        items
    }

    #[test]
    fn pcapng_carries_link_type_and_time() {
        let items = items(pcapng());
        assert_eq!(items.len(), 2);
        let first = items[0].as_ref().unwrap();
        assert!(first.contains("time_nanos: Some(1123456000), link: 101, original_length: 100"), "{first}");
    }

    #[test]
    fn a_cut_file_shows_what_is_whole() {
        let mut bytes = pcapng();
        bytes.truncate(bytes.len() - 5);
        let items = items(bytes);
        assert!(
            items[0].is_ok() && items[1].as_ref().unwrap_err().contains("ends in the middle"),
            "{items:?}"
        );
    }

    #[test]
    fn a_packet_that_contradicts_itself_is_stepped_over() {
        let mut bytes = pcapng();
        // Interface id of the first enhanced packet block: 8 bytes into it.
        let block = bytes.windows(4).position(|word| word == [6, 0, 0, 0]).unwrap();
        bytes[block + 8] = 9;
        let items = items(bytes);
        assert_eq!(items.len(), 2, "{items:?}");
        assert!(
            items[0].as_ref().unwrap().contains("Malformed")
                && items[1].as_ref().unwrap().contains("link: 101")
        );
    }

    #[test]
    fn other_files_are_refused() {
        for bytes in [&b""[..], b"abc", b"#!/bin/sh\necho a long enough text file\n", &PCAPNG_MAGIC] {
            let error = Reader::open(Box::new(Cursor::new(bytes.to_vec()))).err().unwrap();
            assert!(error.starts_with("not a pcap or pcapng file"), "{error}");
        }
    }
}
