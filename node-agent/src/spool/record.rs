//! One batch as it lies in a segment file.
//!
//! ```text
//! segment = "LSSPOOL" version u8 │ record, record, …
//! record  = "LSBR" │ length u32 │ CRC-32 of the batch u32 │ CRC-32 of the twelve bytes before u32 │ ObservationBatch
//! ```
//! Integers are little-endian. The header has a checksum of its own, so that a length is believed only if it is what was
//! written: behind a damaged batch the next one is found at once, behind a damaged header by looking for another.

use bytes::Bytes;
use lastseen_proto::limits::BATCH_BYTES;
use lastseen_proto::v1::ObservationBatch;
use prost::Message;

/// First bytes of every segment: a word and the version of the format.
pub(super) const FILE_MAGIC: &[u8; 8] = b"LSSPOOL\x01";
/// First bytes of every record.
const MAGIC: &[u8; 4] = b"LSBR";
/// Bytes before a batch.
pub(super) const HEADER_BYTES: usize = 16;
/// The longest record.
pub(super) const LONGEST_BYTES: usize = HEADER_BYTES + BATCH_BYTES;

/// What a sound header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    length: usize,
    checksum: u32,
}

/// A record of `batch`. Absent if it is longer than a batch may be.
pub(super) fn encode(batch: &ObservationBatch) -> Option<Vec<u8>> {
    let length = batch.encoded_len();
    if length > BATCH_BYTES {
        return None;
    }
    let mut record = Vec::with_capacity(HEADER_BYTES + length);
    record.resize(HEADER_BYTES, 0);
    batch.encode(&mut record).ok()?;
    let (header, body) = record.split_at_mut(HEADER_BYTES);
    header[..4].copy_from_slice(MAGIC);
    header[4..8].copy_from_slice(&(body.len() as u32).to_le_bytes());
    header[8..12].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
    let checksum = crc32fast::hash(&header[..12]);
    header[12..].copy_from_slice(&checksum.to_le_bytes());
    Some(record)
}

/// The batch in a whole record. An error says what is damaged.
pub(super) fn decode(record: &Bytes) -> Result<ObservationBatch, &'static str> {
    let header = header(record).ok_or("its header is not what was written")?;
    let body = record.slice(HEADER_BYTES..);
    if body.len() != header.length {
        return Err("it is cut off");
    }
    if crc32fast::hash(&body) != header.checksum {
        return Err("its checksum is wrong");
    }
    ObservationBatch::decode(body).map_err(|_| "it holds no batch")
}

fn header(bytes: &[u8]) -> Option<Header> {
    let bytes = bytes.get(..HEADER_BYTES)?;
    let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let length = word(4) as usize;
    let is_sound = bytes[..4] == *MAGIC && crc32fast::hash(&bytes[..12]) == word(12) && length <= BATCH_BYTES;
    is_sound.then(|| Header { length, checksum: word(8) })
}

/// Hands every record of a segment to `found`: its offset, its length and its batch, or what is damaged there. Each byte
/// is looked at a bounded number of times, and nothing is allocated by what a length says.
pub(super) fn scan(
    segment: &Bytes,
    found: &mut impl FnMut(usize, usize, Result<ObservationBatch, &'static str>),
) {
    let mut at = FILE_MAGIC.len();
    while at < segment.len() {
        let Some(header) = header(&segment[at..]) else {
            let next = (at + 1..segment.len()).find(|next| header(&segment[*next..]).is_some());
            let next = next.unwrap_or(segment.len());
            found(at, next - at, Err("what lies there is no record"));
            at = next;
            continue;
        };
        let length = HEADER_BYTES + header.length;
        if length > segment.len() - at {
            // Records are claimed one behind the other: nothing follows.
            return found(at, segment.len() - at, Err("it is cut off"));
        }
        found(at, length, decode(&segment.slice(at..at + length)));
        at += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(fill: u8, bytes: usize) -> ObservationBatch {
        ObservationBatch { columns: vec![fill; bytes].into(), rows: 1, ..Default::default() }
    }

    /// A segment of these batches, and where each begins.
    fn segment(batches: &[ObservationBatch]) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut starts) = (FILE_MAGIC.to_vec(), Vec::new());
        for batch in batches {
            starts.push(bytes.len());
            bytes.extend(encode(batch).unwrap());
        }
        (bytes, starts)
    }

    /// Sound batches, and offset and length of what is damaged.
    fn scanned(bytes: Vec<u8>) -> (Vec<ObservationBatch>, Vec<(usize, usize)>) {
        let (mut sound, mut damaged) = (Vec::new(), Vec::new());
        scan(&bytes.into(), &mut |at, length, batch| match batch {
            Ok(batch) => sound.push(batch),
            Err(_) => damaged.push((at, length)),
        });
        (sound, damaged)
    }

    #[test]
    fn what_was_written_is_read() {
        let batches = [batch(1, 0), batch(2, 5_000), batch(3, 17)];
        assert_eq!(scanned(segment(&batches).0), (batches.to_vec(), vec![]));
        assert!(encode(&batch(1, BATCH_BYTES)).is_none());
    }

    #[test]
    fn a_torn_tail_costs_the_last_record_alone_wherever_it_is_torn() {
        let batches = [batch(1, 40), batch(2, 90)];
        let (bytes, starts) = segment(&batches);
        for end in starts[1] + 1..bytes.len() {
            let (sound, damaged) = scanned(bytes[..end].to_vec());
            assert_eq!((sound, damaged), (batches[..1].to_vec(), vec![(starts[1], end - starts[1])]));
        }
        assert_eq!(scanned(bytes[..starts[1]].to_vec()), (batches[..1].to_vec(), vec![]));
    }

    #[test]
    fn any_flipped_byte_costs_the_record_it_is_in_alone() {
        let batches = [batch(1, 40), batch(2, 90), batch(3, 40)];
        let (bytes, starts) = segment(&batches);
        for at in starts[1]..starts[2] {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x40;
            let (sound, damaged) = scanned(flipped);
            assert_eq!(sound, [batches[0].clone(), batches[2].clone()], "byte {at}");
            assert_eq!(damaged, [(starts[1], starts[2] - starts[1])]);
        }
    }

    #[test]
    fn a_length_from_nowhere_is_not_believed() {
        let batches = [batch(1, 40), batch(2, 90)];
        let (bytes, starts) = segment(&batches);
        for length in [u32::MAX, BATCH_BYTES as u32 + 1, BATCH_BYTES as u32, 0] {
            for is_signed in [false, true] {
                let mut hostile = bytes.clone();
                let header = &mut hostile[starts[0]..starts[0] + HEADER_BYTES];
                header[4..8].copy_from_slice(&length.to_le_bytes());
                if is_signed {
                    let checksum = crc32fast::hash(&header[..12]);
                    header[12..].copy_from_slice(&checksum.to_le_bytes());
                }
                let (sound, damaged) = scanned(hostile);
                assert!(!sound.contains(&batches[0]) && !damaged.is_empty(), "{length} {is_signed}");
            }
        }
    }

    #[test]
    fn a_hole_is_skipped() {
        let (mut bytes, _) = segment(&[batch(1, 40)]);
        let hole = bytes.len();
        bytes.extend([0; 500]);
        bytes.extend(encode(&batch(2, 40)).unwrap());
        assert_eq!(scanned(bytes), (vec![batch(1, 40), batch(2, 40)], vec![(hole, 500)]));
    }

    #[test]
    fn a_batch_is_read_back_from_a_record_and_from_nothing_else() {
        let record = Bytes::from(encode(&batch(9, 30)).unwrap());
        assert_eq!(decode(&record), Ok(batch(9, 30)));
        assert_eq!(decode(&record.slice(..record.len() - 1)), Err("it is cut off"));
        assert!(decode(&record.slice(1..)).is_err());
        assert!(decode(&Bytes::new()).is_err());
    }
}
