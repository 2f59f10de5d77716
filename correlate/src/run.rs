//! Brings sightings of one identity together and has them judged, on all cores.
//!
//! Sightings are spread over partitions by identity, which is a keyed hash: even one elephant flow spreads evenly.
//! Each partition is sorted in place.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::thread;

use crate::LOST_LIMIT;
use crate::clock::{Clocks, Crossings, Differences};
use crate::input::Job;
use crate::intervals;
use crate::judge::{Court, Ledger, SETTLE_NANOS};
use crate::plan::Plans;
use crate::sandwich::Sandwich;
use crate::sighting::Sighting;
use crate::tally::{Missing, Tally};
use crate::trajectory::Assigner;

/// Partitions of a large run; more than cores, so that the last one to finish is not late.
const PARTITIONS: usize = 64;
/// Runs smaller than this take one.
const SMALL: usize = 1 << 16;

/// What the partitions found.
#[derive(Debug)]
pub(crate) struct Findings {
    /// By conversation.
    pub(crate) tallies: BTreeMap<u32, Tally>,
    /// The earliest missing segments, at most [`LOST_LIMIT`] once sealed.
    pub(crate) missing: Vec<Missing>,
    /// What points missed of the segments that passed them.
    pub(crate) sandwich: Sandwich,
}

/// All sightings, which name their conversation, spread by identity and grouped by it.
#[derive(Debug)]
pub(crate) struct Partitions(Vec<Vec<Sighting>>);

impl Partitions {
    /// Groups the sightings, and finds what they say about clocks where paths cross between nodes.
    pub(crate) fn new(
        sightings: Vec<Vec<Sighting>>,
        plans: &Plans,
        crossings: &Crossings,
    ) -> (Self, Differences) {
        let mut partitions = partition(sightings);
        let found = on_all_cores(partitions.iter_mut(), |next| {
            let mut found = Differences::default();
            while let Some(partition) = next() {
                partition.sort_unstable_by_key(order);
                for group in partition.chunk_by(is_same) {
                    crossings.compare(plans.courses[group[0].owner as usize].plan, group, &mut found);
                }
            }
            found
        });
        let mut differences = Differences::default();
        for found in found {
            differences.merge(found);
        }
        (Self(partitions), differences)
    }

    /// Puts all stamps onto the coordinator's clock.
    pub(crate) fn correct(&mut self, job: &Job, clocks: &Clocks) {
        on_all_cores(self.0.iter_mut(), |next| {
            while let Some(partition) = next() {
                for sighting in partition.iter_mut() {
                    sighting.time =
                        clocks.correct(job.points[usize::from(sighting.point)].node, sighting.time);
                }
                // What belongs together stays together, so only its order in time is new.
                for group in partition.chunk_by_mut(is_same) {
                    group.sort_unstable_by_key(order);
                }
            }
        });
    }

    /// Has TCP whose segments some point cannot tell apart matched by its bytes. Returns the conversations that are.
    pub(crate) fn match_bytes(&mut self, job: &Job, plans: &Plans) -> HashSet<u32> {
        if !plans.courses.iter().any(|course| course.is_coarse) {
            return HashSet::new();
        }
        let slack = plans.plans.iter().map(|plan| plan.slack).max().unwrap_or(0);
        let bound = job.guard_nanos.max(SETTLE_NANOS).saturating_add(slack);
        let count = self.0.len();
        intervals::recut(&mut self.0, plans, job.key, bound, |sighting| slot(sighting, count))
    }
}

fn order(s: &Sighting) -> impl Ord + use<> {
    (s.k0, s.owner, s.time, s.point, s.tcp_flags, s.header_length)
}

fn is_same(a: &Sighting, b: &Sighting) -> bool {
    a.k0 == b.k0 && a.owner == b.owner
}

/// Judges all sightings.
pub(crate) fn run(court: &Court<'_>, partitions: &Partitions) -> Findings {
    let found = on_all_cores(partitions.0.iter(), |next| {
        let mut worker = Worker::new(court);
        while let Some(partition) = next() {
            worker.work(partition);
        }
        worker.finish()
    });
    let mut found = found.into_iter();
    let mut findings = found.next().unwrap_or_else(|| Worker::new(court).finish());
    keep_earliest(&mut findings.missing);
    for found in found {
        findings.merge(found);
    }
    findings
}

/// Has every core take items until none is left.
pub(crate) fn on_all_cores<T: Send, R: Send>(
    items: impl Iterator<Item = T> + Send,
    work: impl Fn(&mut dyn FnMut() -> Option<T>) -> R + Sync,
) -> Vec<R> {
    let queue = Mutex::new(items);
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let work = || work(&mut || queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next());
    thread::scope(|scope| {
        let threads: Vec<_> = (1..workers).map(|_| scope.spawn(work)).collect();
        let mut found = vec![work()];
        let join = |thread: thread::ScopedJoinHandle<'_, R>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        found.extend(threads.into_iter().map(join));
        found
    })
}

/// The partition of an identity, of `count`.
fn slot(sighting: &Sighting, count: usize) -> usize {
    (sighting.k0 >> 32) as usize % count
}

fn partition(sightings: Vec<Vec<Sighting>>) -> Vec<Vec<Sighting>> {
    let total: usize = sightings.iter().map(Vec::len).sum();
    let count = if total < SMALL { 1 } else { PARTITIONS };
    let slot = |sighting: &Sighting| slot(sighting, count);
    let mut sizes = vec![0; count];
    sightings.iter().flatten().for_each(|sighting| sizes[slot(sighting)] += 1);
    let mut partitions: Vec<Vec<Sighting>> = sizes.into_iter().map(Vec::with_capacity).collect();
    // Each point's sightings are given back before the next point's are copied.
    for of_point in sightings {
        for sighting in &of_point {
            partitions[slot(sighting)].push(*sighting);
        }
    }
    partitions
}

struct Worker<'a> {
    court: &'a Court<'a>,
    assigner: Assigner,
    tallies: Vec<Option<Box<Tally>>>,
    missing: Vec<Missing>,
    sandwich: Sandwich,
}

impl<'a> Worker<'a> {
    fn new(court: &'a Court<'a>) -> Self {
        let tallies = vec![None; court.plans.courses.len()];
        let sandwich = Sandwich::new(court.job);
        Self { court, assigner: Assigner::default(), tallies, missing: Vec::new(), sandwich }
    }

    fn work(&mut self, partition: &[Sighting]) {
        for group in partition.chunk_by(is_same) {
            let conversation = group[0].owner as usize;
            let plan = self.court.plans.courses[conversation].plan;
            let hops = self.court.plans.plans[plan as usize].len();
            let tally = self.tallies[conversation].get_or_insert_with(|| Box::new(Tally::new(hops)));
            let (sandwich, missing) = (&mut self.sandwich, &mut self.missing);
            self.court.hear(group, &mut self.assigner, &mut Ledger { tally, sandwich, missing });
            if self.missing.len() > 4 * LOST_LIMIT {
                keep_earliest(&mut self.missing);
            }
        }
    }

    fn finish(self) -> Findings {
        let tallies = self.tallies.into_iter().enumerate();
        let tallies = tallies.filter_map(|(at, tally)| Some((at as u32, *tally?))).collect();
        Findings { tallies, missing: self.missing, sandwich: self.sandwich }
    }
}

fn keep_earliest(missing: &mut Vec<Missing>) {
    missing.sort_unstable_by_key(Missing::rank);
    missing.truncate(LOST_LIMIT);
}

impl Findings {
    fn merge(&mut self, other: Self) {
        for (conversation, tally) in other.tallies {
            match self.tallies.get_mut(&conversation) {
                Some(known) => known.merge(&tally),
                None => drop(self.tallies.insert(conversation, tally)),
            }
        }
        self.sandwich.merge(&other.sandwich);
        self.missing.extend(other.missing);
        keep_earliest(&mut self.missing);
    }
}
