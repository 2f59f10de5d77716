//! Frames of a pcap or pcapng file, gzipped or not, with bounded memory.

mod bytes;
mod pcap;
mod pcapng;

use std::io::{Cursor, Read};

use flate2::read::MultiGzDecoder;
use lastseen_correlate::topology::Direction;
use lastseen_packet::LinkType;
use pcap_file::pcap::PcapParser;
use pcap_file::pcapng::PcapNgParser;

use self::bytes::{Bytes, Fault};

/// RFC 1952 §2.3.1.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const PCAPNG_MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

type Source = Box<dyn Read>;

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
    bytes: Bytes,
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
    Pcap(PcapParser),
    PcapNg(Box<PcapNgParser>),
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
        let is_zipped = magic.starts_with(&GZIP_MAGIC);
        if is_zipped {
            (magic, source) = begin(Box::new(MultiGzDecoder::new(Cursor::new(magic).chain(source))))?;
        }
        let is_pcapng = magic == PCAPNG_MAGIC;
        let mut bytes = Bytes::new(Box::new(Cursor::new(magic).chain(source)), is_zipped);
        let format = if is_pcapng {
            Format::PcapNg(Box::new(opened(pcapng::open(&mut bytes))?))
        } else {
            Format::Pcap(opened(pcap::open(&mut bytes))?)
        };
        Ok(Self { bytes, format, data: Vec::new(), statistics: Statistics::default() })
    }

    /// The next item, or why none can be read from here on.
    pub(crate) fn next(&mut self) -> Option<Result<Item<'_>, String>> {
        let found = match &mut self.format {
            Format::Pcap(parser) => pcap::next(parser, &mut self.bytes, &mut self.data),
            Format::PcapNg(parser) => {
                pcapng::next(parser, &mut self.bytes, &mut self.data, &mut self.statistics)
            }
        };
        let found = found?.map_err(|fault| fault.to_string());
        Some(found.map(|found| match found {
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

fn opened<T>(header: Option<Result<T, Fault>>) -> Result<T, String> {
    let reason = match header {
        Some(Ok(parser)) => return Ok(parser),
        Some(Err(fault)) => fault.at_begin(),
        None => "it is empty".to_owned(),
    };
    Err(format!("not a pcap or pcapng file ({reason}); `editcap -F pcapng` converts other formats"))
}

/// The interface index of a Linux cooked frame of version 2.
fn cooked_index(link: u32, frame: &[u8]) -> Option<u32> {
    let is_cooked = LinkType::from_dlt(link) == Some(LinkType::LinuxSll2);
    let index = frame.get(4..8).filter(|_| is_cooked)?;
    Some(u32::from_be_bytes(*index.first_chunk()?))
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

    fn pcap(records: u8) -> Vec<u8> {
        let mut bytes = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 101].map(u32::to_le_bytes).concat();
        for second in 0..records {
            bytes.extend([u32::from(second), 0, 20, 100].map(u32::to_le_bytes).concat());
            bytes.extend([0x45; 20]);
        }
        bytes
    }

    /// Items before the first that cannot be read, and what is said of that.
    fn last(bytes: Vec<u8>) -> (usize, String) {
        let items = items(bytes);
        (items.len() - 1, items.last().unwrap().as_ref().unwrap_err().clone())
    }

    #[test]
    fn a_record_of_impossible_length_is_damage_and_no_end() {
        let third = 24 + 2 * 36;
        for (length, said) in
            [(u32::MAX, "4294967311 bytes, 2 MiB at most"), (4_000, "4016 bytes, 108 are left")]
        {
            let mut bytes = pcap(5);
            bytes[third + 8..third + 12].copy_from_slice(&length.to_le_bytes());
            let (whole, fault) = last(bytes);
            let expected = format!("the file is damaged at byte {third}: a record of {said}");
            assert!(whole == 2 && fault.starts_with(&expected), "{whole} {fault}");
        }
        for kept in [third + 7, third + 20] {
            let (whole, fault) = last(pcap(5)[..kept].to_vec());
            assert!(whole == 2 && fault.contains("ends in the middle of it"), "{whole} {fault}");
        }
    }

    #[test]
    fn a_block_of_impossible_length_is_damage_and_no_end() {
        let bytes = pcapng();
        let block = bytes.windows(4).position(|word| word == [6, 0, 0, 0]).unwrap();
        for (length, said) in
            [(0xffff_fff0_u32, "2 MiB at most"), (4_000, "4000 bytes, "), (53, "not a multiple of 4")]
        {
            let mut bytes = bytes.clone();
            bytes[block + 4..block + 8].copy_from_slice(&length.to_le_bytes());
            let (whole, fault) = last(bytes);
            assert!(fault.starts_with(&format!("the file is damaged at byte {block}: ")), "{fault}");
            assert!(whole == 0 && fault.contains(said), "{whole} {fault}");
        }
    }

    #[test]
    fn damage_in_a_packed_file_is_placed_in_what_it_unpacks_to() {
        let mut bytes = pcap(2);
        bytes[24 + 36 + 11] = 0xff;
        let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut zip, &bytes).unwrap();
        let (whole, fault) = last(zip.finish().unwrap());
        assert!(whole == 1 && fault.contains("damaged at byte 60 of what it unpacks to: "), "{fault}");
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
