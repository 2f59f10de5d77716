//! The whole analysis, once the conversations are known: clocks, paths, verdicts.
//!
//! What is found on the way changes what the paths are taken to be: clocks that were wrong, conversations that are
//! matched by their bytes, points that packets do not pass, how long they take, times at which a point cannot be relied on. Each time all is
//! planned anew from what is known, and what was judged by older plans is judged again.

use crate::clock::{Clocks, Crossings};
use crate::evidence::coverage::{Coverage, PASSING_NANOS};
use crate::evidence::flows::Flows;
use crate::evidence::scratch::ScratchError;
use crate::evidence::sightings::Sightings;
use crate::fabric::network::Network;
use crate::infer::Inference;
use crate::input::{DropEvent, Job};
use crate::losses::sandwich::Burst;
use crate::losses::testimony::Settler;
use crate::matching::acks::{AckLogs, Acks, Repeat};
use crate::matching::bypass::{self, Bypasses};
use crate::matching::drops::Drops;
use crate::matching::judge::{Court, Proofs};
use crate::matching::partitions::{ByBytes, Partitions};
use crate::matching::plan::{Plans, Slow};
use crate::matching::run::{self, Findings};
use crate::pattern::Timeline;
use crate::report::assemble::Assembler;
use crate::report::{Outcome, Sampling};

/// What was observed.
#[derive(Debug)]
pub(crate) struct Evidence {
    pub(crate) flows: Flows,
    /// They name their conversation.
    pub(crate) sightings: Sightings,
    pub(crate) acks: AckLogs,
    pub(crate) repeats: Vec<Repeat>,
    pub(crate) drops: Vec<DropEvent>,
    /// Packets that did not come with all of their fragments, by point.
    pub(crate) incomplete: Vec<u64>,
    /// Absent where everything was selected.
    pub(crate) sampling: Option<Sampling>,
}

/// What is known so far.
pub(crate) struct Trial<'t, 'j> {
    job: &'j Job,
    network: &'t Network<'j>,
    coverage: Vec<Coverage>,
    clocks: Clocks,
    /// Paths from what was seen alone, where there is no topology.
    inference: Option<Inference<'j>>,
    by_bytes: ByBytes,
    bypasses: Bypasses,
    slow: Slow,
}

/// What does not change from one hearing to the next.
#[derive(Clone, Copy)]
struct Record<'r> {
    flows: &'r Flows,
    partitions: &'r Partitions,
    proofs: Proofs<'r>,
    timeline: &'r Timeline,
}

impl<'t, 'j> Trial<'t, 'j> {
    /// Nothing is known but the topology, the clocks as they were measured, and when points were capturing.
    pub(crate) fn new(job: &'j Job, network: &'t Network<'j>, coverage: Vec<Coverage>) -> Self {
        let clocks = Clocks::measured(job);
        let (by_bytes, bypasses, slow) = Default::default();
        Self { job, network, coverage, clocks, inference: None, by_bytes, bypasses, slow }
    }

    /// The report and what belongs to it.
    pub(crate) fn outcome(mut self, evidence: Evidence) -> Result<Outcome, ScratchError> {
        let Evidence { mut flows, sightings, acks, repeats, drops, incomplete, sampling } = evidence;
        if self.network.is_unmapped() {
            self.inference = Some(Inference::new(self.job, &flows, &sightings)?);
        }
        let mut partitions = self.bring_together(&mut flows, sightings)?;
        self.by_bytes = partitions.match_bytes(self.job, &self.plans(&flows))?;
        let clocks = self.clocks.clone();
        let acks = Acks::new(self.job, &clocks, &flows, &self.plans(&flows), &acks, repeats);
        let acks = acks.of_some(sampling.is_some());
        let drops = Drops::new(self.job, &clocks, &drops);
        let proofs = Proofs { acks: &acks, drops: &drops };
        let timeline = Timeline::new(self.job.window, &flows);
        let record = Record { flows: &flows, partitions: &partitions, proofs, timeline: &timeline };
        let (plans, findings) = self.judge(record)?;
        drop(partitions);
        let rates = findings.sandwich.rates(&self.coverage, plans.passing());
        let assembler = Assembler {
            job: self.job,
            network: self.network,
            flows: &flows,
            coverage: &self.coverage,
            plans: &plans,
            clocks: &clocks,
            timeline: &timeline,
            incomplete: &incomplete,
            sampling,
            settler: Settler { job: self.job, rates: &rates, drops: &drops },
        };
        Ok(assembler.outcome(findings))
    }

    /// The plans as far as all is known.
    fn plans(&self, flows: &Flows) -> Plans {
        let Self { job, network, coverage, clocks, inference, slow, .. } = self;
        let mut plans = Plans::new(job, network, flows, coverage, clocks, inference.as_ref(), slow);
        plans.are_told_apart(&self.by_bytes);
        bypass::apply(&self.bypasses, &mut plans);
        plans
    }

    /// Brings the sightings of one identity together, and puts all times onto the coordinator's clock.
    fn bring_together(
        &mut self,
        flows: &mut Flows,
        sightings: Sightings,
    ) -> Result<Partitions, ScratchError> {
        let plans = self.plans(flows);
        let crossings = Crossings::new(self.job, &plans, self.clocks.recording());
        let (mut partitions, differences) = Partitions::new(sightings, &plans, &crossings)?;
        self.clocks = self.clocks.clone().refined(&differences);
        if self.clocks.is_refined() {
            partitions.correct(self.job, &self.clocks);
            flows.correct(self.job, &self.clocks);
            for (coverage, point) in self.coverage.iter_mut().zip(&self.job.points) {
                coverage.correct(|time| self.clocks.correct(point.node, time));
            }
        }
        Ok(partitions)
    }

    /// Judges everything, and once more when that shows what the paths were wrongly taken to be.
    fn judge(&mut self, record: Record<'_>) -> Result<(Plans, Findings), ScratchError> {
        let (mut plans, mut findings) = self.hear(record)?;
        self.bypasses = bypass::find(&plans, &findings.tallies);
        self.slow = slow(&findings);
        if !self.bypasses.is_empty() || !self.slow.is_empty() {
            (plans, findings) = self.hear(record)?;
        }
        let bursts = findings.sandwich.bursts(&self.coverage, plans.passing());
        if !bursts.is_empty() {
            self.blind(&bursts);
            (plans, findings) = self.hear(record)?;
        }
        Ok((plans, findings))
    }

    fn hear(&self, record: Record<'_>) -> Result<(Plans, Findings), ScratchError> {
        let Record { flows, partitions, proofs, timeline } = record;
        let plans = self.plans(flows);
        let findings = run::run(&Court::new(self.job, &plans, &self.coverage, proofs, timeline), partitions)?;
        Ok((plans, findings))
    }

    /// What a point cannot be relied on for shows only once all is matched, and changes what it testifies to.
    fn blind(&mut self, bursts: &[Burst]) {
        for burst in bursts {
            self.coverage[burst.point].blind(burst.start, burst.end, burst.rate);
        }
    }
}

/// Twice as long as any took: what did not arrive may have been under way longer than what did.
fn slow(findings: &Findings) -> Slow {
    let passing = findings.tallies.iter().map(|(&at, tally)| (at, tally.longest_nanos.saturating_mul(2)));
    passing.filter(|(_, passing)| *passing > PASSING_NANOS).collect()
}
