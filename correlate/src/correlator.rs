//! Takes batches, then runs the whole analysis.

use lastseen_packet::observation::{Columns, Observation, gso, marks, protocol};
use lastseen_packet::{Segment, Threshold, segments};

use crate::ablation::Ablation;
use crate::acks::{AckLogs, Acks};
use crate::assemble::Assembler;
use crate::clock::{Clocks, Crossings};
use crate::coverage::Coverage;
use crate::drops::{DROP_LIMIT, Drops};
use crate::flows::{FLOW_LIMIT, Flows, is_matched};
use crate::fragments::Fragmented;
use crate::infer::Inference;
use crate::input::{BatchError, DropError, DropEvent, Job, JobError, Slice};
use crate::judge::{Court, Proofs};
use crate::losses::Settler;
use crate::network::Network;
use crate::pattern::Timeline;
use crate::pieces::Pieces;
use crate::plan::Plans;
use crate::report::Outcome;
use crate::run::{self, Partitions};
use crate::sampling::{Selection, Thresholds};
use crate::sighting::{LONGEST_PAYLOAD, Sighting};
use crate::{bypass, hidden, translation};

/// Most observation points of a run.
const POINT_LIMIT: usize = 1 << 16;
/// Most segments of a run. At 32 bytes each, and as much again while they are grouped, 2 GiB.
pub(crate) const SEGMENT_LIMIT: usize = 1 << 25;

/// A correlation run: batches in, an outcome out.
#[derive(Debug)]
pub struct Correlator {
    job: Job,
    flows: Flows,
    coverage: Vec<Coverage>,
    sightings: Vec<Vec<Sighting>>,
    /// Flow and identification of fragments.
    fragments: Vec<(u32, u16)>,
    pieces: Pieces,
    acks: AckLogs,
    drops: Vec<DropEvent>,
    thresholds: Thresholds,
    count: usize,
    /// Flow of each dictionary entry of the batch at hand.
    dictionary: Vec<u32>,
    ablation: Option<Ablation>,
}

impl Correlator {
    /// A run over the points of `job`.
    pub fn new(job: Job) -> Result<Self, JobError> {
        check(&job)?;
        let points = job.points.len();
        Ok(Self {
            flows: Flows::new(job.key.0),
            coverage: vec![Coverage::default(); points],
            sightings: vec![Vec::new(); points],
            fragments: Vec::new(),
            pieces: Pieces::default(),
            acks: AckLogs::default(),
            drops: Vec::new(),
            thresholds: Thresholds::default(),
            count: 0,
            dictionary: Vec::new(),
            ablation: None,
            job,
        })
    }

    /// Does without an idea of the method, to measure what it is worth. Before the first batch.
    #[doc(hidden)]
    #[must_use]
    pub fn without(self, idea: Ablation) -> Self {
        Self { ablation: Some(idea), ..self }
    }

    /// Adds a batch of the point at index `point`. Batches come in any order, each once.
    ///
    /// `to_coordinator_nanos` is added to the batch's own stamps to have them on the coordinator's clock; `slice` is
    /// on that clock already. A batch without rows still says that the point was capturing.
    pub fn add(
        &mut self,
        point: usize,
        slice: Slice,
        to_coordinator_nanos: i64,
        columns: &Columns,
    ) -> Result<(), BatchError> {
        self.admit(point, slice, columns)?;
        let cut = columns.marks.iter().filter(|marks| is_cut(**marks)).count() as u64;
        self.coverage[point].add(slice, cut);
        self.dictionary.clear();
        for key in &columns.flows {
            self.dictionary.push(self.flows.intern(point as u16, key));
        }
        for index in 0..columns.len() {
            let row = columns.row(index);
            let time = row.time_nanos.saturating_add(to_coordinator_nanos);
            let seen = self.ablation.map_or(Some(row), |idea| idea.see(row, time, self.job.window));
            if let Some(row) = seen {
                self.take(point, to_coordinator_nanos, columns, &row);
            }
        }
        Ok(())
    }

    /// Says by which threshold the packets of a batch were selected, whose slice is `slice`. What is never called for
    /// was selected throughout.
    pub fn selected_by(&mut self, slice: Slice, threshold: Threshold) {
        self.thresholds.note(slice.start_nanos, slice.end_nanos, threshold);
    }

    /// Adds what a node's kernel said of a packet it dropped. Events come in any order.
    pub fn add_drop(&mut self, event: DropEvent) -> Result<(), DropError> {
        let nodes = self.job.nodes.len();
        if event.node >= nodes {
            return Err(DropError::UnknownNode { node: event.node, nodes });
        }
        if self.drops.len() >= DROP_LIMIT {
            return Err(DropError::Full { limit: DROP_LIMIT });
        }
        self.drops.push(event);
        Ok(())
    }

    fn take(&mut self, point: usize, shift: i64, columns: &Columns, row: &Observation) {
        let flow = self.dictionary[row.flow as usize];
        self.flows.count(flow, row, shift);
        let key = &columns.flows[row.flow as usize];
        if is_cut(row.marks) {
            return;
        }
        if key.protocol == protocol::TCP {
            self.acks.note(flow, row, shift);
        }
        let first = self.sightings[point].len();
        for segment in segments(key, row, &self.job.key) {
            if !is_matched(&segment) {
                continue;
            }
            if is_long(&segment, row.gso_type) && key.protocol == protocol::TCP {
                let of_point = &mut self.sightings[point];
                let known = of_point.len();
                of_point.extend(Sighting::parts(segment, shift, flow, point as u16));
                self.count += of_point.len() - known;
                self.flows.all[flow as usize].segments += (of_point.len() - known) as u64;
                continue;
            }
            self.flows.all[flow as usize].segments += 1;
            if segment.is_fragment() {
                self.fragments.push((flow, segment.ip_id));
            }
            self.sightings[point].push(Sighting::new(&segment, shift, flow, point as u16));
            self.count += 1;
        }
        if row.is_fragment() || row.outer_fragment_length != 0 {
            self.pieces.note(flow, row, shift, (first, self.sightings[point].len()));
            self.count += 1;
        }
    }

    /// Refuses a batch before anything of it is counted.
    fn admit(&self, point: usize, slice: Slice, columns: &Columns) -> Result<(), BatchError> {
        let points = self.job.points.len();
        let known = self.job.points.get(point).ok_or(BatchError::UnknownPoint { point, points })?;
        let (node, interface) = (self.job.nodes[known.node].name.clone(), known.interface.clone());
        if slice.end_nanos < slice.start_nanos {
            let by = slice.start_nanos.saturating_sub(slice.end_nanos);
            return Err(BatchError::BackwardSlice { node, interface, by });
        }
        if !columns.is_consistent() {
            return Err(BatchError::Inconsistent { node, interface });
        }
        if self.flows.all.len() + columns.flows.len() > FLOW_LIMIT {
            return Err(BatchError::Full { what: "flows", limit: FLOW_LIMIT });
        }
        if self.count + segments_at_most(columns) > SEGMENT_LIMIT {
            return Err(BatchError::Full { what: "segments", limit: SEGMENT_LIMIT });
        }
        Ok(())
    }

    /// Judges everything that was added.
    pub fn finish(self) -> Outcome {
        let Self {
            mut job,
            mut flows,
            mut coverage,
            mut sightings,
            fragments,
            pieces,
            acks,
            drops,
            thresholds,
            ablation,
            ..
        } = self;
        let incomplete = pieces.settle(&job, &flows, &mut sightings);
        let mut selection = thresholds.seal(&job);
        let mut distrusted = Vec::new();
        if let Some(selection) = &mut selection {
            distrusted = Selection::distrust(&mut job, &mut sightings);
            selection.sift(&mut flows, &mut sightings);
        }
        let mut network = Network::new(&job, &flows);
        flows.converse(|point, key| network.domain(point, key));
        flows.join(translation::find(&job, &network, &flows, &sightings));
        hidden::add(&job, &network, &mut flows);
        coverage.iter_mut().for_each(Coverage::seal);
        for point in distrusted {
            coverage[point].blind(i64::MIN, i64::MAX, 1.0);
        }
        let fragmented = Fragmented::new(&fragments, &flows, job.key);
        let mut repeats = Vec::new();
        for of_point in &mut sightings {
            // Already in order unless batches came out of order, which this sort finds out in one pass.
            of_point.sort_by_key(|sighting| (sighting.time, sighting.tcp_seq));
            flows.follow_streams(of_point, &mut repeats);
            fragmented.unify(&flows, of_point);
            if let Some(selection) = &selection {
                selection.sweep(of_point);
            }
            for sighting in &mut *of_point {
                sighting.owner = flows.all[sighting.owner as usize].conversation;
            }
            if let Some(idea) = ablation {
                idea.sift(of_point, job.key.0);
            }
        }
        let mut clocks = Clocks::measured(&job);
        let inference = network.is_unmapped().then(|| Inference::new(&job, &flows, &sightings));
        let inference = inference.as_ref();
        let mut plans = Plans::new(&job, &network, &flows, &coverage, &clocks, inference);
        let crossings = Crossings::new(&job, &plans, clocks.recording());
        let (mut partitions, differences) = Partitions::new(sightings, &plans, &crossings);
        clocks = clocks.refined(&differences);
        if clocks.is_refined() {
            partitions.correct(&job, &clocks);
            flows.correct(&job, &clocks);
            for (coverage, point) in coverage.iter_mut().zip(&job.points) {
                coverage.correct(|time| clocks.correct(point.node, time));
            }
        }
        plans = Plans::new(&job, &network, &flows, &coverage, &clocks, inference);
        let by_bytes = partitions.match_bytes(&job, &plans);
        plans.are_told_apart(&by_bytes);
        let acks = Acks::new(&job, &clocks, &flows, &plans, &acks, repeats).of_some(selection.is_some());
        let drops = Drops::new(&job, &clocks, &drops);
        let proofs = Proofs { acks: &acks, drops: &drops };
        let timeline = Timeline::new(job.window, &flows);
        let judged = |plans: &Plans, coverage: &[Coverage]| {
            run::run(&Court::new(&job, plans, coverage, proofs, &timeline), &partitions)
        };
        let mut findings = judged(&plans, &coverage);
        let bypasses = bypass::find(&plans, &findings.tallies);
        if !bypasses.is_empty() {
            bypass::apply(&bypasses, &mut plans);
            findings = judged(&plans, &coverage);
        }
        let bursts = findings.sandwich.bursts(&coverage);
        if !bursts.is_empty() {
            // What a point cannot be relied on for shows only once all is matched, and changes what it testifies to.
            for burst in bursts {
                coverage[burst.point].blind(burst.start, burst.end, burst.rate);
            }
            plans = Plans::new(&job, &network, &flows, &coverage, &clocks, inference);
            plans.are_told_apart(&by_bytes);
            bypass::apply(&bypasses, &mut plans);
            findings = judged(&plans, &coverage);
        }
        drop(partitions);
        let rates = findings.sandwich.rates(&coverage);
        Assembler {
            job: &job,
            network: &network,
            flows: &flows,
            coverage: &coverage,
            plans: &plans,
            clocks: &clocks,
            timeline: &timeline,
            incomplete: &incomplete,
            sampling: selection.map(|selection| selection.report()),
            settler: Settler { job: &job, rates: &rates, drops: &drops },
        }
        .outcome(findings)
    }
}

fn check(job: &Job) -> Result<(), JobError> {
    let (start, end) = (job.window.start_nanos, job.window.end_nanos);
    if end <= start {
        return Err(JobError::EmptyWindow { start, end });
    }
    let count = job.points.len();
    if count > POINT_LIMIT {
        return Err(JobError::TooManyPoints { count, limit: POINT_LIMIT });
    }
    let nodes = job.nodes.len();
    match job.points.iter().enumerate().find(|(_, point)| point.node >= nodes) {
        Some((point, stray)) => Err(JobError::UnknownNode { point, node: stray.node, nodes }),
        None => Ok(()),
    }
}

/// The snap length cut what the identity is made of: at a hop with fewer headers around it the same packet has another
/// one, so it is no sighting but a packet that may have been missed.
fn is_cut(row_marks: u8) -> bool {
    row_marks & marks::HASH_TRUNCATED != 0
}

/// A TCP super-packet of unknown segment size that one sighting cannot hold.
fn is_long(segment: &Segment, gso_type: u8) -> bool {
    gso_type == gso::UNKNOWN && segment.payload_length > LONGEST_PAYLOAD && !segment.is_fragment()
}

/// A row of a few bytes can claim thousands of segments: what a batch comes to must be known before it is expanded.
fn segments_at_most(columns: &Columns) -> usize {
    let rows = columns.gso_type.iter().zip(&columns.gso_size).zip(&columns.payload_length);
    let of_row = rows.map(|((&kind, &size), &payload)| match (kind, size) {
        (gso::TCPV4 | gso::TCPV6, 1..) => {
            payload.div_ceil(u32::from(size)).clamp(1, lastseen_packet::MAX_SEGMENTS)
        }
        (gso::UNKNOWN, _) => payload.div_ceil(LONGEST_PAYLOAD).max(1),
        _ => 1,
    });
    // Besides, a fragment is kept to be put together with its others.
    let fragments = columns.outer_fragment_length.iter().zip(&columns.fragment_offset).zip(&columns.marks);
    let fragments = fragments.filter(|((outer, offset), marks)| {
        **outer != 0 || **offset != 0 || **marks & marks::MORE_FRAGMENTS != 0
    });
    of_row.map(|count| count as usize).sum::<usize>() + fragments.count()
}
