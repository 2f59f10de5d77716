//! Clock refinement: packets that were seen on two nodes bound the offset between their clocks far better than an
//! exchange with the coordinator does, and find a measurement that was wrong.
//!
//! Each packet says that the receiver's clock is ahead of the sender's by at most what its stamps differ by. Traffic
//! both ways bounds the offset from both sides, with an error of at most half the shortest round trip; traffic one way
//! from one side. Bounds of pairs of nodes become bounds of all nodes, once at the begin and once at the end of the
//! recording; between them clocks are lines.

pub mod offsets;
pub mod steps;

mod agree;
mod bounds;
mod envelope;
mod pairs;
mod strip;

use std::collections::{BTreeMap, BTreeSet};

use agree::Group;
use bounds::{Constraint, FAR, Range};
pub(crate) use pairs::{Crossings, Differences};
use strip::Strip;

use crate::input::{Job, LEAD_NANOS};

/// Stamps of the kernel and readings of the clock differ by this much at most, nanoseconds.
pub(crate) const READING_NANOS: i64 = 10_000;

/// Two clocks part no faster than this, as they were measured: 300 ppm. Oscillators do 50 each, and the line through a
/// node's measurements is no steeper than 100.
const MOST_SKEW: f64 = 3e-4;

/// How far stamps may be off a line, nanoseconds: the shift of a batch is one number, and a batch covers up to a second.
const MOST_SLACK_NANOS: f64 = 1e9 * MOST_SKEW;

/// Clocks further apart than an hour are not corrected, nanoseconds.
const MOST_APART_NANOS: f64 = 3.6e12;

/// How far a node's stamps are ahead of the coordinator's clock, as measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ahead {
    /// At the begin and the end of the recording, nanoseconds.
    at: [i64; 2],
    /// Bound of the error. Absent: not measured.
    pub(crate) error: Option<i64>,
}

/// All clocks of a job.
#[derive(Clone, Debug)]
pub(crate) struct Clocks {
    recording: (i64, i64),
    nodes: Vec<Ahead>,
}

impl Clocks {
    /// As the coordinator measured them.
    pub(crate) fn measured(job: &Job) -> Self {
        let start = job.window.start_nanos.saturating_sub(LEAD_NANOS);
        let end = job.window.end_nanos.saturating_add(job.guard_nanos.max(0)).max(start.saturating_add(1));
        let nodes = job
            .nodes
            .iter()
            .map(|node| Ahead { at: [0; 2], error: node.clock_error_nanos.map(|error| error.max(0)) });
        Self { recording: (start, end), nodes: nodes.collect() }
    }

    /// The time span they are known for.
    pub(crate) fn recording(&self) -> (i64, i64) {
        self.recording
    }

    /// As the packets show them. Where packets contradict each other, because a clock was stepped, nothing changes.
    #[must_use]
    pub(crate) fn refined(mut self, found: &Differences) -> Self {
        let (start, end) = self.recording;
        let middle = start.midpoint(end);
        let errors: Vec<_> = self.nodes.iter().map(|node| node.error).collect();
        let ends = [start, end].map(|time| Self::constraints(found, middle, time));
        for members in groups(&ends[0]) {
            if let Some(bounds) = solve(&members, &ends, &errors) {
                for (node, ranges) in bounds {
                    self.nodes[node] = Ahead::within(ranges, errors[node]);
                }
            }
        }
        self
    }

    /// What the packets between each pair of nodes say about their clocks at a time.
    fn constraints(found: &Differences, middle: i64, time: i64) -> Vec<Constraint> {
        let mut constraints = Vec::new();
        let ways: BTreeSet<_> = found.by_way.keys().map(|&(from, to)| (from.min(to), from.max(to))).collect();
        for (from, to) in ways {
            let span = Self::strip(found, (from, to), middle).eased().range_at((time - middle) as f64);
            let Some((least, most)) = span else { continue };
            constraints.extend(constraint(from, to, most));
            constraints.extend(constraint(to, from, -least));
        }
        constraints
    }

    fn strip(found: &Differences, (from, to): (usize, usize), middle: i64) -> Strip {
        let points = |way: (usize, usize), sign: f64| {
            let points = found.by_way.get(&way).into_iter().flat_map(envelope::Envelope::points);
            points
                .map(move |(time, nanos)| (time.saturating_sub(middle) as f64, sign * nanos as f64))
                .collect()
        };
        Strip {
            above: points((from, to), 1.0),
            below: points((to, from), -1.0),
            most_skew: MOST_SKEW,
            most_slack: MOST_SLACK_NANOS,
        }
    }

    /// True if any clock differs from its measurement.
    pub(crate) fn is_refined(&self) -> bool {
        self.nodes.iter().any(|node| node.at != [0; 2])
    }

    /// The node's stamp on the coordinator's clock.
    #[inline]
    pub(crate) fn correct(&self, node: usize, time: i64) -> i64 {
        time.saturating_sub(self.ahead(node, time))
    }

    /// How far a stamp of the node is ahead.
    #[inline]
    fn ahead(&self, node: usize, time: i64) -> i64 {
        let (start, end) = self.recording;
        let [from, to] = self.nodes[node].at;
        let along = i128::from(time.clamp(start, end)) - i128::from(start);
        let rise = (i128::from(to) - i128::from(from)) * along / (i128::from(end) - i128::from(start));
        from.saturating_add(rise as i64)
    }

    /// How far a node is ahead in the middle of the recording.
    pub(crate) fn ahead_nanos(&self, node: usize) -> i64 {
        self.ahead(node, self.recording.0.midpoint(self.recording.1))
    }

    /// Bound of the error of a node's clock.
    pub(crate) fn error_nanos(&self, node: usize) -> Option<i64> {
        self.nodes[node].error
    }
}

impl Ahead {
    /// The middle of each range. Where one side is open, as near to the measurement as the bound lets it, and as
    /// uncertain as both together.
    fn within(ranges: [Range; 2], measured: Option<i64>) -> Self {
        let one = |(least, most): Range| {
            if least > -FAR && most < FAR {
                return (least.midpoint(most), Some((most - least) / 2 + 1));
            }
            let nearest = 0.clamp(least, most);
            (nearest, measured.map(|error| error.saturating_add(nearest.abs())))
        };
        let [(from, first), (to, second)] = ranges.map(one);
        Self { at: [from, to], error: first.zip(second).map(|(first, second)| first.max(second)) }
    }
}

/// Nothing for a bound that is none, or that no clock is beyond.
fn constraint(from: usize, to: usize, most: f64) -> Option<Constraint> {
    let is_sane = most.abs() < MOST_APART_NANOS;
    is_sane.then(|| Constraint { from, to, most: most.ceil() as i64 + READING_NANOS })
}

/// Nodes that packets connect, each group ascending.
fn groups(constraints: &[Constraint]) -> Vec<Vec<usize>> {
    let mut group: BTreeMap<usize, usize> = BTreeMap::new();
    for &Constraint { from, to, .. } in constraints {
        let (a, b) = (*group.entry(from).or_insert(from), *group.entry(to).or_insert(to));
        for of in group.values_mut().filter(|of| **of == a.max(b)) {
            *of = a.min(b);
        }
    }
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (node, of) in group {
        members.entry(of).or_default().push(node);
    }
    members.into_values().collect()
}

/// Ranges at both ends of the recording, by node.
fn solve(
    members: &[usize],
    ends: &[Vec<Constraint>; 2],
    errors: &[Option<i64>],
) -> Option<Vec<(usize, [Range; 2])>> {
    let group = |end: usize| Group {
        constraints: ends[end].iter().copied().filter(|c| members.contains(&c.from)).collect(),
        members: members.to_vec(),
        errors,
    };
    let (first, second) = (group(0), group(1));
    let (at_start, at_end) = (first.trusted()?, second.trusted()?);
    // A measurement that is wrong at one end is not to be trusted at the other, if any is left.
    let both: BTreeSet<_> = at_start.intersection(&at_end).copied().collect();
    let trusted = if both.is_empty() { at_start } else { both };
    let alone: BTreeSet<_> =
        trusted.iter().copied().min_by_key(|&node| (errors[node], node)).into_iter().collect();
    let bounds = |group: &Group<'_>| group.bounds(&trusted).or_else(|| group.bounds(&alone));
    let ranges = bounds(&first)?.into_iter().zip(bounds(&second)?);
    Some(ranges.map(|((node, start), (_, end))| (node, [start, end])).collect())
}
