//! A batch in a file: its length and checksum, and then itself.

use super::{FileError, MAGIC};
use crate::limits;
use crate::model::CheckedBatch;
use crate::store::Location;

/// Name of a process's file.
pub(super) fn file_name(incarnation: u64, number: u64) -> String {
    format!("{incarnation:016x}-{number:06}.obs")
}

/// Bytes before a batch.
pub(super) const HEADER_BYTES: usize = 8;

/// What precedes the batch.
pub(super) fn header(batch: &CheckedBatch) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&(batch.bytes.len() as u32).to_le_bytes());
    header[4..].copy_from_slice(&batch.checksum.to_le_bytes());
    header
}

/// Where batches lie that follow each other in `file` from `position` on.
pub(super) fn locations(file: &str, mut position: u64, batches: &[CheckedBatch]) -> Vec<Location> {
    let locate = |batch: &CheckedBatch| {
        let length = batch.bytes.len() as u32;
        let location = Location { file: file.to_owned(), position, length, checksum: batch.checksum };
        position += HEADER_BYTES as u64 + u64::from(length);
        location
    };
    batches.iter().map(locate).collect()
}

/// Whether a record is the one that was committed at `location` of the file at `place`.
pub(super) fn check(record: &[u8], location: &Location, place: &str) -> Result<(), FileError> {
    if record.len() < HEADER_BYTES + location.length as usize {
        return Err(corrupt(location, place, "the file ends inside the record"));
    }
    let (header, batch) = record.split_at(HEADER_BYTES);
    if header[..4] != location.length.to_le_bytes() {
        return Err(corrupt(location, place, "the record's length is not the one committed"));
    }
    if header[4..] != location.checksum.to_le_bytes() || crc32fast::hash(batch) != location.checksum {
        return Err(corrupt(location, place, "checksum mismatch: the bytes were damaged"));
    }
    Ok(())
}

/// Whether a batch can have the length that was committed.
pub(super) fn check_length(location: &Location, place: &str) -> Result<(), FileError> {
    if location.length as usize > limits::BATCH_BYTES {
        return Err(corrupt(location, place, "the committed length is not one a batch has"));
    }
    Ok(())
}

pub(super) fn corrupt(location: &Location, place: &str, reason: &'static str) -> FileError {
    FileError::Corrupt { place: place.to_owned(), position: location.position, reason }
}

/// Position of a file's first record.
pub(super) const FIRST: u64 = MAGIC.len() as u64;
