//! Taking batches over into files.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use lastseen_proto::v1::ObservationBatch;

use super::index::{Claim, NoRoom, Place, Series};
use super::settings::Fsync;
use super::{Spool, record, segment};

impl Spool {
    /// Takes a batch over: written to its file, not synced. False, and the batch is dropped, if there is no room or the
    /// disk would not take it. One that `must` be kept is then kept in memory, for as long as this process lives.
    pub fn offer(&self, batch: ObservationBatch, must: bool) -> bool {
        let Some((key, series)) = batch.key.as_ref().and_then(|key| Some((key, Series::of(key)?))) else {
            return false;
        };
        let sequence = key.sequence;
        let place = match self.write(&series.capture, &batch) {
            Ok(place) => {
                self.complaint.taken();
                place
            }
            Err(reason) => {
                self.complaint.refused(&reason);
                if !must {
                    return false;
                }
                Place::Memory(Box::new(batch))
            }
        };
        let segment = if let Place::Disk { segment, .. } = place { Some(segment) } else { None };
        let mut index = self.index();
        let useless = index.add(series, sequence, place);
        let id = index.last_id();
        let is_closed = segment.is_some_and(|segment| index.is_closed(segment));
        self.tell_size(&index);
        drop(index);
        self.unlink(useless);
        if let Some((syncer, segment)) = self.syncer.as_ref().zip(segment)
            && (is_closed || self.settings.fsync == Fsync::Batch)
        {
            syncer.soon(segment);
        }
        self.grown.send_modify(|last| *last = id.max(*last));
        true
    }

    /// Writes what the disk would not take before, so that it outlives the process. Returns how many batches still are in
    /// memory alone. Blocks.
    pub fn keep(&self) -> usize {
        let kept = self.index().in_memory();
        let written = kept.iter().filter(|(id, capture, batch)| self.keep_one(*id, capture, batch)).count();
        kept.len() - written
    }

    fn keep_one(&self, id: u64, capture: &str, batch: &ObservationBatch) -> bool {
        let written = self.write(capture, batch);
        let Ok(place) = written.inspect_err(|reason| self.complaint.refused(reason)) else { return false };
        let mut index = self.index();
        let useless = index.put(id, place);
        self.tell_size(&index);
        drop(index);
        self.unlink(useless);
        true
    }

    fn write(&self, capture: &str, batch: &ObservationBatch) -> Result<Place, String> {
        let record = record::encode(batch).ok_or("a batch is longer than batches may be")?;
        let claim = self.claim(capture, record.len() as u64)?;
        if let Err(error) = claim.file.write_all_at(&record, claim.offset) {
            let useless = self.index().unclaim(&claim);
            self.unlink(useless);
            return Err(self.cannot_write(&error));
        }
        self.look_at_disk();
        Ok(Place::Disk { segment: claim.segment, offset: claim.offset, length: record.len() as u32 })
    }

    fn claim(&self, capture: &str, length: u64) -> Result<Claim, String> {
        loop {
            if let Some(claim) = self.claim_open(capture, length)? {
                return Ok(claim);
            }
            let mut next = self.making.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(claim) = self.claim_open(capture, length)? {
                return Ok(claim);
            }
            let made = segment::create(&self.settings.directory, *next);
            let file = made.map_err(|error| self.cannot_write(&error))?;
            self.index().add_segment(*next, capture, record::FILE_MAGIC.len() as u64, Some(file));
            *next += 1;
        }
    }

    fn claim_open(&self, capture: &str, length: u64) -> Result<Option<Claim>, String> {
        let mut index = self.index();
        index.claim(capture, length).map_err(|NoRoom| {
            let useless = index.discard_unused(capture);
            drop(index);
            self.unlink(useless);
            self.no_room()
        })
    }

    fn cannot_write(&self, error: &io::Error) -> String {
        self.metrics.spool_write_failures.inc();
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            self.free.store(0, Ordering::Relaxed);
            self.tell_size(&self.index());
        }
        format!("cannot write to {}: {error}", self.settings.directory.display())
    }
}
