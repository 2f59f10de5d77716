//! Brings sightings of one identity together and has them judged, on all cores.
//!
//! Sightings are spread over partitions by identity, which is a keyed hash: even one elephant flow spreads evenly.
//! Each partition is sorted in place and forgotten when it is done.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;

use crate::LOST_LIMIT;
use crate::judge::Court;
use crate::sighting::Sighting;
use crate::tally::{Missing, Tally};
use crate::trajectory::Assigner;

/// Partitions of a large run; more than cores, so that the last one to finish is not late.
const PARTITIONS: usize = 64;
/// Runs smaller than this take one.
const SMALL: usize = 1 << 16;

/// What the partitions found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// By conversation.
    pub(crate) tallies: BTreeMap<u32, Tally>,
    /// The earliest missing segments, at most [`LOST_LIMIT`] once sealed.
    pub(crate) missing: Vec<Missing>,
}

/// Judges all sightings, which name their conversation.
pub(crate) fn run(court: &Court<'_>, sightings: Vec<Vec<Sighting>>) -> Findings {
    let queue = Mutex::new(partition(sightings));
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut worker = Worker::new(court);
        while let Some(mut partition) = next(&queue) {
            worker.work(&mut partition);
        }
        worker.finish()
    };
    let found: Vec<Findings> = thread::scope(|scope| {
        let threads: Vec<_> = (1..workers).map(|_| scope.spawn(work)).collect();
        let mut found = vec![work()];
        found.extend(
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))),
        );
        found
    });
    let mut findings = Findings::default();
    for found in found {
        findings.merge(found);
    }
    findings
}

fn next(queue: &Mutex<Vec<Vec<Sighting>>>) -> Option<Vec<Sighting>> {
    queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop()
}

fn partition(sightings: Vec<Vec<Sighting>>) -> Vec<Vec<Sighting>> {
    let total: usize = sightings.iter().map(Vec::len).sum();
    let count = if total < SMALL { 1 } else { PARTITIONS };
    let slot = |sighting: &Sighting| (sighting.k0 >> 32) as usize % count;
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
}

impl<'a> Worker<'a> {
    fn new(court: &'a Court<'a>) -> Self {
        let tallies = vec![None; court.plans.courses.len()];
        Self { court, assigner: Assigner::default(), tallies, missing: Vec::new() }
    }

    fn work(&mut self, partition: &mut [Sighting]) {
        partition.sort_unstable_by_key(|s| (s.k0, s.owner, s.time, s.point, s.tcp_flags, s.header_length));
        for group in partition.chunk_by(|a, b| a.k0 == b.k0 && a.owner == b.owner) {
            let conversation = group[0].owner as usize;
            let plan = self.court.plans.courses[conversation].plan;
            let hops = self.court.plans.plans[plan as usize].len();
            let tally = self.tallies[conversation].get_or_insert_with(|| Box::new(Tally::new(hops)));
            let missing = &mut self.missing;
            self.court.hear(group, &mut self.assigner, tally, &mut |record| missing.push(record));
            if self.missing.len() > 4 * LOST_LIMIT {
                keep_earliest(&mut self.missing);
            }
        }
    }

    fn finish(self) -> Findings {
        let tallies = self.tallies.into_iter().enumerate();
        let tallies = tallies.filter_map(|(at, tally)| Some((at as u32, *tally?))).collect();
        Findings { tallies, missing: self.missing }
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
        self.missing.extend(other.missing);
        keep_earliest(&mut self.missing);
    }
}
