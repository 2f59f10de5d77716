//! Getting files from the page cache to the disk, away from those who write them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::mem::take;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// What waits to be synced. Its size is bounded by the number of segments.
#[derive(Default)]
struct Dirty {
    segments: BTreeSet<u64>,
    is_closed: bool,
}

struct Shared {
    directory: PathBuf,
    dirty: Mutex<Dirty>,
    changed: Condvar,
}

/// A thread that syncs segments.
pub(super) struct Syncer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Syncer {
    pub(super) fn start(directory: &Path) -> io::Result<Self> {
        let (dirty, changed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { directory: directory.to_owned(), dirty, changed });
        let theirs = shared.clone();
        let run = move || theirs.run();
        let thread = std::thread::Builder::new().name("spool-sync".into()).spawn(run)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Has a segment synced soon. Many at once cost one sync.
    pub(super) fn soon(&self, segment: u64) {
        self.shared.lock().segments.insert(segment);
        self.shared.changed.notify_one();
    }
}

impl Drop for Syncer {
    /// Finishes what was asked for.
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.changed.notify_one();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn run(&self) {
        let mut is_well = true;
        while let Some(segments) = self.next() {
            let synced = all(&self.directory, &segments);
            if let Some(error) = synced.as_ref().err().filter(|_| is_well) {
                complain(&self.directory, error);
            }
            is_well = synced.is_ok();
        }
    }

    /// Absent once it is over.
    fn next(&self) -> Option<Vec<u64>> {
        let idle = |dirty: &mut Dirty| dirty.segments.is_empty() && !dirty.is_closed;
        let waited = self.changed.wait_while(self.lock(), idle);
        let mut dirty = waited.unwrap_or_else(PoisonError::into_inner);
        (!dirty.segments.is_empty()).then(|| take(&mut dirty.segments).into_iter().collect())
    }

    fn lock(&self) -> MutexGuard<'_, Dirty> {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Syncs these segments, and then the directory: a name is durable when that is.
pub(super) fn all(directory: &Path, segments: &[u64]) -> io::Result<()> {
    segments.iter().try_for_each(|segment| one(directory, *segment))?;
    File::open(directory)?.sync_all()
}

/// What is gone was delivered.
fn one(directory: &Path, segment: u64) -> io::Result<()> {
    match super::segment::open(directory, segment) {
        Ok(file) => file.sync_data(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

pub(super) fn complain(directory: &Path, error: &io::Error) {
    let directory = directory.display();
    tracing::error!(%directory, %error, "the spool cannot be synced; a power cut may lose what it holds");
}
