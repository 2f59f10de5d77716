//! All sightings of a run by point, in memory as far as there is room and else in scratch space.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use crate::evidence::log::Log;
use crate::evidence::scratch::{Block, Overflow, ScratchError, most_of};
use crate::evidence::sighting::Sighting;

/// Share of the room that one sorted run takes, and that all runs together take while they are merged.
const RUN: usize = 4;
const MERGED: usize = 4;
/// Fewest sightings of a block, however little room there is.
const FEWEST: usize = 64;

/// Sightings by point.
#[derive(Debug, Default)]
pub(crate) struct Sightings {
    points: Vec<Log<Sighting>>,
    pub(crate) overflow: Option<Arc<Overflow>>,
}

impl Sightings {
    /// None yet, of so many points.
    pub(crate) fn new(points: usize) -> Self {
        Self { points: (0..points).map(|_| Log::default()).collect(), overflow: None }
    }

    #[inline]
    pub(crate) fn push(&mut self, point: usize, sighting: Sighting) {
        self.points[point].push(sighting);
    }

    /// Of one point: the index of the next one there.
    #[inline]
    pub(crate) fn count(&self, point: usize) -> usize {
        self.points[point].len()
    }

    /// Of all points.
    pub(crate) fn total(&self) -> usize {
        self.points.iter().map(Log::len).sum()
    }

    /// Number of points.
    pub(crate) fn points(&self) -> usize {
        self.points.len()
    }

    /// Moves all to scratch space.
    pub(crate) fn put_away(&mut self) -> Result<(), ScratchError> {
        let Some(overflow) = &self.overflow else { return Ok(()) };
        self.points.iter_mut().try_for_each(|log| log.put_away(overflow))
    }

    /// Shows every sighting of a point, in no order.
    pub(crate) fn each(&self, point: usize, look: impl FnMut(&Sighting)) -> Result<(), ScratchError> {
        self.points[point].each(self.overflow.as_deref(), look)
    }

    /// Has the sightings of a point changed in place or taken away, in the order in which they came: `change` is given
    /// some of them with the index of the first, and says whether it changed any.
    pub(crate) fn amend(
        &mut self,
        point: usize,
        change: impl FnMut(usize, &mut Vec<Sighting>) -> bool,
    ) -> Result<(), ScratchError> {
        self.points[point].amend(self.overflow.as_deref(), change)
    }

    /// Has the sightings of a point worked over in order of time, one chunk after the other.
    pub(crate) fn work(
        &mut self,
        point: usize,
        mut work: impl FnMut(&mut Vec<Sighting>),
    ) -> Result<(), ScratchError> {
        let log = &mut self.points[point];
        let Some(overflow) = self.overflow.clone().filter(|_| log.is_away()) else {
            // Already in order unless batches came out of order, which this sort finds out in one pass.
            log.held.sort_by_key(order);
            work(&mut log.held);
            return Ok(());
        };
        log.put_away(&overflow)?;
        let mut runs = runs(&overflow, log.take_away())?;
        let mut chunk = Vec::new();
        while merge(&overflow, &mut runs, &mut chunk)? {
            work(&mut chunk);
            log.add_away(&overflow, &chunk)?;
            chunk.clear();
        }
        Ok(())
    }

    /// True if not all are in memory.
    pub(crate) fn is_away(&self) -> bool {
        self.points.iter().any(Log::is_away)
    }

    /// Those in memory, by point: all of them unless some are [away](Self::is_away).
    pub(crate) fn into_held(self) -> Vec<Vec<Sighting>> {
        self.points.into_iter().map(|log| log.held).collect()
    }

    /// Shows every sighting, a chunk of one point after the other, and lets go of it.
    pub(crate) fn drain(
        self,
        mut look: impl FnMut(&[Sighting]) -> Result<(), ScratchError>,
    ) -> Result<(), ScratchError> {
        let overflow = self.overflow.as_deref();
        self.points.into_iter().try_for_each(|log| log.drain(overflow, &mut look))
    }
}

fn order(sighting: &Sighting) -> (i64, u32) {
    (sighting.time, sighting.tcp_seq)
}

/// Sightings in order: those at hand, the next one last, and blocks with the rest, the next one last.
struct Run {
    at_hand: Vec<Sighting>,
    blocks: Vec<Block>,
}

/// Sorts as many blocks at a time as there is room for. A block of every run is in memory at once when they are merged,
/// so the more runs, the smaller they are.
fn runs(overflow: &Overflow, blocks: Vec<Block>) -> Result<Vec<Run>, ScratchError> {
    let total: usize = blocks.iter().map(|block| block.count).sum();
    let of_run = (overflow.room() / RUN).max(FEWEST);
    let of_block = overflow.room() / MERGED / total.div_ceil(of_run).max(1);
    let mut runs = Vec::new();
    let (mut blocks, mut run) = (blocks.into_iter().peekable(), Vec::new());
    while let Some(block) = blocks.next() {
        overflow.take(block, &mut run)?;
        if run.len() < of_run && blocks.peek().is_some() {
            continue;
        }
        run.sort_by_key(order);
        let mut sorted = Vec::new();
        overflow.put(&run, of_block.max(FEWEST), &mut sorted)?;
        sorted.reverse();
        run.clear();
        runs.push(Run { at_hand: Vec::new(), blocks: sorted });
    }
    Ok(runs)
}

/// Fills a chunk with the next sightings of all runs in order, equal ones in the order of runs. Says whether there were
/// any.
fn merge(overflow: &Overflow, runs: &mut [Run], chunk: &mut Vec<Sighting>) -> Result<bool, ScratchError> {
    let mut heads = BinaryHeap::new();
    for (index, run) in runs.iter_mut().enumerate() {
        heads.extend(run.peek(overflow)?.map(|head| Reverse((head, index))));
    }
    while chunk.len() < most_of::<Sighting>() {
        let Some(Reverse((_, index))) = heads.pop() else { break };
        chunk.extend(runs[index].at_hand.pop());
        heads.extend(runs[index].peek(overflow)?.map(|head| Reverse((head, index))));
    }
    Ok(!chunk.is_empty())
}

impl Run {
    fn peek(&mut self, overflow: &Overflow) -> Result<Option<(i64, u32)>, ScratchError> {
        if self.at_hand.is_empty()
            && let Some(block) = self.blocks.pop()
        {
            overflow.take(block, &mut self.at_hand)?;
            self.at_hand.reverse();
        }
        Ok(self.at_hand.last().map(order))
    }
}
