//! The coordinator's files in a directory, without object stores.

#[path = "../../../coordinator/src/files/append.rs"]
#[allow(dead_code, reason = "the coordinator uses more of it")]
mod append;
#[path = "../../../coordinator/src/files/error.rs"]
#[allow(dead_code, reason = "the coordinator uses more of it")]
mod error;
#[path = "../../../coordinator/src/files/local.rs"]
mod local;
#[path = "../../../coordinator/src/files/record.rs"]
#[allow(dead_code, reason = "the coordinator uses more of it")]
mod record;

use std::path::Path;

use bytes::Bytes;
pub use error::FileError;

use crate::model::CheckedBatch;
use crate::store::Location;

/// As the coordinator's.
const MAGIC: &[u8; 8] = b"LSOBSRV\x01";

/// Writes batches of one capture.
pub fn append(directory: &Path, capture: &str, batches: &[CheckedBatch]) -> Vec<Location> {
    append::Appender::new(directory.to_owned(), 7).append(capture, batches).unwrap()
}

/// Reads what lies at these places of a capture's files.
pub fn read(directory: &Path, capture: &str, places: &[Location]) -> Vec<Result<Bytes, FileError>> {
    let mut local = local::Local::new(directory.join(capture));
    places.iter().map(|place| local.read(place)).collect()
}
