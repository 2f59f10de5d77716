//! Blocks of the pcapng format, draft-ietf-opsawg-pcapng.

use lastseen_correlate::topology::Direction;
use pcap_file::Endianness;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
use pcap_file::pcapng::{Block, PcapNgParseError, PcapNgParser, PcapNgState};

use super::bytes::{Bytes, Fault, Refusal, innermost};
use super::{Found, Record, Statistics};

/// Shortest block, bytes.
const SHORTEST: usize = 12;
/// Type of an enhanced packet block, where its captured length is, and where the packet begins, §4.3.
const ENHANCED: (u32, usize, usize) = (6, 20, 28);

/// The first section's header.
pub(super) fn open(bytes: &mut Bytes) -> Option<Result<PcapNgParser, Fault>> {
    bytes.next(|held| match PcapNgParser::new(held) {
        Ok((rest, parser)) => Ok((parser, held.len() - rest.len())),
        Err(error) => Err(refusal(Endianness::Big, held, &error)),
    })
}

/// The next packet, whose bytes are put into `data`.
pub(super) fn next(
    parser: &mut PcapNgParser,
    bytes: &mut Bytes,
    data: &mut Vec<u8>,
    statistics: &mut Statistics,
) -> Option<Result<Found, Fault>> {
    loop {
        let found = bytes.next(|held| {
            let endianness = parser.section().endianness;
            match parser.next_raw_block(held) {
                Ok((rest, raw)) => {
                    // Only what contradicts itself within its block can be stepped over.
                    let found = match raw.try_into_block(parser.state()) {
                        Ok(Block::InterfaceStatistics(block)) => {
                            statistics.add(&block.options);
                            None
                        }
                        Ok(block) => record(&block, parser.state(), data),
                        Err(error) => Some(Err(innermost(&error))),
                    };
                    Ok((found, held.len() - rest.len()))
                }
                Err(error) => Err(refusal(endianness, held, &error)),
            }
        });
        match found? {
            Ok(None) => {}
            Ok(Some(found)) => return Some(Ok(found)),
            Err(fault) => return Some(Err(fault)),
        }
    }
}

fn refusal(endianness: Endianness, held: &[u8], error: &PcapNgParseError) -> Refusal {
    match error {
        PcapNgParseError::IncompleteBuffer(..) if held.len() < SHORTEST => {
            Refusal::Incomplete { length: SHORTEST, is_contradictory: false }
        }
        // Without type and length.
        PcapNgParseError::IncompleteBuffer(rest, _) => {
            Refusal::Incomplete { length: rest + 8, is_contradictory: ends_earlier(endianness, held) }
        }
        error => Refusal::Invalid(innermost(error)),
    }
}

/// True for a packet's block that has a second length right behind the packet, and ends there by that.
fn ends_earlier(endianness: Endianness, held: &[u8]) -> bool {
    let word = |at: usize| {
        let word = *held.get(at..)?.first_chunk()?;
        Some(match endianness {
            Endianness::Big => u32::from_be_bytes(word),
            Endianness::Little => u32::from_le_bytes(word),
        })
    };
    let (kind, captured, packet) = ENHANCED;
    let Some(captured) = word(captured).filter(|_| word(0) == Some(kind)) else { return false };
    let Some(behind) = (captured as usize).checked_next_multiple_of(4).and_then(|c| c.checked_add(packet))
    else {
        return false;
    };
    word(behind).is_some_and(|length| length as usize == behind + size_of::<u32>())
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
        // Belongs to the first interface, §4.4.
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

/// Direction and drops of a packet: bits 0 and 1 of `epb_flags`, and `epb_dropcount`, §4.3.
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
