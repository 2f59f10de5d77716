//! Writing groups of batches to files of a directory and making them durable.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{FileError, MAGIC, record};
use crate::limits;
use crate::model::CheckedBatch;
use crate::store::Location;

/// Appends to one open file per capture.
#[derive(Debug)]
pub(super) struct Appender {
    directory: PathBuf,
    incarnation: u64,
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
    /// Writes below `directory`, which exists, to files that carry `incarnation` in their names.
    pub(super) fn new(directory: PathBuf, incarnation: u64) -> Self {
        Self { directory, incarnation, open: HashMap::new(), buffer: Vec::new() }
    }

    /// Writes batches of one capture and syncs; when it returns, every one is on stable storage. After an error none of
    /// them counts, and the file is not written to again.
    pub(super) fn append(
        &mut self,
        capture: &str,
        batches: &[CheckedBatch],
    ) -> Result<Vec<Location>, FileError> {
        let mut open = match self.open.remove(capture) {
            Some(open) if open.position < limits::FILE_BYTES => open,
            _ => OpenFile::create(&self.directory.join(capture), self.incarnation)?,
        };
        let locations = record::locations(&open.name, open.position, batches);
        self.buffer.clear();
        for batch in batches {
            self.buffer.extend_from_slice(&record::header(batch));
            self.buffer.extend_from_slice(&batch.bytes);
        }
        open.write(&self.buffer)?;
        self.open.insert(capture.to_owned(), open);
        Ok(locations)
    }

    /// Lets go of the file of a capture.
    pub(super) fn close(&mut self, capture: &str) {
        self.open.remove(capture);
    }
}

impl OpenFile {
    /// A new file, durable in its directory.
    fn create(directory: &Path, incarnation: u64) -> Result<Self, FileError> {
        std::fs::create_dir_all(directory).map_err(FileError::io(directory, "make the directory"))?;
        let (name, path, mut file) = Self::create_unique(directory, incarnation)?;
        file.write_all(MAGIC).map_err(FileError::io(&path, "write"))?;
        sync_directory(directory)?;
        if let Some(parent) = directory.parent() {
            sync_directory(parent)?;
        }
        Ok(Self { name, path, file, position: record::FIRST })
    }

    fn create_unique(directory: &Path, incarnation: u64) -> Result<(String, PathBuf, File), FileError> {
        let mut number =
            std::fs::read_dir(directory).map_err(FileError::io(directory, "list"))?.count() as u64;
        loop {
            let name = record::file_name(incarnation, number);
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
