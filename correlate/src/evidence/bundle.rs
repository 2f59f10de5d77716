//! One of the bundles that sightings are spread over, in memory or in scratch space.

use std::borrow::Cow;

use crate::evidence::scratch::{Block, Overflow, ScratchError, most_of};
use crate::evidence::sighting::Sighting;

/// Share of the room that all bundles together are given while they are filled, and that all cores together are while
/// they work on one each.
const FILLED: usize = 4;
const WORKED: usize = 4;
/// Most bundles.
const MOST: usize = 4096;
/// Fewest sightings that all bundles are given room for while they are filled: blocks of a few would be many.
const SMALLEST: usize = 256;

/// Sightings that belong together.
#[derive(Debug)]
pub(crate) enum Bundle {
    /// In memory.
    Held(Vec<Sighting>),
    /// In scratch space, in no order.
    Away(Vec<Block>),
}

impl Bundle {
    pub(crate) fn is_away(&self) -> bool {
        matches!(self, Self::Away(_))
    }

    /// How many sightings.
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Held(held) => held.len(),
            Self::Away(blocks) => blocks.iter().map(|block| block.count).sum(),
        }
    }

    /// The sightings; those that were away are put in order by `settle`.
    pub(crate) fn load(
        &self,
        overflow: Option<&Overflow>,
        settle: impl FnOnce(&mut Vec<Sighting>),
    ) -> Result<Cow<'_, [Sighting]>, ScratchError> {
        let blocks = match self {
            Self::Held(held) => return Ok(Cow::Borrowed(held)),
            Self::Away(blocks) => blocks,
        };
        let mut loaded = Vec::with_capacity(self.count());
        for (block, overflow) in blocks.iter().zip(overflow.into_iter().cycle()) {
            overflow.get(block, &mut loaded)?;
        }
        settle(&mut loaded);
        Ok(Cow::Owned(loaded))
    }

    /// Shows the sightings, some at a time, and lets go of them.
    pub(crate) fn drain(
        self,
        overflow: &Overflow,
        mut look: impl FnMut(&[Sighting]) -> Result<(), ScratchError>,
    ) -> Result<(), ScratchError> {
        let blocks = match self {
            Self::Held(held) => return look(&held),
            Self::Away(blocks) => blocks,
        };
        let mut chunk = Vec::new();
        for block in blocks {
            chunk.clear();
            overflow.take(block, &mut chunk)?;
            look(&chunk)?;
        }
        Ok(())
    }
}

/// How many bundles `total` sightings make, at least `least`, so that there is room for one on each core.
pub(crate) fn bundles(total: usize, overflow: &Overflow, (least, cores): (usize, usize)) -> usize {
    let most = (overflow.room() / FILLED / SMALLEST).clamp(least, MOST.max(least));
    total.saturating_mul(cores).div_ceil((overflow.room() / WORKED).max(1)).clamp(least, most)
}

/// Fills bundles that are kept in memory, or in scratch space where there is any.
#[derive(Debug)]
pub(crate) struct Bundler<'o> {
    overflow: Option<&'o Overflow>,
    /// Most sightings of a bundle in memory.
    chunk: usize,
    bundles: Vec<(Vec<Block>, Vec<Sighting>)>,
}

impl<'o> Bundler<'o> {
    pub(crate) fn new(count: usize, overflow: Option<&'o Overflow>) -> Self {
        let room = overflow.map_or(usize::MAX, |overflow| overflow.room() / FILLED / count.max(1));
        let bundles = (0..count).map(|_| <(Vec<Block>, Vec<Sighting>)>::default()).collect();
        Self { overflow, chunk: room.clamp(1, most_of::<Sighting>()), bundles }
    }

    pub(crate) fn add(
        &mut self,
        sightings: &[Sighting],
        bundle: impl Fn(&Sighting, usize) -> usize,
    ) -> Result<(), ScratchError> {
        let count = self.bundles.len();
        for sighting in sightings {
            let (away, held) = &mut self.bundles[bundle(sighting, count)];
            held.push(*sighting);
            if let Some(overflow) = self.overflow
                && held.len() >= self.chunk
            {
                overflow.put(held, most_of::<Sighting>(), away)?;
                held.clear();
            }
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<Vec<Bundle>, ScratchError> {
        let finish = |(mut away, held): (Vec<Block>, Vec<Sighting>)| {
            let Some(overflow) = self.overflow else { return Ok(Bundle::Held(held)) };
            overflow.put(&held, most_of::<Sighting>(), &mut away)?;
            Ok(Bundle::Away(away))
        };
        self.bundles.into_iter().map(finish).collect()
    }
}
