//! The encoded columns of a batch, taken apart and put together as no agent would.

use lastseen_proto::v1;
use zstd::bulk::{compress, decompress};

/// The documented layout: version, rows, flows and raw length, then the checksum, then the compressed columns.
const CHECKSUM_AT: usize = 13;
const HEADER_BYTES: usize = 17;
/// More than any batch here unpacks to.
const MOST_RAW_BYTES: usize = 1 << 24;

/// Columns whose header says what the test wants, under a right checksum.
#[derive(Clone, Debug)]
pub struct Forged {
    pub version: u8,
    pub rows: u32,
    pub flows: u32,
    pub raw_bytes: u32,
    pub compressed: Vec<u8>,
}

impl Forged {
    /// What a good batch says.
    pub fn of(batch: &v1::ObservationBatch) -> Self {
        let columns = &batch.columns;
        let count = |at: usize| u32::from_le_bytes(columns[at..at + 4].try_into().unwrap());
        let compressed = columns[HEADER_BYTES..].to_vec();
        Self { version: columns[0], rows: count(1), flows: count(5), raw_bytes: count(9), compressed }
    }

    /// The columns before compression.
    pub fn raw(&self) -> Vec<u8> {
        decompress(&self.compressed, MOST_RAW_BYTES).unwrap()
    }

    /// With these in their place, and their length in the header.
    pub fn with_raw(mut self, raw: &[u8]) -> Self {
        self.raw_bytes = raw.len() as u32;
        self.compressed = compress(raw, 19).unwrap();
        self
    }

    pub fn sealed(&self) -> Vec<u8> {
        let mut bytes = vec![self.version];
        for count in [self.rows, self.flows, self.raw_bytes, 0] {
            bytes.extend(count.to_le_bytes());
        }
        bytes.extend(&self.compressed);
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&bytes[..CHECKSUM_AT]);
        hasher.update(&bytes[HEADER_BYTES..]);
        bytes[CHECKSUM_AT..HEADER_BYTES].copy_from_slice(&hasher.finalize().to_le_bytes());
        bytes
    }
}

/// A frame of a few bytes that declares a tebibyte and holds one block of zeros (RFC 8878 §3.1.1).
pub fn boastful_frame() -> Vec<u8> {
    const SINGLE_SEGMENT_AND_EIGHT_BYTES_OF_SIZE: u8 = 0b1110_0000;
    const LAST_AND_REPEATED: u32 = 0b011;
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, SINGLE_SEGMENT_AND_EIGHT_BYTES_OF_SIZE];
    frame.extend((1_u64 << 40).to_le_bytes());
    frame.extend(&((128_u32 << 10) << 3 | LAST_AND_REPEATED).to_le_bytes()[..3]);
    frame.push(0);
    frame
}
