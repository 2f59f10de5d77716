//! Observation files in an object store: each is written once, and stays as it is until it is removed.

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::{Path, PathPart};
use object_store::{Error, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload};
use tokio_stream::StreamExt as _;

use super::target::{Environment, Target};
use super::{FileError, Listed, MAGIC, directory, record};
use crate::limits;
use crate::model::CheckedBatch;
use crate::store::Location;

const AWAY: &str = "check that the object store can be reached, and the credentials in the environment";
const DENIED: &str =
    "check the credentials in the environment, and that they allow to list, read, write and delete";
const NO_BUCKET: &str = "check that the bucket exists";
/// Bytes of a store's answer that are repeated.
const REASON_BYTES: usize = 300;
/// Proves that objects can be made.
const PROBE: &str = "probe";

/// One object store, or a part of it.
#[derive(Clone, Debug)]
pub(super) struct Objects {
    target: Arc<Target>,
    /// Gives up soon: agents keep what is not stored.
    writing: Arc<dyn ObjectStore>,
    /// Waits longer: nobody repeats a correlation run.
    reading: Arc<dyn ObjectStore>,
}

impl Objects {
    /// Asks no server yet.
    pub(super) fn open(url: &str, environment: &Environment) -> Result<Self, FileError> {
        let target = Target::parse(url)?;
        Ok(Self {
            writing: target.connect(environment, limits::OBJECT_WRITE_PATIENCE)?,
            reading: target.connect(environment, limits::OBJECT_READ_PATIENCE)?,
            target: Arc::new(target),
        })
    }

    pub(super) fn url(&self) -> &str {
        &self.target.url
    }

    /// Writes, lists and removes an object.
    pub(super) async fn probe(&self) -> Result<(), FileError> {
        let path = self.target.prefix.clone().join(format!("{PROBE}-{:016x}", rand::random::<u64>()));
        self.writing.put(&path, PutPayload::new()).await.map_err(self.failed(&path, "write"))?;
        self.captures().await?;
        self.writing.delete(&path).await.map_err(self.failed(&path, "remove"))
    }

    /// Makes the object `name` with these contents, unless it is there; returns what is in it.
    pub(super) async fn mark(&self, name: &str, contents: &str) -> Result<Vec<u8>, FileError> {
        let path = self.target.prefix.clone().join(name);
        let read = async || self.writing.get(&path).await?.bytes().await;
        let found = match read().await {
            Err(Error::NotFound { .. }) => {
                let contents = PutPayload::from(contents.to_owned());
                match self.writing.put_opts(&path, contents, PutMode::Create.into()).await {
                    Ok(_) | Err(Error::AlreadyExists { .. }) => {}
                    Err(error) => return Err(self.failed(&path, "write")(error)),
                }
                read().await
            }
            found => found,
        };
        Ok(found.map_err(self.failed(&path, "read"))?.to_vec())
    }

    /// Writes an object of these batches. When it returns, every one is on stable storage.
    pub(super) async fn put(
        &self,
        capture: &str,
        file: &str,
        batches: &[CheckedBatch],
    ) -> Result<Vec<Location>, FileError> {
        let path = self.path(capture).join(file);
        let records = batches
            .iter()
            .flat_map(|batch| [Bytes::copy_from_slice(&record::header(batch)), batch.bytes.clone()]);
        let payload: PutPayload = std::iter::once(Bytes::from_static(MAGIC)).chain(records).collect();
        self.writing.put(&path, payload).await.map_err(self.failed(&path, "write"))?;
        Ok(record::locations(file, record::FIRST, batches))
    }

    /// The batch at `location`.
    pub(super) async fn get(&self, capture: &str, location: &Location) -> Result<Bytes, FileError> {
        let path = self.path(capture).join(location.file.as_str());
        let end = location.position + record::HEADER_BYTES as u64 + u64::from(location.length);
        let place = self.shown(&path);
        record::check_length(location, &place)?;
        match self.reading.get_range(&path, location.position..end).await {
            Ok(bytes) => {
                record::check(&bytes, location, &place)?;
                Ok(bytes.slice(record::HEADER_BYTES..))
            }
            Err(error) => match self.reading.head(&path).await {
                Ok(found) if found.size < end => {
                    Err(record::corrupt(location, &place, "the file ends inside the record"))
                }
                _ => Err(self.failed(&path, "read")(error)),
            },
        }
    }

    pub(super) async fn captures(&self) -> Result<Vec<String>, FileError> {
        let prefix = &self.target.prefix;
        let listed = self.writing.list_with_delimiter(Some(prefix)).await;
        let listed = listed.map_err(self.failed(prefix, "list"))?;
        let last = |path: &Path| path.parts().next_back().map(|part| part.as_ref().to_owned());
        Ok(listed.common_prefixes.iter().filter_map(last).collect())
    }

    pub(super) async fn list(&self, capture: &str) -> Result<Vec<Listed>, FileError> {
        let path = self.path(capture);
        let (mut objects, mut found) = (self.writing.list(Some(&path)), Vec::new());
        while let Some(object) = objects.next().await {
            let object = object.map_err(self.failed(&path, "list"))?;
            let Some(file) = object.location.filename().filter(|file| super::is_file(file)) else { continue };
            let (file, modified) = (file.to_owned(), object.last_modified.into());
            found.push(Listed { file, bytes: object.size, modified });
        }
        Ok(found)
    }

    pub(super) async fn remove(&self, capture: &str, files: Vec<String>) -> Result<(), FileError> {
        let directory = self.path(capture);
        let paths: Vec<_> = files.into_iter().map(|file| Ok(directory.clone().join(file))).collect();
        let mut removed = self.writing.delete_stream(Box::pin(tokio_stream::iter(paths)));
        while let Some(removed) = removed.next().await {
            match removed {
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(self.failed(&directory, "remove")(error)),
            }
        }
        Ok(())
    }

    pub(super) async fn remove_capture(&self, capture: &str) -> Result<(), FileError> {
        let files = self.list(capture).await?;
        self.remove(capture, files.into_iter().map(|listed| listed.file).collect()).await?;
        // What a crash left of an upload is not listed.
        if let Some(root) = self.target.root() {
            super::blocking(&root.join(capture), directory::remove_all).await?;
        }
        Ok(())
    }

    fn path(&self, capture: &str) -> Path {
        self.target.prefix.clone().join(PathPart::from(capture))
    }

    fn shown(&self, path: &Path) -> String {
        let below = path.as_ref().strip_prefix(self.target.prefix.as_ref()).unwrap_or_default();
        let separator = if below.is_empty() || below.starts_with('/') { "" } else { "/" };
        format!("{}{separator}{below}", self.target.url)
    }

    fn failed(&self, path: &Path, action: &'static str) -> impl FnOnce(Error) -> FileError + use<> {
        let url = self.shown(path);
        move |error| {
            let advice = match &error {
                Error::NotFound { .. } if action == "read" => return FileError::Gone { url },
                Error::NotFound { .. } => NO_BUCKET,
                Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => DENIED,
                _ => AWAY,
            };
            FileError::Object { url, action, reason: reason(&error), advice }
        }
    }
}

/// What the system or the server said, without the client's words around it, on one line.
fn reason(error: &Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let said = innermost.to_string();
    let mut line = said.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() > REASON_BYTES {
        line.truncate(line.floor_char_boundary(REASON_BYTES));
        line.push('…');
    }
    line
}
