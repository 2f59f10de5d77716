//! Sightings of one identity brought together.
//!
//! Sightings are spread over bundles by identity, which is a keyed hash: even one elephant flow spreads evenly. Each
//! bundle is sorted in place, or each time it is read where memory has no room for all.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::{Clocks, Crossings, Differences};
use crate::correlator::{SCRATCH_LIMIT, SEGMENT_LIMIT};
use crate::evidence::bundle::{Bundle, Bundler, bundles};
use crate::evidence::scratch::{Overflow, ScratchError, most_of};
use crate::evidence::sighting::Sighting;
use crate::evidence::sightings::Sightings;
use crate::input::Job;
use crate::matching::cores::{cores, on_all_cores, try_on_all_cores};
use crate::matching::judge::SETTLE_NANOS;
use crate::matching::plan::Plans;
use crate::segments::intervals::{Cut, Cutter};

/// Bundles of a large run; more than cores, so that the last one to finish is not late.
const BUNDLES: usize = 64;
/// Runs smaller than this take one.
const SMALL: usize = 1 << 16;

/// All sightings, which name their conversation, spread by identity and grouped by it.
#[derive(Debug)]
pub(crate) struct Partitions {
    pub(crate) bundles: Vec<Bundle>,
    overflow: Option<Arc<Overflow>>,
    /// Of the bundles that are not in memory, and have their stamps as they were taken.
    correction: Option<Correction>,
}

/// Where the clocks of the nodes are, by point.
#[derive(Clone, Debug)]
struct Correction {
    clocks: Clocks,
    /// Node of each point.
    nodes: Vec<usize>,
}

impl Partitions {
    /// Groups the sightings, and finds what they say about clocks where paths cross between nodes.
    pub(crate) fn new(
        sightings: Sightings,
        plans: &Plans,
        crossings: &Crossings,
    ) -> Result<(Self, Differences), ScratchError> {
        let partitions = Self::spread(sightings)?;
        let found = try_on_all_cores(partitions.bundles.iter(), |next| {
            let mut found = Differences::default();
            while let Some(bundle) = next() {
                for group in partitions.load(bundle)?.chunk_by(is_same) {
                    crossings.compare(plans.courses[group[0].owner as usize].plan, group, &mut found);
                }
            }
            Ok(found)
        })?;
        let mut differences = Differences::default();
        for found in found {
            differences.merge(found);
        }
        Ok((partitions, differences))
    }

    fn spread(sightings: Sightings) -> Result<Self, ScratchError> {
        let overflow = sightings.overflow.clone();
        let bundles = match &overflow {
            Some(overflow) if sightings.is_away() => {
                let count = bundles(sightings.total(), overflow, (BUNDLES, cores()));
                let mut bundler = Bundler::new(count, Some(overflow));
                sightings.drain(|some| bundler.add(some, by_identity))?;
                bundler.finish()?
            }
            _ => held(sightings.into_held()),
        };
        Ok(Self { bundles, overflow, correction: None })
    }

    /// A bundle in order, its stamps on the coordinator's clock.
    pub(crate) fn load<'b>(&self, bundle: &'b Bundle) -> Result<Cow<'b, [Sighting]>, ScratchError> {
        bundle.load(self.overflow.as_deref(), |loaded| self.settle(loaded))
    }

    fn settle(&self, loaded: &mut [Sighting]) {
        if let Some(correction) = &self.correction {
            correction.apply(loaded);
        }
        loaded.sort_unstable_by_key(order);
    }

    /// Puts all stamps onto the coordinator's clock.
    pub(crate) fn correct(&mut self, job: &Job, clocks: &Clocks) {
        let nodes = job.points.iter().map(|point| point.node).collect();
        let correction = Correction { clocks: clocks.clone(), nodes };
        let held = self.bundles.iter_mut().filter_map(|bundle| match bundle {
            Bundle::Held(held) => Some(held),
            Bundle::Away(_) => None,
        });
        on_all_cores(held, |next| {
            while let Some(bundle) = next() {
                correction.apply(bundle);
                // What belongs together stays together, so only its order in time is new.
                for group in bundle.chunk_by_mut(is_same) {
                    group.sort_unstable_by_key(order);
                }
            }
        });
        self.correction = Some(correction);
    }

    /// Has TCP whose segments some point cannot tell apart matched by its bytes.
    pub(crate) fn match_bytes(&mut self, job: &Job, plans: &Plans) -> Result<ByBytes, ScratchError> {
        let coarse = (0..).zip(&plans.courses).filter(|(_, course)| course.is_coarse);
        let mut by_bytes = ByBytes::default();
        by_bytes.told.extend(coarse.map(|(conversation, _)| conversation));
        if by_bytes.told.is_empty() {
            return Ok(by_bytes);
        }
        let slack = plans.plans.iter().map(|plan| plan.slack).max().unwrap_or(0);
        let bound = job.guard_nanos.max(SETTLE_NANOS).saturating_add(slack);
        let mtus: Vec<u32> = job.points.iter().map(|point| point.mtu).collect();
        let cutter = Cutter { plans, key: job.key, bound, mtus: &mtus };
        let apart = self.set_apart(&cutter)?;
        if apart.iter().all(|bundle| bundle.count() == 0) {
            return Ok(by_bytes);
        }
        let counts = self.conversations(&apart, |conversation| Ok(cutter.count(conversation)))?;
        let count: usize = counts.iter().flatten().sum();
        let limit = if self.overflow.is_some() { SCRATCH_LIMIT } else { SEGMENT_LIMIT };
        let is_too_much = count > limit;
        let cuts = self.add_cut(&apart, count, |conversation, add| {
            let cut = if is_too_much { Cut::Not } else { cutter.cut(conversation, &mut *add)? };
            if cut == Cut::Not {
                conversation.iter().try_for_each(|sighting| add(*sighting))?;
            }
            Ok((conversation[0].owner, cut))
        })?;
        let of =
            |kind| cuts.iter().filter(move |(_, cut)| *cut == kind).map(|(conversation, _)| *conversation);
        for conversation in of(Cut::Not) {
            by_bytes.told.remove(&conversation);
        }
        by_bytes.in_pieces.extend(of(Cut::Pieces));
        Ok(by_bytes)
    }

    /// Takes what is to be cut out of every bundle, and spreads it by conversation.
    fn set_apart(&mut self, cutter: &Cutter<'_>) -> Result<Vec<Bundle>, ScratchError> {
        let overflow = self.overflow.clone();
        let to = overflow.as_deref().filter(|_| self.bundles.iter().any(Bundle::is_away));
        let apart = Mutex::new(Bundler::new(self.bundles.len(), to));
        // What is away is written anew, as it was settled.
        let mut bundles = std::mem::take(&mut self.bundles);
        try_on_all_cores(bundles.iter_mut(), |next| {
            let mut taken = Vec::new();
            while let Some(bundle) = next() {
                match bundle {
                    Bundle::Held(held) => cutter.set_apart(held, &mut taken),
                    Bundle::Away(blocks) => {
                        let Some(overflow) = to else { continue };
                        let mut loaded = Vec::new();
                        blocks.drain(..).try_for_each(|block| overflow.take(block, &mut loaded))?;
                        self.settle(&mut loaded);
                        cutter.set_apart(&mut loaded, &mut taken);
                        overflow.put(&loaded, most_of::<Sighting>(), blocks)?;
                    }
                }
                locked(&apart).add(&taken, by_conversation)?;
                taken.clear();
            }
            Ok(())
        })?;
        (self.bundles, self.correction) = (bundles, None);
        let mut apart = apart.into_inner().unwrap_or_else(PoisonError::into_inner).finish()?;
        on_all_cores(apart.iter_mut(), |next| {
            while let Some(bundle) = next() {
                if let Bundle::Held(held) = bundle {
                    held.sort_unstable_by_key(of_conversation);
                }
            }
        });
        Ok(apart)
    }

    /// Works on each conversation, in order of time, of bundles that were spread by conversation.
    fn conversations<R: Send>(
        &self,
        apart: &[Bundle],
        work: impl Fn(&[Sighting]) -> Result<R, ScratchError> + Sync,
    ) -> Result<Vec<Vec<R>>, ScratchError> {
        try_on_all_cores(apart.iter(), |next| {
            let mut done = Vec::new();
            while let Some(bundle) = next() {
                let sort = |loaded: &mut Vec<Sighting>| loaded.sort_unstable_by_key(of_conversation);
                let loaded = bundle.load(self.overflow.as_deref(), sort)?;
                for conversation in loaded.chunk_by(|a, b| a.owner == b.owner) {
                    done.push(work(conversation)?);
                }
            }
            Ok(done)
        })
    }

    /// Adds what is made of each conversation, `count` sightings in all. Returns what is said of each.
    fn add_cut(
        &mut self,
        apart: &[Bundle],
        count: usize,
        cut: impl Fn(&[Sighting], Add<'_>) -> Result<(u32, Cut), ScratchError> + Sync,
    ) -> Result<Vec<(u32, Cut)>, ScratchError> {
        let total = count + self.bundles.iter().map(Bundle::count).sum::<usize>();
        let overflow = self.overflow.clone();
        let is_away =
            |overflow: &&Overflow| total > overflow.room() || self.bundles.iter().any(Bundle::is_away);
        let to = overflow.as_deref().filter(is_away);
        let bundle_count = match to {
            Some(overflow) => bundles(total, overflow, (self.bundles.len(), cores())),
            None => self.bundles.len(),
        };
        let cuts = Mutex::new(Bundler::new(bundle_count, to));
        let done = self.conversations(apart, |conversation| {
            let mut made = Vec::new();
            let done = cut(conversation, &mut |sighting| {
                made.push(sighting);
                if made.len() < FLUSHED {
                    return Ok(());
                }
                let added = locked(&cuts).add(&made, by_identity);
                made.clear();
                added
            })?;
            locked(&cuts).add(&made, by_identity)?;
            Ok(done)
        })?;
        let cuts = cuts.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.bundles = merged(std::mem::take(&mut self.bundles), cuts, to)?;
        Ok(done.into_iter().flatten().collect())
    }
}

/// Conversations that are matched by their bytes.
#[derive(Debug, Default)]
pub(crate) struct ByBytes {
    /// All of them.
    pub(crate) told: HashSet<u32>,
    /// Those of which no point shows segments.
    pub(crate) in_pieces: HashSet<u32>,
}

/// Takes a sighting in.
type Add<'a> = &'a mut dyn FnMut(Sighting) -> Result<(), ScratchError>;

/// Sightings that a core makes before it hands them over.
const FLUSHED: usize = 1 << 12;

fn locked<'m, 'o>(bundler: &'m Mutex<Bundler<'o>>) -> std::sync::MutexGuard<'m, Bundler<'o>> {
    bundler.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bundles with what is added to them, in scratch space if there is any to go to.
fn merged(
    bundles: Vec<Bundle>,
    mut added: Bundler<'_>,
    to: Option<&Overflow>,
) -> Result<Vec<Bundle>, ScratchError> {
    if let Some(overflow) = to {
        for bundle in bundles {
            bundle.drain(overflow, |some| added.add(some, by_identity))?;
        }
        return added.finish();
    }
    let mut bundles: Vec<_> = bundles.into_iter().zip(added.finish()?).collect();
    on_all_cores(bundles.iter_mut(), |next| {
        while let Some((bundle, added)) = next() {
            if let (Bundle::Held(bundle), Bundle::Held(added)) = (bundle, added) {
                bundle.append(added);
                bundle.sort_unstable_by_key(order);
            }
        }
    });
    Ok(bundles.into_iter().map(|(bundle, _)| bundle).collect())
}

impl Correction {
    /// Puts stamps onto the coordinator's clock.
    fn apply(&self, sightings: &mut [Sighting]) {
        for sighting in sightings {
            sighting.time = self.clocks.correct(self.nodes[usize::from(sighting.point)], sighting.time);
        }
    }
}

/// By identity, then by everything else there is, so that neither the order of batches nor that of bundles shows.
fn order(s: &Sighting) -> impl Ord + use<> {
    (s.k0, s.owner, in_time(s))
}

/// By conversation, then by time.
fn of_conversation(s: &Sighting) -> impl Ord + use<> {
    (s.owner, in_time(s))
}

fn in_time(s: &Sighting) -> impl Ord + use<> {
    (s.time, s.point, s.tcp_flags, s.header_length, s.tcp_seq, s.ip_length, s.ip_id, s.k0)
}

/// Whether sightings are of one identity.
pub(crate) fn is_same(a: &Sighting, b: &Sighting) -> bool {
    a.k0 == b.k0 && a.owner == b.owner
}

/// The bundle of an identity, of `count`.
fn by_identity(sighting: &Sighting, count: usize) -> usize {
    (sighting.k0 >> 32) as usize % count
}

fn by_conversation(sighting: &Sighting, count: usize) -> usize {
    sighting.owner as usize % count
}

/// Bundles of sightings that are all in memory.
fn held(sightings: Vec<Vec<Sighting>>) -> Vec<Bundle> {
    let total: usize = sightings.iter().map(Vec::len).sum();
    let count = if total < SMALL { 1 } else { BUNDLES };
    let slot = |sighting: &Sighting| by_identity(sighting, count);
    let mut sizes = vec![0; count];
    sightings.iter().flatten().for_each(|sighting| sizes[slot(sighting)] += 1);
    let mut bundles: Vec<Vec<Sighting>> = sizes.into_iter().map(Vec::with_capacity).collect();
    // Each point's sightings are given back before the next point's are copied.
    for of_point in sightings {
        for sighting in &of_point {
            bundles[slot(sighting)].push(*sighting);
        }
    }
    on_all_cores(bundles.iter_mut(), |next| {
        while let Some(bundle) = next() {
            bundle.sort_unstable_by_key(order);
        }
    });
    bundles.into_iter().map(Bundle::Held).collect()
}
