//! Reading records of the files of one directory.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{FileError, MAGIC, record};
use crate::store::Location;

/// Keeps the files open that it has read from.
#[derive(Debug)]
pub(super) struct Local {
    directory: PathBuf,
    open: HashMap<String, File>,
}

impl Local {
    /// Of one capture's directory.
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, open: HashMap::new() }
    }

    /// The encoded batch at `location`.
    pub(super) fn read(&mut self, location: &Location) -> Result<Bytes, FileError> {
        let path = self.directory.join(&location.file);
        let file = match self.open.entry(location.file.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(open(&path)?),
        };
        let place = path.display().to_string();
        // No more is set aside than a batch can have.
        record::check_length(location, &place)?;
        let mut record = vec![0; record::HEADER_BYTES + location.length as usize];
        file.read_exact_at(&mut record, location.position).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                record::corrupt(location, &place, "the file ends inside the record")
            }
            _ => FileError::io(&path, "read")(error),
        })?;
        record::check(&record, location, &place)?;
        Ok(Bytes::from(record).slice(record::HEADER_BYTES..))
    }
}

fn open(path: &Path) -> Result<File, FileError> {
    let file = File::open(path).map_err(FileError::io(path, "open"))?;
    let mut magic = [0; MAGIC.len()];
    match file.read_exact_at(&mut magic, 0) {
        Ok(()) if &magic == MAGIC => Ok(file),
        Ok(()) | Err(_) => Err(FileError::Corrupt {
            place: path.display().to_string(),
            position: 0,
            reason: "it does not begin as an observation file of this version",
        }),
    }
}
