//! What was read of the files, in memory as far as there is room and else on disk.

use std::mem::size_of;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use lastseen_correlate::Scratch;
use lastseen_packet::observation::{Columns, Observation};
use lastseen_proto::batch::{Encoder, Limits, decode};
use lastseen_runtime::scratch::ScratchFile;

/// Share of memory for what was read and not yet handed over. The rest is the run's, which fills while this empties.
const SHARE: usize = 2;
/// What this program wrote it reads, however much it is.
const LIMITS: Limits = Limits { rows: u32::MAX, encoded_bytes: usize::MAX, raw_bytes: u32::MAX };

/// How much memory there is, and where the rest goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room<'d> {
    /// Bytes for observations.
    pub(crate) memory: usize,
    /// Directory for those that memory has no room for.
    pub(crate) directory: &'d Path,
}

impl Room<'_> {
    pub(super) fn scratch(self) -> Box<dyn Scratch> {
        Box::new(ScratchFile::new(self.directory.to_owned()))
    }
}

/// What to do about `error`, which says that the directory for temporary files failed.
pub(super) fn no_room(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!(
        "{error}; make room there, set TMPDIR to a directory that has some, or raise --correlation-memory-bytes"
    )
}

/// Observations of a slice, where they were put.
#[derive(Debug)]
pub(super) enum Stored {
    Nothing,
    Held(Box<Columns>),
    Away { offset: u64, length: usize },
}

/// Keeps observations until all files are read.
pub(super) struct Shelf {
    file: ScratchFile,
    /// End of what was written.
    end: u64,
    encoder: Encoder,
    /// Rows that memory has room for.
    rows: usize,
}

impl Shelf {
    pub(super) fn new(room: Room<'_>) -> anyhow::Result<Self> {
        let file = ScratchFile::new(room.directory.to_owned());
        let rows = room.memory / SHARE / size_of::<Observation>();
        Ok(Self { file, end: 0, encoder: Encoder::new()?, rows })
    }

    /// Puts observations into memory, or on disk once it is full.
    pub(super) fn put(&mut self, columns: &Columns) -> anyhow::Result<Stored> {
        if columns.is_empty() {
            return Ok(Stored::Nothing);
        }
        if let Some(rows) = self.rows.checked_sub(columns.len()) {
            self.rows = rows;
            return Ok(Stored::Held(Box::new(columns.clone())));
        }
        let bytes = self.encoder.encode(columns)?;
        let (offset, length) = (self.end, bytes.len());
        let written = self.file.write_all_at(&bytes, offset);
        written.map_err(|e| no_room(format!("cannot write {length} bytes of what was read: {e}")))?;
        self.end += length as u64;
        Ok(Stored::Away { offset, length })
    }

    /// Shows observations that were put.
    pub(super) fn show(&self, stored: &Stored, look: impl FnOnce(&Columns)) -> anyhow::Result<()> {
        match stored {
            Stored::Nothing => {}
            Stored::Held(columns) => look(columns),
            Stored::Away { offset, length } => look(&self.read(*offset, *length)?),
        }
        Ok(())
    }

    /// Gives back observations that were put.
    pub(super) fn take(&self, stored: Stored) -> anyhow::Result<Columns> {
        match stored {
            Stored::Nothing => Ok(Columns::default()),
            Stored::Held(columns) => Ok(*columns),
            Stored::Away { offset, length } => self.read(offset, length),
        }
    }

    fn read(&self, offset: u64, length: usize) -> anyhow::Result<Columns> {
        let mut bytes = vec![0; length];
        let read = self.file.read_exact_at(&mut bytes, offset);
        read.map_err(|e| no_room(format!("cannot read {length} bytes of what was read: {e}")))?;
        decode(&bytes, &LIMITS).context("what was put on disk was changed there")
    }
}

#[cfg(test)]
mod tests {
    use lastseen_packet::observation::{ColumnsBuilder, FlowKey, gso, marks};

    use super::*;

    fn columns(rows: u16) -> Columns {
        let mut builder = ColumnsBuilder::new(usize::from(rows), [0; 16]);
        for at in 0..rows {
            let row = Observation {
                // Files are not always in order.
                time_nanos: 1_700_000_000_000_000_000 - i64::from(at) * 7_001,
                ip_id: at,
                payload_length: 100_000,
                gso_type: gso::UNKNOWN,
                marks: marks::IPV4,
                ..Observation::default()
            };
            builder.push(&FlowKey { source_port: at % 3, ..FlowKey::UNSPECIFIED }, row);
        }
        builder.columns().clone()
    }

    #[test]
    fn what_memory_has_no_room_for_comes_back_from_disk_and_leaves_no_name() {
        let home = tempfile::tempdir().unwrap();
        let memory = 250 * SHARE * size_of::<Observation>();
        let mut shelf = Shelf::new(Room { memory, directory: home.path() }).unwrap();
        let all: Vec<Columns> = [100, 0, 100, 100, 50, 7].map(columns).into();
        let stored: Vec<Stored> = all.iter().map(|columns| shelf.put(columns).unwrap()).collect();
        assert!(matches!(
            stored[..],
            [
                Stored::Held(_),
                Stored::Nothing,
                Stored::Held(_),
                Stored::Away { .. },
                Stored::Held(_),
                Stored::Away { .. }
            ]
        ));
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
        for (stored, columns) in stored.into_iter().zip(all) {
            shelf.show(&stored, |shown| assert_eq!(*shown, columns)).unwrap();
            assert_eq!(shelf.take(stored).unwrap(), columns);
        }
    }

    #[test]
    fn a_disk_that_takes_nothing_is_named_with_what_to_do() {
        let room = Room { memory: 0, directory: Path::new("/nowhere") };
        let error = Shelf::new(room).unwrap().put(&columns(1)).unwrap_err().to_string();
        assert!(error.contains("/nowhere: No such file") && error.contains("TMPDIR"), "{error}");
    }
}
