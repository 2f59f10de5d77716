//! Records of the pcap format.

use pcap_file::Endianness;
use pcap_file::pcap::{PcapHeader, PcapParseError, PcapParser, PcapTsResolution, RawPcapPacket};

use super::bytes::{Bytes, Fault, Refusal, innermost};
use super::{Found, Record};

/// Length of a record's header, bytes.
const HEADER: usize = 16;
/// libpcap's largest snap length, bytes. Files whose records exceed the snap length of their header are common.
const LARGEST_SNAP: u32 = 1 << 18;

/// The header of the file.
pub(super) fn open(bytes: &mut Bytes) -> Option<Result<PcapParser, Fault>> {
    bytes.next(|held| match PcapParser::new(held) {
        Ok((rest, parser)) => Ok((parser, held.len() - rest.len())),
        Err(PcapParseError::IncompleteBuffer(length, _)) => {
            Err(Refusal::Incomplete { length, is_contradictory: false })
        }
        Err(error) => Err(Refusal::Invalid(innermost(&error))),
    })
}

/// The next record, whose bytes are put into `data`.
pub(super) fn next(
    parser: &PcapParser,
    bytes: &mut Bytes,
    data: &mut Vec<u8>,
) -> Option<Result<Found, Fault>> {
    let header = parser.header();
    bytes.next(|held| match parser.next_raw_packet(held) {
        Ok((rest, packet)) => {
            data.clear();
            data.extend_from_slice(&packet.data);
            Ok((Ok(record(&header, &packet)), held.len() - rest.len()))
        }
        Err(error) => Err(refusal(&header, held, &error)),
    })
}

fn record(header: &PcapHeader, packet: &RawPcapPacket<'_>) -> Record {
    let unit = if header.ts_resolution == PcapTsResolution::NanoSecond { 1 } else { 1_000 };
    Record {
        time_nanos: Some(i128::from(packet.ts_sec) * 1_000_000_000 + i128::from(packet.ts_frac) * unit),
        link: header.datalink.into(),
        original_length: packet.orig_len,
        interface: 0,
        direction: None,
        drops: 0,
    }
}

fn refusal(header: &PcapHeader, held: &[u8], error: &PcapParseError) -> Refusal {
    let PcapParseError::IncompleteBuffer(captured, _) = error else {
        return Refusal::Invalid(innermost(error));
    };
    let Some(original) = held.get(12..HEADER).and_then(|word| word.first_chunk()) else {
        return Refusal::Incomplete { length: HEADER, is_contradictory: false };
    };
    let original = match header.endianness {
        Endianness::Big => u32::from_be_bytes(*original),
        Endianness::Little => u32::from_le_bytes(*original),
    };
    let most = original.min(header.snaplen.max(LARGEST_SNAP));
    Refusal::Incomplete { length: captured + HEADER, is_contradictory: *captured > most as usize }
}
