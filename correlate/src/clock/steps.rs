//! Clocks that were set while files were captured, from the packets that two points saw.
//!
//! A packet one way says that the clock of the point it came to is ahead by at most what its stamps differ by, a packet
//! back that it is ahead by at least that. Where these contradict each other whichever way is which, and no drift
//! explains it, the difference between the clocks has changed. Of packets one way alone a delay says the same, so there
//! only two levels that are further apart than any delay count.

mod levels;
mod ways;

use std::collections::BTreeMap;

use self::levels::Levels;
use self::ways::contradict;
use crate::clock::offsets::Stamp;

/// Packets that are compared of a pair of points. Their order is that of identities, so the first ones are a fair share.
const SAMPLE: usize = 4096;
/// Contradictions up to this are none, nanoseconds: stamps may be of milliseconds.
const TOLERANCE_NANOS: i64 = 10_000_000;
/// Packets of each level at least where both ways were seen, and one way alone.
const LEAST: [usize; 2] = [2, 8];

/// A clock was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// By how much about, nanoseconds; backwards if negative.
    pub nanos: i64,
    /// Its first stamp after that.
    pub at_nanos: i64,
}

/// A packet at two points: by which addresses it went, and its stamps.
type Seen = ((u64, bool), [i64; 2]);

/// A pair of points that contradict themselves, and which of them stepped how.
struct Edge {
    points: [usize; 2],
    culprit: usize,
    step: Step,
}

/// The clocks of `nodes` that were set while they captured. `backwards` is by how much stamps at most run back within
/// the file of each point.
pub fn steps(nodes: usize, backwards: &[i64], stamps: &mut [Stamp]) -> Vec<Option<Step>> {
    stamps.sort_unstable();
    let mut node_of = vec![0; backwards.len()];
    for stamp in stamps.iter() {
        node_of[stamp.point] = stamp.node;
    }
    let mut edges: Vec<Edge> = pairs(stamps)
        .into_iter()
        .filter_map(|(points, seen)| edge(points, points.map(|point| backwards[point]), &seen))
        .collect();
    let mut found = vec![None; nodes];
    while !edges.is_empty() {
        let touches = |edge: &Edge, node: usize| edge.points.iter().any(|point| node_of[*point] == node);
        let score = |&node: &usize| {
            let touching = edges.iter().filter(|edge| touches(edge, node)).count();
            (touching, edges.iter().filter(|edge| node_of[edge.culprit] == node).count())
        };
        let Some(worst) = (0..nodes).max_by_key(score) else { break };
        let largest = |edge: &&Edge| (node_of[edge.culprit] == worst, edge.step.nanos.unsigned_abs());
        found[worst] = edges.iter().filter(|edge| touches(edge, worst)).max_by_key(largest).map(|e| e.step);
        edges.retain(|edge| !touches(edge, worst));
    }
    found
}

/// What each two points saw once. Where a point saw a packet twice, which of them is which elsewhere is not known.
fn pairs(stamps: &[Stamp]) -> BTreeMap<[usize; 2], Vec<Seen>> {
    let mut pairs: BTreeMap<[usize; 2], Vec<Seen>> = BTreeMap::new();
    for packet in stamps.chunk_by(|a, b| (a.k0, a.pair, a.is_back) == (b.k0, b.pair, b.is_back)) {
        if packet.windows(2).any(|two| two[0].point == two[1].point) {
            continue;
        }
        for (at, one) in packet.iter().enumerate() {
            for other in &packet[at + 1..] {
                let seen = pairs.entry([one.point, other.point]).or_default();
                if seen.len() < SAMPLE {
                    seen.push(((one.pair, one.is_back), [one.time_nanos, other.time_nanos]));
                }
            }
        }
    }
    pairs
}

fn edge(points: [usize; 2], backwards: [i64; 2], seen: &[Seen]) -> Option<Edge> {
    let mut ways: BTreeMap<(u64, bool), Vec<[i64; 2]>> = BTreeMap::new();
    for &(way, times) in seen {
        ways.entry(way).or_default().push(times);
    }
    let broken = |(way, there): (&(u64, bool), &Vec<[i64; 2]>)| match ways.get(&(way.0, !way.1)) {
        Some(back) => contradict(there, back).then(|| Levels::of(there, LEAST[0])).flatten(),
        None => Levels::of(there, LEAST[1]).filter(Levels::are_no_delay),
    };
    let levels = ways.iter().filter_map(broken).max_by_key(Levels::apart)?;
    if levels.apart() < TOLERANCE_NANOS {
        return None;
    }
    let (at, step) = levels.step(backwards);
    Some(Edge { points, culprit: points[at], step })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const MILLI: i64 = 1_000_000;

    /// Two points of each of `nodes`; packets each way, or one, every 20 ms for 30 s. `off` says how far the clock of a
    /// point is ahead at a time.
    fn stamps(nodes: usize, is_one_way: bool, off: impl Fn(usize, i64) -> i64) -> Vec<Stamp> {
        let mut stamps = Vec::new();
        for number in 0..1500_u64 {
            let is_back = number % 2 == 1 && !is_one_way;
            for hop in 0..2 * nodes {
                let point = if is_back { 2 * nodes - 1 - hop } else { hop };
                let late = (number * 7_919 % 40) as i64 * MILLI * i64::from(hop > 1);
                let time = number as i64 * 20 * MILLI + hop as i64 * 100_000 + late;
                let time_nanos = time + off(point, time);
                stamps.push(Stamp { k0: number, pair: 1, is_back, point, node: point / 2, time_nanos });
            }
        }
        stamps
    }

    fn is_about(found: Option<Step>, nanos: i64, at: i64) -> bool {
        found.is_some_and(|step| {
            (step.nanos - nanos).abs() < 60 * MILLI && (step.at_nanos - at).abs() < SECOND / 4
        })
    }

    #[test]
    fn a_step_is_found_on_the_node_that_made_it() {
        for (nanos, node) in
            [(7 * SECOND, 1), (-7 * SECOND, 1), (7 * SECOND, 0), (-90 * SECOND, 0), (SECOND / 4, 1)]
        {
            for is_one_way in [false, true] {
                let off =
                    |point: usize, time: i64| if point / 2 == node && time > 12 * SECOND { nanos } else { 0 };
                let backwards = [0, 1, 2, 3].map(|point| if point / 2 == node { (-nanos).max(0) } else { 0 });
                let found = steps(2, &backwards, &mut stamps(2, is_one_way, off));
                let is_seen = !is_one_way || nanos.abs() > SECOND;
                assert_eq!(
                    is_about(found[node], nanos, 12 * SECOND + nanos),
                    is_seen,
                    "{nanos} {node} {found:?}"
                );
                assert_eq!(found[1 - node], None);
            }
        }
    }

    #[test]
    fn of_three_nodes_or_one_file_the_one_that_contradicts_most_is_named() {
        for point in [2, 5] {
            let off = |at: usize, time: i64| if at == point && time > 20 * SECOND { 7 * SECOND } else { 0 };
            let found = steps(3, &[0; 6], &mut stamps(3, false, off));
            assert!(is_about(found[point / 2], 7 * SECOND, 27 * SECOND), "{found:?}");
            assert_eq!(found.iter().flatten().count(), 1);
        }
    }

    #[test]
    fn drift_offsets_and_queues_are_no_steps() {
        let off = |point: usize, time: i64| if point > 1 { 90 * SECOND + time / 5_000 } else { 0 };
        for is_one_way in [false, true] {
            assert_eq!(steps(2, &[0; 4], &mut stamps(2, is_one_way, off)), [None, None]);
            // Packets to the second node wait for 3 s at the end.
            let mut queued = stamps(2, is_one_way, off);
            let waits = |stamp: &&mut Stamp| stamp.k0 > 1_490 && stamp.point > 1 && !stamp.is_back;
            queued.iter_mut().filter(waits).for_each(|stamp| stamp.time_nanos += 3 * SECOND);
            assert!(is_one_way || steps(2, &[0; 4], &mut queued) == [None, None]);
        }
    }
}
