//! Writing groups of batches and making them durable.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{FileError, MAGIC, RECORD_HEADER_BYTES};
use crate::limits;
use crate::model::CheckedBatch;
use crate::store::Location;

/// Appends to one open file per capture.
#[derive(Debug)]
pub struct Appender {
    directory: PathBuf,
    open: HashMap<String, OpenFile>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct OpenFile {
    name: String,
    path: PathBuf,
    file: File,
    position: u64,
}

impl Appender {
    /// Writes below `directory`, which exists.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, open: HashMap::new(), buffer: Vec::new() }
    }

    /// Writes a group and syncs what it touched; when it returns, every batch is on stable storage. After an error
    /// nothing of the group counts, and its files are not written to again.
    pub fn append(&mut self, group: &[CheckedBatch]) -> Result<Vec<Location>, FileError> {
        let mut locations: Vec<Option<Location>> = vec![None; group.len()];
        let mut captures: Vec<&str> = group.iter().map(|batch| batch.key.capture.as_str()).collect();
        captures.sort_unstable();
        captures.dedup();
        for capture in captures {
            if let Err(error) = self.append_capture(capture, group, &mut locations) {
                self.open.clear();
                return Err(error);
            }
        }
        Ok(locations.into_iter().flatten().collect())
    }

    /// Lets go of the file of a capture.
    pub fn close(&mut self, capture: &str) {
        self.open.remove(capture);
    }

    fn append_capture(
        &mut self,
        capture: &str,
        group: &[CheckedBatch],
        locations: &mut [Option<Location>],
    ) -> Result<(), FileError> {
        let open = match self.open.remove(capture) {
            Some(open) if open.position < limits::FILE_BYTES => open,
            _ => OpenFile::create(&self.directory.join(capture))?,
        };
        let open = self.open.entry(capture.to_owned()).or_insert(open);
        self.buffer.clear();
        for (batch, location) in group.iter().zip(locations).filter(|(batch, _)| batch.key.capture == capture)
        {
            *location = Some(Location {
                file: open.name.clone(),
                position: open.position + self.buffer.len() as u64,
                length: batch.bytes.len() as u32,
                checksum: batch.checksum,
            });
            self.buffer.reserve(RECORD_HEADER_BYTES + batch.bytes.len());
            self.buffer.extend_from_slice(&(batch.bytes.len() as u32).to_le_bytes());
            self.buffer.extend_from_slice(&batch.checksum.to_le_bytes());
            self.buffer.extend_from_slice(&batch.bytes);
        }
        open.write(&self.buffer)
    }
}

impl OpenFile {
    /// A new file with a name that sorts by age, durable in its directory.
    fn create(directory: &Path) -> Result<Self, FileError> {
        std::fs::create_dir_all(directory).map_err(FileError::io(directory, "make the directory"))?;
        let (name, path, mut file) = Self::create_unique(directory)?;
        file.write_all(MAGIC).map_err(FileError::io(&path, "write"))?;
        sync_directory(directory)?;
        if let Some(parent) = directory.parent() {
            sync_directory(parent)?;
        }
        Ok(Self { name, path, file, position: MAGIC.len() as u64 })
    }

    fn create_unique(directory: &Path) -> Result<(String, PathBuf, File), FileError> {
        let mut number = std::fs::read_dir(directory).map_err(FileError::io(directory, "list"))?.count();
        loop {
            let name = format!("{number:06}.obs");
            let path = directory.join(&name);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok((name, path, file)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(FileError::io(&path, "create")(error)),
            }
        }
    }

    fn write(&mut self, records: &[u8]) -> Result<(), FileError> {
        self.file.write_all(records).map_err(FileError::io(&self.path, "write"))?;
        self.file.sync_data().map_err(FileError::io(&self.path, "sync"))?;
        self.position += records.len() as u64;
        Ok(())
    }
}

fn sync_directory(directory: &Path) -> Result<(), FileError> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(FileError::io(directory, "sync"))
}
