//! Observation files: batches as they came, in files of one capture each.
//!
//! ```text
//! <capture>/<incarnation>-<number>.obs = "LSOBSRV" version u8 │ record, record, …
//! record = length u32 │ CRC-32 u32 │ encoded ObservationBatch
//! ```
//! Integers are little-endian. They lie in a directory, where each coordinator appends to files of its own and syncs
//! them, or in an object store, where each group of batches is an object that is written once. A file's name carries the
//! random number of the process that wrote it, so that several coordinators share one place and never one file. What lies
//! behind the last batch that the database knows, or in a file that it does not know, is left over from a crash.

mod append;
mod directory;
mod error;
mod local;
mod objects;
mod read;
mod record;
mod target;
mod write;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub use directory::{prepare, within};
pub use error::FileError;
use objects::Objects;
pub use read::Reader;
pub use target::Environment;
pub use write::{FileWriter, Written};

use crate::store::StoredBatch;

/// First bytes of every observation file: a word and the version of the format.
const MAGIC: &[u8; 8] = b"LSOBSRV\x01";

/// Name of the file that says which database the others belong to.
const MARKER: &str = "fabric";

/// Name of the file that holds the place's own name.
const NAME: &str = "place";

/// A file as its place lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Name, relative to the capture's directory.
    pub file: String,
    /// Size.
    pub bytes: u64,
    /// Last change, on the clock of the place.
    pub modified: SystemTime,
}

/// Where the observation files of all captures lie.
#[derive(Clone, Debug)]
pub struct Files {
    place: Place,
    /// Of this process.
    incarnation: u64,
}

#[derive(Clone, Debug)]
enum Place {
    Directory(PathBuf),
    Objects(Objects),
}

impl Files {
    /// In `directory`, which exists.
    pub fn in_directory(directory: PathBuf) -> Self {
        Self { place: Place::Directory(directory), incarnation: rand::random() }
    }

    /// In the object store that `url` names, without one in `directory`. Proves that it can be written to.
    pub async fn open(
        url: Option<&str>,
        environment: &Environment,
        directory: PathBuf,
    ) -> Result<Self, FileError> {
        let Some(url) = url else { return Ok(Self::in_directory(directory)) };
        let objects = Objects::open(url, environment)?;
        objects.probe().await?;
        Ok(Self { place: Place::Objects(objects), incarnation: rand::random() })
    }

    /// Takes the place for the database that calls itself `fabric`, unless it is another one's.
    pub async fn claim(&self, fabric: &str) -> Result<(), FileError> {
        if self.mark(MARKER, fabric.to_owned()).await? == fabric.as_bytes() {
            return Ok(());
        }
        Err(FileError::Foreign { place: self.to_string(), marker: self.marker(MARKER) })
    }

    /// The name that the place has, given by whoever asked first.
    pub async fn name(&self) -> Result<String, FileError> {
        let name = self.mark(NAME, format!("{:032x}", rand::random::<u128>())).await?;
        Ok(String::from_utf8_lossy(&name).trim().to_owned())
    }

    /// The others keep theirs in the place of this name.
    pub fn elsewhere(&self, expected: String) -> FileError {
        FileError::Elsewhere { place: self.to_string(), marker: self.marker(NAME), expected }
    }

    async fn mark(&self, name: &'static str, contents: String) -> Result<Vec<u8>, FileError> {
        match &self.place {
            Place::Directory(path) => {
                blocking(path, move |path| directory::mark(path, name, &contents)).await
            }
            Place::Objects(objects) => objects.mark(name, &contents).await,
        }
    }

    fn marker(&self, name: &str) -> String {
        format!("{self}/{name}")
    }

    /// The way for new batches.
    pub fn writer(&self) -> FileWriter {
        match &self.place {
            Place::Directory(directory) => FileWriter::to_directory(directory.clone(), self.incarnation),
            Place::Objects(objects) => FileWriter::to_objects(objects.clone(), self.incarnation),
        }
    }

    /// Reads these batches of a capture, in this order. Of an object store, in a thread of a runtime that may block.
    pub fn reader<'a>(&self, capture: &str, batches: &'a [StoredBatch]) -> Reader<'a> {
        match &self.place {
            Place::Directory(directory) => Reader::of_directory(directory, capture, batches),
            Place::Objects(objects) => Reader::of_objects(objects.clone(), capture, batches),
        }
    }

    /// Captures that have files, or had some. What else lies there is none of ours.
    pub async fn captures(&self) -> Result<Vec<String>, FileError> {
        let mut names = match &self.place {
            Place::Directory(path) => blocking(path, directory::captures).await?,
            Place::Objects(objects) => objects.captures().await?,
        };
        names.retain(|name| is_capture(name));
        Ok(names)
    }

    /// The files of a capture.
    pub async fn list(&self, capture: &str) -> Result<Vec<Listed>, FileError> {
        match &self.place {
            Place::Directory(path) => blocking(&path.join(capture), directory::list).await,
            Place::Objects(objects) => objects.list(capture).await,
        }
    }

    /// Removes some files of a capture. One that is gone already is no error.
    pub async fn remove(&self, capture: &str, files: Vec<String>) -> Result<(), FileError> {
        match &self.place {
            Place::Directory(path) => {
                blocking(&path.join(capture), move |path| directory::remove(path, &files)).await
            }
            Place::Objects(objects) => objects.remove(capture, files).await,
        }
    }

    /// Removes every file of a capture. Nothing to remove is no error.
    pub async fn remove_capture(&self, capture: &str) -> Result<(), FileError> {
        match &self.place {
            Place::Directory(path) => blocking(&path.join(capture), directory::remove_all).await,
            Place::Objects(objects) => objects.remove_capture(capture).await,
        }
    }
}

/// The directory or URL.
impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Directory(directory) => write!(f, "{}", directory.display()),
            Place::Objects(objects) => f.write_str(objects.url()),
        }
    }
}

/// Runs `work` on a path where it may block.
async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce(&Path) -> Result<T, FileError> + Send + 'static,
) -> Result<T, FileError> {
    let path = path.to_owned();
    let done = tokio::task::spawn_blocking(move || work(&path)).await;
    done.unwrap_or_else(|error| Err(FileError::Broken(error.to_string())))
}

/// Whether a name may be the id of a capture.
fn is_capture(name: &str) -> bool {
    let letters = name.strip_prefix("c-").unwrap_or_default();
    !letters.is_empty() && letters.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// Whether a name is one of an observation file.
fn is_file(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "obs")
}

#[cfg(test)]
mod tests;
