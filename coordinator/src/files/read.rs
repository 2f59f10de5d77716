//! Reading single batches back, each against its checksum.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{FileError, MAGIC, RECORD_HEADER_BYTES};
use crate::store::Location;

/// Reads the batches of one capture.
#[derive(Debug)]
pub struct Reader {
    directory: PathBuf,
    open: HashMap<String, File>,
}

impl Reader {
    /// Of a capture whose files lie below `directory`.
    pub fn new(directory: &Path, capture: &str) -> Self {
        Self { directory: directory.join(capture), open: HashMap::new() }
    }

    /// The encoded batch at `location`.
    pub fn read(&mut self, location: &Location) -> Result<Vec<u8>, FileError> {
        let path = self.directory.join(&location.file);
        let file = match self.open.entry(location.file.clone()) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(open(&path)?),
        };
        let corrupt = |reason| FileError::Corrupt { path: path.clone(), position: location.position, reason };
        let mut record = vec![0; RECORD_HEADER_BYTES + location.length as usize];
        file.read_exact_at(&mut record, location.position).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => corrupt("the file ends inside the record"),
            _ => FileError::io(&path, "read")(error),
        })?;
        let batch = record.split_off(RECORD_HEADER_BYTES);
        if record[..4] != location.length.to_le_bytes() {
            return Err(corrupt("the record's length is not the one committed"));
        }
        if record[4..] != location.checksum.to_le_bytes() || crc32fast::hash(&batch) != location.checksum {
            return Err(corrupt("checksum mismatch: the bytes were damaged"));
        }
        Ok(batch)
    }
}

fn open(path: &Path) -> Result<File, FileError> {
    let file = File::open(path).map_err(FileError::io(path, "open"))?;
    let mut magic = [0; MAGIC.len()];
    match file.read_exact_at(&mut magic, 0) {
        Ok(()) if &magic == MAGIC => Ok(file),
        Ok(()) | Err(_) => Err(FileError::Corrupt {
            path: path.to_owned(),
            position: 0,
            reason: "it does not begin as an observation file of this version",
        }),
    }
}
