//! Reading batches back, each against its checksum.

use std::collections::VecDeque;
use std::path::Path;
use std::slice;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::FileError;
use super::local::Local;
use super::objects::Objects;
use crate::limits;
use crate::store::StoredBatch;

/// Reads batches of one capture, in the order in which they were asked for.
#[derive(Debug)]
pub struct Reader<'a>(Source<'a>);

#[derive(Debug)]
enum Source<'a> {
    Directory(Local, slice::Iter<'a, StoredBatch>),
    Objects(Ahead<'a>),
}

impl<'a> Reader<'a> {
    pub(super) fn of_directory(directory: &Path, capture: &str, batches: &'a [StoredBatch]) -> Self {
        Self(Source::Directory(Local::new(directory.join(capture)), batches.iter()))
    }

    pub(super) fn of_objects(objects: Objects, capture: &str, batches: &'a [StoredBatch]) -> Self {
        let (capture, batches, coming) = (capture.to_owned(), batches.iter(), VecDeque::new());
        Self(Source::Objects(Ahead { objects, capture, batches, coming, runtime: Handle::current() }))
    }
}

/// The encoded batches. Waits for each.
impl Iterator for Reader<'_> {
    type Item = Result<Bytes, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Source::Directory(local, batches) => Some(local.read(&batches.next()?.location)),
            Source::Objects(ahead) => ahead.next(),
        }
    }
}

/// Asks for a few batches ahead of those that were read, so that the way there and back is waited for once and not for
/// each.
#[derive(Debug)]
struct Ahead<'a> {
    objects: Objects,
    capture: String,
    batches: slice::Iter<'a, StoredBatch>,
    coming: VecDeque<JoinHandle<Result<Bytes, FileError>>>,
    runtime: Handle,
}

impl Ahead<'_> {
    fn next(&mut self) -> Option<Result<Bytes, FileError>> {
        while self.coming.len() < limits::OBJECTS_AHEAD
            && let Some(batch) = self.batches.next()
        {
            let (objects, capture) = (self.objects.clone(), self.capture.clone());
            let location = batch.location.clone();
            let get = async move { objects.get(&capture, &location).await };
            self.coming.push_back(self.runtime.spawn(get));
        }
        let came = self.runtime.block_on(self.coming.pop_front()?);
        Some(came.unwrap_or_else(|error| Err(FileError::Broken(error.to_string()))))
    }
}

impl Drop for Ahead<'_> {
    fn drop(&mut self) {
        self.coming.iter().for_each(JoinHandle::abort);
    }
}
