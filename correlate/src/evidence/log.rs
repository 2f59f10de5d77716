//! Records in the order in which they came, in memory as far as there is room and else in scratch space.

use crate::evidence::scratch::{Block, Overflow, Record, ScratchError, most_of};

/// First those in scratch space, then those in memory.
#[derive(Debug)]
pub(crate) struct Log<T> {
    away: Vec<Block>,
    away_count: usize,
    pub(crate) held: Vec<T>,
}

impl<T> Default for Log<T> {
    fn default() -> Self {
        Self { away: Vec::new(), away_count: 0, held: Vec::new() }
    }
}

impl<T: Record> Log<T> {
    #[inline]
    pub(crate) fn push(&mut self, record: T) {
        self.held.push(record);
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.away_count + self.held.len()
    }

    /// True if not all are in memory.
    pub(crate) fn is_away(&self) -> bool {
        !self.away.is_empty()
    }

    /// Moves all to scratch space.
    pub(crate) fn put_away(&mut self, overflow: &Overflow) -> Result<(), ScratchError> {
        // A log that has fallen silent gives its memory to the others.
        let held = std::mem::take(&mut self.held);
        self.add_away(overflow, &held)
    }

    /// Adds records to those in scratch space. None are in memory.
    pub(crate) fn add_away(&mut self, overflow: &Overflow, records: &[T]) -> Result<(), ScratchError> {
        self.away_count += records.len();
        overflow.put(records, most_of::<T>(), &mut self.away)
    }

    /// The blocks of those in scratch space, which are no longer part of the log.
    pub(crate) fn take_away(&mut self) -> Vec<Block> {
        self.away_count = 0;
        std::mem::take(&mut self.away)
    }

    /// Shows every record.
    pub(crate) fn each(
        &self,
        overflow: Option<&Overflow>,
        mut look: impl FnMut(&T),
    ) -> Result<(), ScratchError> {
        let mut chunk = Vec::new();
        for (block, overflow) in self.away.iter().zip(overflow.into_iter().cycle()) {
            chunk.clear();
            overflow.get(block, &mut chunk)?;
            chunk.iter().for_each(&mut look);
        }
        self.held.iter().for_each(look);
        Ok(())
    }

    /// Has records changed in place or taken away, some at a time with the index of the first of them. `change` says
    /// whether it changed any.
    pub(crate) fn amend(
        &mut self,
        overflow: Option<&Overflow>,
        mut change: impl FnMut(usize, &mut Vec<T>) -> bool,
    ) -> Result<(), ScratchError> {
        let (mut chunk, mut first) = (Vec::new(), 0);
        for (block, overflow) in self.away.iter_mut().zip(overflow.into_iter().cycle()) {
            chunk.clear();
            overflow.get(block, &mut chunk)?;
            let count = chunk.len();
            if change(first, &mut chunk) {
                overflow.replace(block, &chunk)?;
                self.away_count -= count - chunk.len();
            }
            first += count;
        }
        change(first, &mut self.held);
        Ok(())
    }

    /// Shows every record, some at a time, and lets go of them.
    pub(crate) fn drain(
        self,
        overflow: Option<&Overflow>,
        mut look: impl FnMut(&[T]) -> Result<(), ScratchError>,
    ) -> Result<(), ScratchError> {
        let mut chunk = Vec::new();
        for (block, overflow) in self.away.into_iter().zip(overflow.into_iter().cycle()) {
            chunk.clear();
            overflow.take(block, &mut chunk)?;
            look(&chunk)?;
        }
        look(&self.held)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;

    use super::*;
    use crate::evidence::scratch::Scratch;
    use crate::evidence::sighting::Sighting;

    /// Scratch space in memory.
    #[derive(Debug, Default)]
    struct Bytes(Mutex<Vec<u8>>);

    impl Scratch for Bytes {
        fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
            let (mut all, start) = (self.0.lock().unwrap(), offset as usize);
            let end = (start + bytes.len()).max(all.len());
            all.resize(end, 0);
            all[start..start + bytes.len()].copy_from_slice(bytes);
            Ok(())
        }

        fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
            let start = offset as usize;
            bytes.copy_from_slice(&self.0.lock().unwrap()[start..start + bytes.len()]);
            Ok(())
        }
    }

    fn all(log: &Log<Sighting>, overflow: &Overflow) -> Vec<(i64, u64)> {
        let mut all = Vec::new();
        log.each(Some(overflow), |one| all.push((one.time, one.k0))).unwrap();
        all
    }

    #[test]
    fn records_keep_their_order_and_index_wherever_they_are() {
        let overflow = Overflow::new(0, Box::<Bytes>::default());
        let mut log = Log::default();
        for time in 0..10 {
            log.push(Sighting { time, ..Sighting::default() });
            if [2, 3, 7].contains(&time) {
                log.put_away(&overflow).unwrap();
            }
        }
        let mut seen = Vec::new();
        let change = |first: usize, some: &mut Vec<Sighting>| {
            seen.push((first, some.len()));
            some.iter_mut().zip(first as u64..).for_each(|(one, index)| one.k0 = index);
            some.retain(|one| one.time != 5);
            true
        };
        log.amend(Some(&overflow), change).unwrap();
        assert_eq!(seen, [(0, 3), (3, 1), (4, 4), (8, 2)]);
        let left: Vec<(i64, u64)> = (0..10).filter(|at| *at != 5).map(|at| (at, at as u64)).collect();
        assert_eq!((log.len(), all(&log, &overflow)), (9, left));
        let mut drained = Vec::new();
        let mut look = |some: &[Sighting]| {
            drained.extend(some.iter().map(|one| one.time));
            Ok(())
        };
        log.drain(Some(&overflow), &mut look).unwrap();
        assert_eq!(drained, [0, 1, 2, 3, 4, 6, 7, 8, 9]);
    }
}
