//! The `columns` field of an observation batch.
//!
//! ```text
//! version u8 = 3 │ rows u32 │ flows u32 │ raw length u32 │ CRC-32 u32 │ zstd( dictionary, column, column, … )
//! ```
//! Integers are little-endian. The checksum covers everything but itself. A column is its rows' differences from what
//! was to be expected, in byte planes. Encoded once, in the agent; stored and forwarded as it is.

mod blocks;
mod columns;
mod flows;
mod planes;
mod wire;

use lastseen_packet::observation::Columns;
use zstd::zstd_safe;

use crate::limits;
use blocks::Compressor;
use planes::{Columnar, Planes};
use wire::Reader;

/// The format this module writes and the only one it reads.
const VERSION: u8 = 3;
const HEADER_BYTES: usize = 17;
const CHECKSUM_AT: usize = 13;

/// What a decoder accepts. Everything above is refused before memory is set aside for it.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Rows of one batch.
    pub rows: u32,
    /// Encoded bytes.
    pub encoded_bytes: usize,
    /// Bytes after decompression.
    pub raw_bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rows: limits::BATCH_ROWS, encoded_bytes: limits::COLUMNS_BYTES, raw_bytes: limits::RAW_BYTES }
    }
}

/// Why a batch cannot be decoded.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BatchError {
    /// The bytes end early.
    #[error("cut short in {0}")]
    Truncated(&'static str),
    /// Bytes remain after the last column or behind the compressed frame.
    #[error("{0} bytes too many")]
    Trailing(usize),
    /// Written by an older or a newer agent.
    #[error(
        "batch format {0}, but this program reads format {VERSION}: use agents and a coordinator of one version"
    )]
    Version(u8),
    /// Damaged on the way or on disk.
    #[error("checksum mismatch: the bytes were damaged")]
    Checksum,
    /// More than [`Limits`] allow.
    #[error("{value} {what}, above the limit of {limit}")]
    Limit {
        /// What was counted.
        what: &'static str,
        /// How much there was.
        value: u64,
        /// How much there may be.
        limit: u64,
    },
    /// The bytes unpack to fewer than the header says.
    #[error("raw bytes: {claimed} claimed, {found} found")]
    Length {
        /// In the header.
        claimed: usize,
        /// After decompression.
        found: usize,
    },
    /// A value that the column cannot hold, or a flow that is not in the dictionary.
    #[error("impossible value in {0}")]
    Value(&'static str),
    /// zstd refused.
    #[error("cannot be compressed or decompressed: {0}")]
    Compression(String),
}

impl From<std::io::Error> for BatchError {
    /// Of what this module calls, only zstd speaks in `io::Error`.
    fn from(error: std::io::Error) -> Self {
        Self::Compression(error.to_string())
    }
}

/// Encodes batches and keeps its buffers from one to the next.
pub struct Encoder {
    raw: Planes,
    headers: Vec<u32>,
    compressor: Compressor,
}

impl Encoder {
    /// A new encoder.
    ///
    /// # Errors
    /// If zstd cannot get its memory.
    pub fn new() -> Result<Self, BatchError> {
        Ok(Self { raw: Planes::default(), headers: Vec::new(), compressor: Compressor::new()? })
    }

    /// Encodes `columns`, which must be consistent ([`Columns::is_consistent`]).
    ///
    /// # Errors
    /// If zstd fails, which it does only without memory.
    pub fn encode(&mut self, columns: &Columns) -> Result<Vec<u8>, BatchError> {
        self.raw.clear();
        flows::encode(&columns.flows, &mut self.raw.bytes);
        self.raw.cut();
        columns::encode(columns, &mut self.headers, &mut self.raw);
        let raw = &self.raw.bytes;
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.push(VERSION);
        for count in [columns.len(), columns.flows.len(), raw.len(), 0] {
            out.extend_from_slice(&(count as u32).to_le_bytes());
        }
        self.compressor.append(raw, &self.raw.cuts, &mut out)?;
        let checksum = checksum(&out);
        out[CHECKSUM_AT..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
        out.shrink_to_fit();
        Ok(out)
    }
}

/// Decodes and checks a batch from an untrusted peer. The result is consistent.
pub fn decode(encoded: &[u8], limits: &Limits) -> Result<Columns, BatchError> {
    within("encoded bytes", encoded.len() as u64, limits.encoded_bytes as u64)?;
    let mut header = Reader::new(encoded);
    let version = header.byte("the header")?;
    if version != VERSION {
        return Err(BatchError::Version(version));
    }
    let [rows, flows, raw_bytes, expected] = header.array("the header")?.map(u32::from_le_bytes);
    if checksum(encoded) != expected {
        return Err(BatchError::Checksum);
    }
    within("rows", rows.into(), limits.rows.into())?;
    within("flows", flows.into(), rows.into())?;
    within("raw bytes", raw_bytes.into(), limits.raw_bytes.into())?;
    let raw = decompress(&encoded[HEADER_BYTES..], raw_bytes as usize)?;
    let mut reader = Reader::new(&raw);
    let mut columns = Columns { flows: flows::decode(&mut reader, flows)?, ..Columns::default() };
    columns::decode(&mut Columnar::new(&mut reader, rows as usize), &mut columns)?;
    match reader.remaining() {
        0 => Ok(columns),
        extra => Err(BatchError::Trailing(extra)),
    }
}

/// What the one frame that `compressed` is unpacks to: `length` bytes, no less and no more. zstd itself would read on in
/// frames that follow.
fn decompress(compressed: &[u8], length: usize) -> Result<Vec<u8>, BatchError> {
    let frame = zstd_safe::find_frame_compressed_size(compressed)
        .map_err(|code| BatchError::Compression(zstd_safe::get_error_name(code).to_owned()))?;
    if frame != compressed.len() {
        return Err(BatchError::Trailing(compressed.len().saturating_sub(frame)));
    }
    let raw = zstd::bulk::decompress(compressed, length)?;
    match raw.len() {
        found if found == length => Ok(raw),
        found => Err(BatchError::Length { claimed: length, found }),
    }
}

fn within(what: &'static str, value: u64, limit: u64) -> Result<(), BatchError> {
    if value <= limit { Ok(()) } else { Err(BatchError::Limit { what, value, limit }) }
}

fn checksum(encoded: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&encoded[..CHECKSUM_AT]);
    hasher.update(&encoded[HEADER_BYTES..]);
    hasher.finalize()
}

#[cfg(test)]
mod tests;
