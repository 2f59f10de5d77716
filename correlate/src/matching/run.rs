//! Has the sightings judged, on all cores.

use std::collections::BTreeMap;

use crate::LOST_LIMIT;
use crate::evidence::scratch::ScratchError;
use crate::evidence::sighting::Sighting;
use crate::losses::sandwich::Sandwich;
use crate::losses::tally::{Missing, Tally};
use crate::matching::cores::try_on_all_cores;
use crate::matching::judge::{Court, Ledger};
use crate::matching::partitions::{Partitions, is_same};
use crate::matching::trajectory::Assigner;

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

/// Judges all sightings.
pub(crate) fn run(court: &Court<'_>, partitions: &Partitions) -> Result<Findings, ScratchError> {
    let found = try_on_all_cores(partitions.bundles.iter(), |next| {
        let mut worker = Worker::new(court);
        while let Some(bundle) = next() {
            worker.work(&partitions.load(bundle)?);
        }
        Ok(worker.finish())
    })?;
    let mut found = found.into_iter();
    let mut findings = found.next().unwrap_or_else(|| Worker::new(court).finish());
    keep_earliest(&mut findings.missing);
    for found in found {
        findings.merge(found);
    }
    Ok(findings)
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
