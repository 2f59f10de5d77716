//! Batches that are not acknowledged yet, in files: bounded, checksummed, and there again after a restart.
//!
//! Every batch goes to the end of a *segment*, a file of one capture and of some megabytes, before the slice it was made
//! of counts as taken. Memory holds where it lies and no more; it is read again to be sent. When the coordinator has
//! acknowledged, refused or forgotten every batch of a segment, the file is removed, the one being written too: with a
//! coordinator at hand the directory is nearly empty.
//!
//! **What survives what.** A batch that was written survives the end of the process, `kill -9` included, because the page
//! cache belongs to the kernel. It survives a power cut if it was synced before, which is a matter of [`Fsync`]; no
//! capture thread ever waits for that. What was made but not yet written when the process died is a gap in the slices of
//! its point, and the coordinator treats it as one.
//!
//! **After a restart** every sound record of every segment waits again, oldest segment first and in the order of its
//! point, and is sent under its own key: capture, point, incarnation of the process that made it, sequence. Nothing marks
//! single records as settled. Those that were acknowledged beside others that were not are sent once more, and the
//! coordinator, which knows them by their key, acknowledges them once more. What is damaged (the last record of a process
//! that was killed, a bad disk) is counted, named in the log with its file and offset, and left out.
//!
//! **When it fills**, or its disk does, captures record less: from half full on every other segment, by the hash that sampling goes by, so
//! that what is left out is left out at every hop; with every eighth that fills all the same half of that, and everything
//! again below a quarter. Every batch says what its rows were selected by. Points of libpcap, which cannot sample, go on
//! as they were.
//!
//! **When it is full**, or the disk is, a batch is not taken: the slice goes on without its rows, which are counted as
//! dropped by the agent. The log says so once a minute at most.

mod complaint;
mod index;
mod load;
mod lock;
mod pressure;
mod record;
mod segment;
mod settings;
mod sync;
mod write;

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use lastseen_proto::v1::{BatchKey, ObservationBatch, SpooledPoint};
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};
use tokio::sync::{Notify, watch};

use self::complaint::Complaint;
use self::index::{Index, Place, Series};
use self::load::Left;
use self::lock::DirectoryLock;
use self::pressure::Pressure;
pub use self::settings::{Fsync, Settings, SpoolError};
use self::sync::Syncer;
use crate::metrics::Metrics;

/// Segments of a full spool, at least: what is settled is given back by the segment.
const LEAST_SEGMENTS: u64 = 8;

/// The batches that wait for their acknowledgement.
pub struct Spool {
    settings: Settings,
    incarnation: u64,
    index: Mutex<Index>,
    /// Held while a segment is made, so that threads that need one do not make one each.
    making: Mutex<u64>,
    left: Left,
    syncer: Option<Syncer>,
    complaint: Complaint,
    pressure: Pressure,
    /// Bytes that were free on the disk when it was last written to.
    free: AtomicU64,
    grown: watch::Sender<u64>,
    /// Told when batches were let go of.
    shrunk: Notify,
    metrics: Arc<Metrics>,
    _lock: DirectoryLock,
}

impl Spool {
    /// Takes the directory, and everything sound in it. `incarnation` is the random number of this process. Reads all
    /// of it: call it where that does not hurt.
    pub fn open(settings: Settings, incarnation: u64, metrics: Arc<Metrics>) -> Result<Self, SpoolError> {
        let directory = settings.directory.as_path();
        let unusable = |source| SpoolError::Directory { directory: directory.to_owned(), source };
        let lock = lock::take(directory)?;
        let segment_bytes = (settings.max_bytes / LEAST_SEGMENTS).min(segment::SEGMENT_BYTES);
        let mut index = Index::new(settings.max_bytes, segment_bytes);
        let (left, next) = load::load(directory, &mut index, &metrics).map_err(unusable)?;
        let syncs = settings.fsync != Fsync::Never;
        let syncer = syncs.then(|| Syncer::start(directory)).transpose().map_err(unusable)?;
        let spool = Self {
            incarnation,
            grown: watch::Sender::new(index.last_id()),
            index: Mutex::new(index),
            making: Mutex::new(next),
            left,
            syncer,
            complaint: Complaint::default(),
            pressure: Pressure::default(),
            free: AtomicU64::new(u64::MAX),
            shrunk: Notify::new(),
            metrics,
            settings,
            _lock: lock,
        };
        spool.tell_size(&spool.index());
        Ok(spool)
    }

    /// The random number of this process.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// What earlier processes left and still waits.
    pub fn left(&self) -> Vec<SpooledPoint> {
        let index = self.index();
        let waiting = self.left.iter().filter(|(series, _)| index.waits(series));
        waiting.map(|(_, left)| left.clone()).collect()
    }

    /// By how many halvings less captures should record, so that the spool lasts.
    pub fn halvings(&self) -> u32 {
        self.pressure.halvings()
    }

    /// Whether another batch of `bytes` fits. If not, that is a complaint.
    pub fn has_room(&self, bytes: u64) -> bool {
        let has_room = self.index().has_room(bytes);
        if !has_room {
            self.complaint.refused(&self.no_room());
        }
        has_room
    }

    /// The first batch behind `id`, and its capture; 0 is before all.
    pub fn after(&self, id: u64) -> Option<(u64, String)> {
        self.index().after(id).map(|(id, series)| (id, series.capture.clone()))
    }

    /// Reads the batch `id`, if it still waits. One that is damaged or gone is counted and given up. Where it cannot be
    /// read at the moment (no memory or handle to spare, a disk in trouble) it is kept, and that is an error. Reads a
    /// file: call it where that may block.
    pub fn get(&self, id: u64) -> io::Result<Option<ObservationBatch>> {
        let (segment, offset, length) = match self.index().place(id) {
            None => return Ok(None),
            Some(Place::Memory(batch)) => return Ok(Some(*batch)),
            Some(Place::Disk { segment, offset, length }) => (segment, offset, length),
        };
        let reason = match self.read(segment, offset, length as usize) {
            Ok(Ok(batch)) => return Ok(Some(batch)),
            Ok(Err(reason)) => reason.to_owned(),
            Err(error) if is_final(&error) => error.to_string(),
            // Unless it was settled while it was read: then there is nothing left to read.
            Err(error) => return self.index().place(id).map_or(Ok(None), |_| Err(error)),
        };
        self.give_up(id, &reason);
        Ok(None)
    }

    /// Lets go of a batch in a file that cannot be read, if it still waits, and counts it as damaged. May remove a file:
    /// call it where that may block.
    pub fn give_up(&self, id: u64, reason: &str) {
        let Some(Place::Disk { segment, offset, .. }) = self.index().place(id) else { return };
        if self.remove(id) {
            load::damaged(&self.settings.directory, segment, offset, reason, &self.metrics);
        }
    }

    /// The capture of the batch `id`, if it still waits.
    pub fn capture_of(&self, id: u64) -> Option<String> {
        self.after(id.checked_sub(1)?).filter(|(found, _)| *found == id).map(|(_, capture)| capture)
    }

    /// The number of the batch of this key, if it still waits.
    pub fn id_of(&self, key: &BatchKey) -> Option<u64> {
        self.index().id_of(&Series::of(key)?, key.sequence)
    }

    /// Lets go of the batch that was acknowledged or refused. False for keys that are not, or no longer, kept. May remove a
    /// file: call it where that may block.
    pub fn settle(&self, key: &BatchKey) -> bool {
        self.id_of(key).is_some_and(|id| self.remove(id))
    }

    /// Lets go of every batch of a capture, whichever process made it. Removes files: call it where that may block.
    pub fn forget(&self, capture: &str) {
        let useless = self.take_out(capture);
        self.clear(useless);
    }

    /// As [`Self::forget`], with the files removed a moment later, away from the caller.
    pub fn forget_soon(self: &Arc<Self>, capture: &str) {
        let (spool, useless) = (self.clone(), self.take_out(capture));
        tokio::task::spawn_blocking(move || spool.clear(useless));
    }

    fn take_out(&self, capture: &str) -> Vec<u64> {
        let mut index = self.index();
        let useless = index.remove_capture(capture);
        self.tell_size(&index);
        drop(index);
        self.shrunk.notify_waiters();
        useless
    }

    /// Returns when no batch of a capture waits.
    pub async fn delivered(&self, capture: &str) {
        loop {
            let mut shrunk = std::pin::pin!(self.shrunk.notified());
            // Before looking, so that nothing is missed in between.
            shrunk.as_mut().enable();
            if !self.index().waits_for(capture) {
                return;
            }
            shrunk.await;
        }
    }

    /// Why a batch would not be taken now, if it would not. Asks the disk: call it where that may block.
    pub fn trouble(&self) -> Option<String> {
        self.look();
        let directory = &self.settings.directory;
        let (shown, is_full) = (directory.display(), self.free.load(Ordering::Relaxed) == 0);
        match access(directory, AccessFlags::W_OK) {
            _ if !self.index().has_room(index::LEAST_ROOM_BYTES) => Some(self.no_room()),
            Err(error) => Some(format!("cannot write to {shown}: {}", io::Error::from(error))),
            Ok(()) if is_full => Some(format!("the disk of {shown} is full")),
            Ok(()) => None,
        }
    }

    /// Asks the disk for its room, which others may have taken or given back since it was last written to.
    pub fn look(&self) {
        self.look_at_disk();
        self.tell_size(&self.index());
    }

    /// How long the batch has waited that came first; zero when none waits.
    pub fn oldest(&self) -> Duration {
        self.index().oldest().and_then(|since| since.elapsed().ok()).unwrap_or_default()
    }

    /// Most bytes of all files together.
    pub fn max_bytes(&self) -> u64 {
        self.settings.max_bytes
    }

    /// Changes when a batch was added.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.grown.subscribe()
    }

    /// Batches that wait, and the bytes of all files.
    pub fn waiting(&self) -> (usize, u64) {
        let index = self.index();
        (index.waiting(), index.disk_bytes())
    }

    /// Syncs what waits, if anything is to be synced at all. Blocks.
    pub fn sync_all(&self) {
        if self.settings.fsync != Fsync::Never {
            let segments = self.index().segments();
            if let Err(error) = sync::all(&self.settings.directory, &segments) {
                sync::complain(&self.settings.directory, &error);
            }
        }
    }

    fn read(
        &self,
        segment: u64,
        offset: u64,
        length: usize,
    ) -> io::Result<Result<ObservationBatch, &'static str>> {
        let mut record = vec![0; length];
        segment::open(&self.settings.directory, segment)?.read_exact_at(&mut record, offset)?;
        Ok(record::decode(&Bytes::from(record)))
    }

    fn remove(&self, id: u64) -> bool {
        let mut index = self.index();
        let (is_removed, useless) = index.remove(id);
        self.tell_size(&index);
        drop(index);
        self.shrunk.notify_waiters();
        self.clear(useless);
        is_removed
    }

    /// Removes segments that were let go of.
    fn clear(&self, segments: impl IntoIterator<Item = u64>) {
        self.unlink(segments);
        self.look_if_empty();
    }

    fn unlink(&self, segments: impl IntoIterator<Item = u64>) {
        for number in segments {
            load::unlink(&self.settings.directory, number);
        }
    }

    fn tell_size(&self, index: &Index) {
        self.metrics.spool_batches.set(index.waiting() as i64);
        self.metrics.spool_bytes.set(index.disk_bytes() as i64);
        let halvings = self.pressure.update(index.fill(pressure::PARTS, self.free.load(Ordering::Relaxed)));
        self.metrics.spool_halvings.set(halvings.into());
    }

    /// Nothing may be written for long: what was full then may no longer be.
    fn look_if_empty(&self) {
        if self.halvings() > 0 && self.waiting().0 == 0 {
            self.look();
        }
    }

    /// What others write fills the disk too. Where that cannot be told only the limit counts.
    fn look_at_disk(&self) {
        let disk = statvfs(&self.settings.directory);
        let free = disk.map_or(u64::MAX, |disk| disk.blocks_available().saturating_mul(disk.fragment_size()));
        self.free.store(free, Ordering::Relaxed);
    }

    fn no_room(&self) -> String {
        format!("the spool has reached --spool-max-bytes {}", self.settings.max_bytes)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether what could not be read is not there.
fn is_final(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests;
