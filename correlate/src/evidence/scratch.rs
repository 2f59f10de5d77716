//! Where a run puts the records that memory has no room for: blocks of one size in a space that the caller provides.

use std::fmt::Debug;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use crate::evidence::sighting::Sighting;

/// Bytes of a slot, which holds one block.
const SLOT_BYTES: usize = 2 << 20;

/// Space outside of memory that nobody else uses, like an unnamed file: what was written at an offset is read there
/// again, and what was never written is never read.
pub trait Scratch: Debug + Send + Sync {
    /// Writes all of `bytes`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Fills all of `bytes`.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
}

/// A file that nobody else uses, or what is used like one.
impl<F: FileExt + Debug + Send + Sync> Scratch for F {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(bytes, offset)
    }
}

/// The scratch space failed. The run cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {action} {bytes} bytes of observations that memory has no room for: {reason}")]
pub struct ScratchError {
    /// `read` or `write`.
    pub action: &'static str,
    /// How many.
    pub bytes: usize,
    /// What the scratch space says.
    pub reason: String,
}

impl ScratchError {
    fn new(action: &'static str, bytes: usize) -> impl FnOnce(io::Error) -> Self {
        move |error| Self { action, bytes, reason: error.to_string() }
    }
}

/// What can be put into scratch space and comes back as it was.
pub(crate) trait Record: Copy {
    /// Bytes of every record.
    const BYTES: usize;
    /// Appends [`Self::BYTES`].
    fn encode(&self, to: &mut Vec<u8>);
    /// Takes [`Self::BYTES`] from the front.
    fn decode(from: &mut Fields<'_>) -> Self;
}

/// Bytes of records, taken from the front.
pub(crate) struct Fields<'b>(&'b [u8]);

impl<'b> Fields<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Self(bytes)
    }

    /// The next `N` bytes; zeros behind the end.
    pub(crate) fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk().unwrap_or((&[0; N], &[]));
        self.0 = rest;
        *field
    }
}

/// Memory for records, and scratch space for more.
#[derive(Debug)]
pub(crate) struct Overflow {
    scratch: Box<dyn Scratch>,
    /// Bytes that all records may take in memory.
    pub(crate) bytes: usize,
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    free: Vec<Block>,
    end: u64,
}

/// Records in scratch space.
#[derive(Debug)]
pub(crate) struct Block {
    slot: u64,
    pub(crate) count: usize,
}

impl Overflow {
    pub(crate) fn new(bytes: usize, scratch: Box<dyn Scratch>) -> Self {
        Self { scratch, bytes, slots: Mutex::default() }
    }

    /// Sightings that memory has room for.
    pub(crate) fn room(&self) -> usize {
        self.bytes / size_of::<Sighting>()
    }

    /// Writes records, at most `most` to a block.
    pub(crate) fn put<T: Record>(
        &self,
        records: &[T],
        most: usize,
        to: &mut Vec<Block>,
    ) -> Result<(), ScratchError> {
        for chunk in records.chunks(most.clamp(1, most_of::<T>())) {
            let block = Block { slot: self.slot(), count: chunk.len() };
            self.write(&block, chunk)?;
            to.push(block);
        }
        Ok(())
    }

    /// Writes a block once more, with no more records than it had.
    pub(crate) fn replace<T: Record>(&self, block: &mut Block, records: &[T]) -> Result<(), ScratchError> {
        block.count = records.len();
        self.write(block, records)
    }

    fn write<T: Record>(&self, block: &Block, records: &[T]) -> Result<(), ScratchError> {
        let mut bytes = Vec::with_capacity(records.len() * T::BYTES);
        for record in records {
            record.encode(&mut bytes);
        }
        let written = self.scratch.write_at(&bytes, block.offset());
        written.map_err(ScratchError::new("write", bytes.len()))
    }

    /// Adds the records of a block to `to`.
    pub(crate) fn get<T: Record>(&self, block: &Block, to: &mut Vec<T>) -> Result<(), ScratchError> {
        let mut bytes = vec![0; block.count * T::BYTES];
        let read = self.scratch.read_at(&mut bytes, block.offset());
        read.map_err(ScratchError::new("read", bytes.len()))?;
        let mut fields = Fields::new(&bytes);
        to.extend((0..block.count).map(|_| T::decode(&mut fields)));
        Ok(())
    }

    /// The same for the last time.
    pub(crate) fn take<T: Record>(&self, block: Block, to: &mut Vec<T>) -> Result<(), ScratchError> {
        self.get(&block, to)?;
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).free.push(block);
        Ok(())
    }

    fn slot(&self) -> u64 {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(free) = slots.free.pop() {
            return free.slot;
        }
        slots.end += 1;
        slots.end - 1
    }
}

/// Most records of a block.
pub(crate) const fn most_of<T: Record>() -> usize {
    SLOT_BYTES / T::BYTES
}

impl Block {
    fn offset(&self) -> u64 {
        self.slot * SLOT_BYTES as u64
    }
}
