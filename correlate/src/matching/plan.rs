//! What matching needs to know of a conversation: its points in order, which of them it bypasses, and which bits of a
//! trajectory mean what. Bit `i` of every mask stands for point `i` of the path.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lastseen_packet::observation::protocol;

use crate::clock::Clocks;
use crate::evidence::coverage::{Coverage, PASSING_NANOS};
use crate::evidence::flows::Flows;
use crate::fabric::network::Network;
use crate::fabric::seen::{ends_of, seen_by_conversation, seen_by_ends, seen_by_tuple};
use crate::infer::Inference;
use crate::input::Job;
use crate::matching::partitions::ByBytes;
use crate::path::{self, Path};
use crate::translation::way;

/// Disorder between stamps of one node, nanoseconds: taps of one node share or reuse them.
const STAMP_SLACK_NANOS: i64 = 1_000_000;
/// Assumed error of a clock that nobody measured, nanoseconds.
const UNKNOWN_CLOCK_NANOS: i64 = 50_000_000;

/// Conversations whose packets take longer than [`PASSING_NANOS`] from end to end, and how long at most.
pub(crate) type Slow = BTreeMap<u32, i64>;

/// A path and what matching derives from it.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) path: Path,
    /// Points as sightings name them.
    points: Vec<u16>,
    /// How much earlier a later point may stamp a packet, nanoseconds.
    pub(crate) slack: i64,
    /// How long a packet takes from its first point to its last at most, nanoseconds: for so long after it was seen it is
    /// asked for at later points.
    pub(crate) passing: i64,
    /// Points that missed or may have missed packets at some time of the window.
    pub(crate) dirty: Vec<(u8, usize)>,
    /// A point cannot tell the segments of a TCP super-packet apart.
    is_coarse: bool,
    /// The last point of the path is not its end: none is on the destination's node, which was asked for, or none on
    /// the destination pod's interface, or its only point is at one of two nodes. Whether packets arrive is not known.
    pub(crate) is_end_unseen: bool,
    /// The path has one point and nothing says that there is more of it: what was seen there cannot be judged.
    pub(crate) is_uncompared: bool,
}

/// A conversation's use of a plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Course {
    pub(crate) plan: u32,
    /// Points on the path.
    pub(crate) active: u32,
    /// Points that turned out not to be on the path.
    pub(crate) bypassed: u32,
    /// Super-packets of unknown segment size may hide segments at some point.
    pub(crate) is_coarse: bool,
    /// Points that saw it.
    seen: u32,
    /// It may go on beyond the last of its points under a tuple that was not seen.
    pub(crate) is_open: bool,
    /// No point shows its segments: what is counted are the pieces that super-packets were cut into.
    pub(crate) is_in_pieces: bool,
}

impl Course {
    /// Position of the last point that saw it.
    pub(crate) fn last(self) -> u32 {
        31_u32.saturating_sub(self.seen.leading_zeros())
    }

    /// Points beyond the last that saw it; none if none saw it.
    pub(crate) fn beyond(self) -> u32 {
        if self.seen == 0 { 0 } else { self.active & !((2_u32 << self.last()).wrapping_sub(1)) }
    }

    /// True if one of `points` saw it.
    pub(crate) fn saw(self, points: u32) -> bool {
        self.seen & points != 0
    }

    /// Takes points off its path.
    pub(crate) fn bypass(&mut self, points: u32) {
        self.active &= !points;
        self.bypassed |= points;
    }

    /// Without the points beyond the last that saw the conversation: they may have seen it as another.
    fn up_to_last_seen(self) -> Self {
        let beyond = self.beyond();
        Self { active: self.active & !beyond, is_open: self.is_open || beyond != 0, ..self }
    }
}

impl Plan {
    /// All but when its points may have missed packets.
    fn new(path: Path, job: &Job, clocks: &Clocks) -> Self {
        let nodes = || path.points.iter().map(|&point| job.points[point].node);
        let crosses = nodes().zip(nodes().skip(1)).any(|(a, b)| a != b);
        let error = |node: usize| clocks.error_nanos(node).unwrap_or(UNKNOWN_CLOCK_NANOS).max(0);
        let worst = nodes().map(error).max().filter(|_| crosses).unwrap_or(0);
        let is_alone = path.points.len() < 2;
        let is_between_nodes =
            path.source_node.zip(path.destination_node).is_some_and(|(from, to)| from != to);
        let is_end_unseen = path.is_cut_short
            || path.is_tenant_unknown
            || path.is_open
            || is_alone && is_between_nodes
            || path.destination_node.is_some_and(|end| !nodes().any(|node| node == end));
        Self {
            points: path.points.iter().map(|&point| point as u16).collect(),
            slack: STAMP_SLACK_NANOS.saturating_add(worst.saturating_mul(2)),
            passing: PASSING_NANOS,
            dirty: Vec::new(),
            is_coarse: path.points.iter().any(|&point| !job.points[point].gso_known),
            is_end_unseen,
            is_uncompared: is_alone && !is_end_unseen,
            path,
        }
    }

    /// Notes which points may have missed packets.
    fn examine(&mut self, job: &Job, coverage: &[Coverage]) {
        let (start, end) = (job.window.start_nanos, job.window.end_nanos);
        let is_dirty = |point: usize| !coverage[point].is_clean_around(start, end, self.passing);
        let dirty = self.path.points.iter().enumerate().filter(|(_, point)| is_dirty(**point));
        self.dirty = dirty.map(|(at, &point)| (at as u8, point)).collect();
    }

    /// The place of a point on the path.
    #[inline]
    pub(crate) fn position(&self, point: u16) -> Option<u32> {
        self.points.iter().position(|&known| known == point).map(|at| at as u32)
    }

    /// Positions of the points in `dirty`.
    pub(crate) fn dirty_mask(&self) -> u32 {
        self.dirty.iter().fold(0, |mask, (at, _)| mask | 1 << at)
    }

    pub(crate) fn len(&self) -> usize {
        self.points.len()
    }
}

/// Plans of all conversations.
#[derive(Debug, Default)]
pub(crate) struct Plans {
    pub(crate) plans: Vec<Plan>,
    /// By conversation.
    pub(crate) courses: Vec<Course>,
}

impl Plans {
    pub(crate) fn new(
        job: &Job,
        network: &Network<'_>,
        flows: &Flows,
        coverage: &[Coverage],
        clocks: &Clocks,
        inference: Option<&Inference<'_>>,
        slow: &Slow,
    ) -> Self {
        let counts = counts(flows);
        let mut plans = Self::default();
        let mut interned = BTreeMap::new();
        let intern = |path: Path| {
            let next = plans.plans.len() as u32;
            *interned.entry(path).or_insert_with_key(|path| {
                plans.plans.push(Plan::new(path.clone(), job, clocks));
                next
            })
        };
        let of_conversation: Vec<u32> = match inference {
            Some(inference) => inferred(flows, inference, intern),
            None => expected(network, flows, intern),
        };
        for (&conversation, &passing) in slow {
            let plan = &mut plans.plans[of_conversation[conversation as usize] as usize];
            plan.passing = plan.passing.max(passing);
        }
        plans.plans.iter_mut().for_each(|plan| plan.examine(job, coverage));
        for (index, conversation) in flows.conversations.iter().enumerate() {
            let plan = of_conversation[index];
            let is_tcp = conversation.tuple.protocol == protocol::TCP;
            let course = course(plan, &plans.plans[plan as usize], &counts[index], is_tcp);
            let course = Course { is_open: flows.vanished.contains(&(index as u32)), ..course };
            let is_doubtful = flows.doubtful.contains(&(index as u32));
            plans.courses.push(if is_doubtful { course.up_to_last_seen() } else { course });
        }
        plans
    }

    /// How long a packet takes at most on any of them, nanoseconds.
    pub(crate) fn passing(&self) -> i64 {
        self.plans.iter().map(|plan| plan.passing).fold(PASSING_NANOS, i64::max)
    }

    /// What super-packets may hide of these conversations is known by its bytes.
    pub(crate) fn are_told_apart(&mut self, by_bytes: &ByBytes) {
        for &conversation in &by_bytes.told {
            self.courses[conversation as usize].is_coarse = false;
        }
        for &conversation in &by_bytes.in_pieces {
            self.courses[conversation as usize].is_in_pieces = true;
        }
    }
}

/// By conversation, from what was seen alone.
fn inferred(flows: &Flows, inference: &Inference<'_>, mut intern: impl FnMut(Path) -> u32) -> Vec<u32> {
    let by_way: Vec<u32> = inference.paths().map(&mut intern).collect();
    let plan = |conversation| by_way[inference.way_of(flows.head(conversation)) as usize];
    (0..flows.conversations.len() as u32).map(plan).collect()
}

/// By conversation, from the topology.
fn expected(network: &Network<'_>, flows: &Flows, mut intern: impl FnMut(Path) -> u32) -> Vec<u32> {
    let mut by_ends = BTreeMap::new();
    let mut divided = BTreeSet::new();
    for (ends, seen) in seen_by_ends(flows) {
        let (domain, source, destination) = ends;
        if network.divides(&seen.points) {
            divided.insert(ends);
        }
        by_ends.insert(ends, intern(path::find(network, domain, source, destination, &seen)));
    }
    let mut own = HashMap::new();
    for (conversation, seen) in seen_by_conversation(flows, |ends| divided.contains(ends)) {
        let (domain, source, destination) = ends_of(&flows.conversations[conversation as usize]);
        own.insert(conversation, intern(path::find(network, domain, source, destination, &seen)));
    }
    for (conversation, domain, tuples) in seen_by_tuple(flows) {
        own.insert(conversation, intern(way::find(network, domain, &tuples)));
    }
    let plan = |(conversation, index)| {
        let own = own.get(&flows.head(index)).copied();
        own.unwrap_or_else(|| by_ends[&ends_of(conversation)])
    };
    flows.conversations.iter().zip(0..).map(plan).collect()
}

/// Points that saw each conversation.
fn counts(flows: &Flows) -> Vec<Vec<u16>> {
    let mut counts = vec![Vec::new(); flows.conversations.len()];
    for flow in flows.all.iter().filter(|flow| flow.segments > 0) {
        counts[flow.conversation as usize].push(flow.point);
    }
    counts
}

/// A point that saw none of the conversation and dropped nothing, between points that saw it, is not on its path.
fn course(plan: u32, known: &Plan, seen: &[u16], is_tcp: bool) -> Course {
    let all = if known.len() == 32 { u32::MAX } else { (1 << known.len()) - 1 };
    let at = seen.iter().filter_map(|&point| known.position(point));
    let seen = at.fold(0_u32, |mask, at| mask | 1 << at);
    let last = 31_u32.saturating_sub(seen.leading_zeros());
    let dirty = known.dirty_mask();
    let between = (1_u32 << last).wrapping_sub(1) & !(seen & seen.wrapping_neg()).wrapping_sub(1);
    let bypassed = if seen == 0 { 0 } else { between & !seen & !dirty };
    let is_coarse = is_tcp && known.is_coarse;
    Course { plan, active: all & !bypassed, bypassed, is_coarse, seen, is_open: false, is_in_pieces: false }
}
