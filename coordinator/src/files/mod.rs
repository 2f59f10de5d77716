//! Observation files: batches as they came, in append-only files of one capture each.
//!
//! ```text
//! observations/<capture>/<name>.obs = "LSOBSRV" version u8 │ record, record, …
//! record = length u32 │ CRC-32 u32 │ encoded ObservationBatch
//! ```
//! Integers are little-endian. A file is written by one process only and never touched again after it; what lies
//! behind the last batch that the database knows, or in a file that it does not know, is left over from a crash.

mod append;
mod garbage;
mod read;

use std::path::{Path, PathBuf};

pub use append::Appender;
pub use garbage::collect;
pub use read::Reader;

/// First bytes of every observation file: a word and the version of the format.
const MAGIC: &[u8; 8] = b"LSOBSRV\x01";
/// Bytes before a batch: its length and checksum.
const RECORD_HEADER_BYTES: usize = 8;

/// An observation file cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refused.
    #[error("{path}: cannot {action}: {reason}")]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why not.
        reason: std::io::Error,
    },
    /// The bytes are not what was written.
    #[error("observation file {path}, offset {position}: {reason}")]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// Offset of the record.
        position: u64,
        /// What is wrong.
        reason: &'static str,
    },
}

impl FileError {
    fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |reason| Self::Io { path, action, reason }
    }
}

/// The directory that holds the observation files of all captures.
pub fn directory(data_dir: &Path) -> PathBuf {
    data_dir.join("observations")
}

/// Makes the directory and proves that files can be made in it.
pub fn prepare(data_dir: &Path) -> Result<PathBuf, FileError> {
    let directory = directory(data_dir);
    std::fs::create_dir_all(&directory).map_err(FileError::io(&directory, "make the directory"))?;
    let probe = directory.join(".probe");
    std::fs::write(&probe, b"").map_err(FileError::io(&probe, "write"))?;
    std::fs::remove_file(&probe).map_err(FileError::io(&probe, "remove"))?;
    Ok(directory)
}

/// Removes every file of a capture. Nothing to remove is no error.
pub fn remove_capture(directory: &Path, capture: &str) -> Result<(), FileError> {
    let path = directory.join(capture);
    match std::fs::remove_dir_all(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(FileError::io(&path, "remove")(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
