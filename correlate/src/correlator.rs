//! Takes batches, then runs the whole analysis.

use std::collections::HashSet;
use std::sync::Arc;

use lastseen_packet::observation::{Columns, Observation, SipKey, gso, marks, protocol};
use lastseen_packet::{IdentityKey, Segment, Threshold, segments};

use crate::ablation::Ablation;
use crate::evidence::coverage::Coverage;
use crate::evidence::flows::{FLOW_LIMIT, Flows, is_matched};
use crate::evidence::sampling::{Selection, Thresholds};
use crate::evidence::scratch::{Overflow, Record, Scratch, ScratchError};
use crate::evidence::sighting::{LEAST_ROOM, Sighting};
use crate::evidence::sightings::Sightings;
use crate::fabric::network::Network;
use crate::input::{BatchError, DropError, DropEvent, Job, JobError, Slice};
use crate::matching::acks::{AckLogs, Repeat};
use crate::matching::drops::DROP_LIMIT;
use crate::report::Outcome;
use crate::segments::fragments::Fragmented;
use crate::segments::pieces::Pieces;
use crate::translation::{self, hidden, vanished};
use crate::trial::{Evidence, Trial};

/// Most observation points of a run.
const POINT_LIMIT: usize = 1 << 16;
/// Most segments of a run. At 32 bytes each, and as much again while they are grouped, 2 GiB.
pub(crate) const SEGMENT_LIMIT: usize = 1 << 25;
/// The same where memory need not hold them: 8 GiB of scratch space, and as much again.
pub(crate) const SCRATCH_LIMIT: usize = 1 << 28;
/// Share of memory that is filled while observations are collected.
const COLLECTED: usize = 2;

/// A correlation run: batches in, an outcome out.
#[derive(Debug)]
pub struct Correlator {
    job: Job,
    flows: Flows,
    coverage: Vec<Coverage>,
    sightings: Sightings,
    /// Flow and identification of fragments.
    fragments: HashSet<(u32, u16), SipKey>,
    pieces: Pieces,
    acks: AckLogs,
    drops: Vec<DropEvent>,
    thresholds: Thresholds,
    /// Segments and fragments, and of them the bytes in memory.
    count: usize,
    held_bytes: usize,
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
            sightings: Sightings::new(points),
            fragments: HashSet::with_hasher(SipKey(job.key.0)),
            pieces: Pieces::new(points),
            acks: AckLogs::default(),
            drops: Vec::new(),
            thresholds: Thresholds::default(),
            count: 0,
            held_bytes: 0,
            dictionary: Vec::new(),
            ablation: None,
            job,
        })
    }

    /// Holds observations in at most `bytes` of memory, and the rest in `scratch`. Flows, losses, acknowledgments and the
    /// names of segments that are left out around a change of selection, of which there are far fewer, come on top.
    /// Before the first batch.
    #[must_use]
    pub fn within(mut self, bytes: usize, scratch: Box<dyn Scratch>) -> Self {
        self.sightings.overflow = Some(Arc::new(Overflow::new(bytes, scratch)));
        self
    }

    /// Nothing tells how far the clock of `node` is from those of the others, not even about: what its points did not see
    /// is not observable, and no other node's point is asked for a packet that was last seen there.
    #[must_use]
    pub fn apart(mut self, node: usize) -> Self {
        for (coverage, point) in self.coverage.iter_mut().zip(&self.job.points) {
            coverage.is_apart |= point.node == node;
        }
        self
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
                self.relieve()?;
            }
        }
        Ok(())
    }

    /// Says by which threshold the packets of a batch were selected, whose slice is `slice`. What is never called for
    /// was selected throughout.
    pub fn selected_by(&mut self, slice: Slice, threshold: Threshold) {
        self.thresholds.note(slice.start_nanos, slice.end_nanos, threshold);
    }

    /// Moves to scratch space what memory has no room for.
    #[inline]
    fn relieve(&mut self) -> Result<(), ScratchError> {
        let Some(overflow) = self.sightings.overflow.as_ref() else { return Ok(()) };
        if self.held_bytes.saturating_mul(COLLECTED) <= overflow.bytes {
            return Ok(());
        }
        self.held_bytes = 0;
        self.pieces.put_away(overflow)?;
        self.sightings.put_away()
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
        let first = self.sightings.count(point);
        for segment in segments(key, row, &self.job.key) {
            if !is_matched(&segment) {
                continue;
            }
            if is_long(&segment, row.gso_type) && key.protocol == protocol::TCP {
                for part in Sighting::parts(segment, shift, flow, point as u16) {
                    self.sightings.push(point, part);
                }
                continue;
            }
            if segment.is_fragment() {
                self.fragments.insert((flow, segment.ip_id));
            }
            self.sightings.push(point, Sighting::new(&segment, shift, flow, point as u16));
        }
        let end = self.sightings.count(point);
        self.flows.all[flow as usize].segments += (end - first) as u64;
        self.count += end - first;
        self.held_bytes += (end - first) * Sighting::BYTES;
        if row.is_fragment() || row.outer_fragment_length != 0 {
            self.pieces.note(point, flow, row, shift, (first, end));
            self.count += 1;
            self.held_bytes += Pieces::BYTES;
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
        let fragments = fragments_at_most(columns);
        let overflow = self.sightings.overflow.as_deref();
        let (limit, room) = match overflow {
            Some(overflow) => (SCRATCH_LIMIT, Pieces::room(overflow)),
            None => (SEGMENT_LIMIT, SEGMENT_LIMIT),
        };
        if self.count + segments_at_most(columns) + fragments > limit {
            return Err(BatchError::Full { what: "segments", limit });
        }
        if self.pieces.count(point) + fragments > room {
            return Err(BatchError::Full { what: "fragments of one point", limit: room });
        }
        Ok(())
    }

    /// Judges everything that was added.
    ///
    /// # Errors
    /// If scratch space, which it was given [to stay within](Self::within) its memory, failed.
    pub fn finish(self) -> Result<Outcome, ScratchError> {
        let Self { mut job, mut flows, mut coverage, mut sightings, pieces, acks, drops, .. } = self;
        let incomplete = pieces.settle(&job, &flows, &mut sightings)?;
        let mut selection = self.thresholds.seal(&job);
        let mut distrusted = Vec::new();
        if let Some(selection) = &mut selection {
            distrusted = Selection::distrust(&mut job, &mut flows, &mut sightings)?;
            selection.sift(&mut flows, &self.fragments, &mut sightings)?;
        }
        let mut network = Network::new(&job, &flows);
        flows.converse(|point, key| network.domain(point, key));
        flows.join(translation::find(&job, &network, &flows, &sightings)?);
        hidden::add(&job, &network, &mut flows);
        flows.vanished = vanished::find(&job, &network, &flows);
        coverage.iter_mut().for_each(Coverage::seal);
        for point in distrusted {
            coverage[point].blind(i64::MIN, i64::MAX, 1.0);
        }
        let fragmented = Fragmented::new(&self.fragments, &flows, job.key);
        let sieve = Sieve { selection: selection.as_ref(), ablation: self.ablation, key: job.key };
        let repeats = follow(&mut flows, &mut sightings, &fragmented, &sieve)?;
        let sampling = selection.map(|selection| selection.report());
        let evidence = Evidence { flows, sightings, acks, repeats, drops, incomplete, sampling };
        Trial::new(&job, &network, coverage).outcome(evidence)
    }
}

/// What is left out of what a point saw.
struct Sieve<'s> {
    selection: Option<&'s Selection>,
    ablation: Option<Ablation>,
    key: IdentityKey,
}

/// Follows what each point saw in order of time, and has every sighting name its conversation instead of its flow.
/// Returns the bytes that points saw again.
fn follow(
    flows: &mut Flows,
    sightings: &mut Sightings,
    fragmented: &Fragmented,
    sieve: &Sieve<'_>,
) -> Result<Vec<Repeat>, ScratchError> {
    let mut repeats = Vec::new();
    for point in 0..sightings.points() {
        let mut streams = flows.streams();
        let mut known = HashSet::with_hasher(SipKey(sieve.key.0));
        sightings.work(point, |some| {
            flows.follow_streams(&mut streams, some, &mut repeats);
            fragmented.unify(flows, some);
            if let Some(selection) = sieve.selection {
                selection.sweep(flows, some);
            }
            for sighting in &mut *some {
                sighting.owner = flows.all[sighting.owner as usize].conversation;
            }
            if let Some(idea) = sieve.ablation {
                idea.sift(some, &mut known);
            }
        })?;
    }
    Ok(repeats)
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
    gso_type == gso::UNKNOWN && Sighting::is_too_small_for(segment) && !segment.is_fragment()
}

/// A row of a few bytes can claim thousands of segments: what a batch comes to must be known before it is expanded.
fn segments_at_most(columns: &Columns) -> usize {
    let rows = columns.gso_type.iter().zip(&columns.gso_size).zip(&columns.payload_length);
    let of_row = rows.map(|((&kind, &size), &payload)| match (kind, size) {
        (gso::TCPV4 | gso::TCPV6, 1..) => {
            payload.div_ceil(u32::from(size)).clamp(1, lastseen_packet::MAX_SEGMENTS)
        }
        (gso::UNKNOWN, _) => payload.div_ceil(LEAST_ROOM).max(1),
        _ => 1,
    });
    of_row.map(|count| count as usize).sum()
}

/// Rows that are kept besides, to be put together with the other fragments of their datagram.
fn fragments_at_most(columns: &Columns) -> usize {
    let fragments = columns.outer_fragment_length.iter().zip(&columns.fragment_offset).zip(&columns.marks);
    let fragments = fragments.filter(|((outer, offset), marks)| {
        **outer != 0 || **offset != 0 || **marks & marks::MORE_FRAGMENTS != 0
    });
    fragments.count()
}
