//! Which conversations carry the same segments.
//!
//! Of a conversation that may have come out of a translation a sample of identities is kept: the smallest ones, so
//! that the choice is the same wherever and whenever they were seen. Then all segments of the conversations that may
//! have gone into one are looked up. Traffic that nobody translated is in neither set and costs one look at a table.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lastseen_packet::observation::{SipKey, protocol};

use crate::evidence::flows::Flows;
use crate::evidence::scratch::ScratchError;
use crate::evidence::sighting::Sighting;
use crate::evidence::sightings::Sightings;
use crate::input::Job;

/// Most sampled sightings of a conversation, and of all together.
const SAMPLE: usize = 512;
const SAMPLES: usize = 1 << 20;
/// An identity that more sampled sightings have than this tells nobody apart.
const CROWD: usize = 64;
/// A packet on both sides of a translation was stamped within this time by the node that did it, nanoseconds.
const SAME_NODE_NANOS: i64 = 100_000_000;
/// On two nodes their clocks come on top.
const OTHER_NODE_NANOS: i64 = 1_000_000_000;

/// Conversations that may have gone into a translation, or come out of one.
pub(super) struct Suspects {
    pub(super) before: Vec<bool>,
    pub(super) after: Vec<bool>,
}

/// One sampled sighting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Sample {
    k0: u64,
    node: u32,
    time: i64,
    kind: Kind,
}

/// How much an identity says: two packets that have nothing to do with each other share none of the first kind, some
/// of the second, and any number of the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Sequence,
    Identification,
    Payload,
    Nothing,
}

#[derive(Debug, Default)]
struct Sketch {
    samples: Vec<Sample>,
    limit: Option<u64>,
}

/// Identities that two conversations share.
#[derive(Clone, Debug, Default)]
pub(super) struct Shared {
    /// Sampled identities of the later conversation.
    pub(super) sampled: usize,
    /// A few for each sample, however often it was seen.
    hits: BTreeSet<Hit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Hit {
    k0: u64,
    kind: Kind,
    is_same_node: bool,
}

/// What identities come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Weight {
    /// Distinct identities.
    pub(super) count: usize,
    /// How unlikely they are shared by chance, as a power of two.
    pub(super) bits: u32,
}

impl Shared {
    /// The weight of all shared identities; only of those seen on one node within a short time, if there is one that
    /// saw both conversations.
    pub(super) fn weight(&mut self, has_common_node: bool) -> Weight {
        self.hits.retain(|hit| hit.is_same_node || !has_common_node);
        let mut hits: Vec<_> = self.hits.iter().collect();
        hits.dedup_by_key(|hit| hit.k0);
        let number = |kind| hits.iter().filter(|hit| hit.kind == kind).count() as u32;
        let bits = |kind, first, further| match number(kind) {
            0 => 0,
            count => first + further * (count - 1),
        };
        // Neighbouring packets are numbered one after the other, so each after the first says less.
        let best = bits(Kind::Sequence, 24, 1).max(bits(Kind::Identification, 12, 3));
        Weight { count: hits.len(), bits: best.max(bits(Kind::Payload, 6, 3)) }
    }
}

/// Identities that suspects share, by conversation before and after.
pub(super) fn find(
    job: &Job,
    flows: &Flows,
    sightings: &Sightings,
    suspects: &Suspects,
) -> Result<BTreeMap<(u32, u32), Shared>, ScratchError> {
    let sketches = sketches(job, flows, sightings, &suspects.after)?;
    let index = index(job, &sketches);
    let mut pairs: HashMap<(u32, u32), Shared, SipKey> = HashMap::with_hasher(SipKey(job.key.0));
    for point in involved(flows, sightings, &suspects.before) {
        let node = job.points[point].node as u32;
        sightings.each(point, |sighting| {
            let before = flows.all[sighting.owner as usize].conversation;
            if !suspects.before[before as usize] {
                return;
            }
            for (after, sample) in index.get(&sighting.k0).into_iter().flatten() {
                let is_same_node = sample.node == node;
                let bound = if is_same_node { SAME_NODE_NANOS } else { OTHER_NODE_NANOS };
                if *after != before && sample.time.abs_diff(sighting.time) <= bound.unsigned_abs() {
                    let shared = pairs.entry((before, *after)).or_default();
                    shared.hits.insert(Hit { k0: sample.k0, kind: sample.kind, is_same_node });
                }
            }
        })?;
    }
    let count = |(pair, shared): ((u32, u32), Shared)| {
        let sampled = sketches.get(&pair.1).map_or(0, Sketch::count);
        (pair, Shared { sampled, ..shared })
    };
    Ok(pairs.into_iter().map(count).collect())
}

/// Points that saw suspects.
fn involved(flows: &Flows, sightings: &Sightings, suspects: &[bool]) -> impl Iterator<Item = usize> + use<> {
    let mut is_involved = vec![false; sightings.points()];
    for flow in flows.all.iter().filter(|flow| flow.segments > 0) {
        is_involved[usize::from(flow.point)] |= suspects[flow.conversation as usize];
    }
    (0..sightings.points()).filter(move |point| is_involved[*point])
}

fn sketches(
    job: &Job,
    flows: &Flows,
    sightings: &Sightings,
    suspects: &[bool],
) -> Result<HashMap<u32, Sketch, SipKey>, ScratchError> {
    let count = suspects.iter().filter(|is_suspect| **is_suspect).count();
    let size = (SAMPLES / count.max(1)).clamp(4, SAMPLE);
    let mut sketches: HashMap<u32, Sketch, SipKey> = HashMap::with_hasher(SipKey(job.key.0));
    for point in involved(flows, sightings, suspects) {
        let node = job.points[point].node as u32;
        sightings.each(point, |sighting| {
            let flow = &flows.all[sighting.owner as usize];
            if suspects[flow.conversation as usize] {
                let Sighting { k0, time, .. } = *sighting;
                let sample = Sample { k0, node, time, kind: kind(flow.key.protocol, sighting) };
                sketches.entry(flow.conversation).or_default().add(sample, size);
            }
        })?;
    }
    for sketch in sketches.values_mut() {
        sketch.prune(size);
    }
    Ok(sketches)
}

fn kind(protocol: u8, sighting: &Sighting) -> Kind {
    let has_payload = sighting.payload_length() > 0;
    match protocol {
        protocol::TCP if sighting.tcp_seq != 0 => Kind::Sequence,
        protocol::TCP => Kind::Nothing,
        _ if has_payload && sighting.ip_id != 0 && !sighting.is_datagram() => Kind::Identification,
        _ if has_payload => Kind::Payload,
        _ => Kind::Nothing,
    }
}

type Index = HashMap<u64, Vec<(u32, Sample)>, SipKey>;

fn index(job: &Job, sketches: &HashMap<u32, Sketch, SipKey>) -> Index {
    let mut index: Index = HashMap::with_hasher(SipKey(job.key.0));
    for (&conversation, sketch) in sketches {
        for sample in &sketch.samples {
            index.entry(sample.k0).or_default().push((conversation, *sample));
        }
    }
    index.retain(|_, samples| samples.len() <= CROWD);
    index
}

impl Sketch {
    fn add(&mut self, sample: Sample, size: usize) {
        if self.limit.is_some_and(|limit| sample.k0 > limit) {
            return;
        }
        self.samples.push(sample);
        if self.samples.len() >= 2 * size {
            self.prune(size);
        }
    }

    /// Keeps the smallest identities, each once per node.
    fn prune(&mut self, size: usize) {
        self.samples.sort_unstable();
        self.samples.dedup_by_key(|sample| (sample.k0, sample.node));
        if self.samples.len() > size {
            self.samples.truncate(size);
            self.limit = self.samples.last().map(|sample| sample.k0);
        }
    }

    fn count(&self) -> usize {
        self.samples.chunk_by(|a, b| a.k0 == b.k0).count()
    }
}
