//! Clocks that nobody measured: about how far the stamps of capture files from different nodes are apart, from the
//! packets that both saw. It only brings the files near enough for a run to match them; the run itself refines clocks
//! by the paths packets took.
//!
//! A packet that two nodes stamped says how far their clocks are apart, but for the time it took. Packets one way are
//! late by that time and packets the other way early, so the middle between the medians of both ways is used where there
//! are both.

use std::collections::{BTreeMap, BTreeSet};

/// A packet at a point of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// Identity, [`lastseen_packet::k0`].
    pub k0: u64,
    /// Which pair of addresses it travels between: the same number both ways.
    pub pair: u64,
    /// From the greater address to the lesser.
    pub is_back: bool,
    /// Index of the point.
    pub point: usize,
    /// Index of the node.
    pub node: usize,
    /// On the node's clock.
    pub time_nanos: i64,
}

/// Differences of a pair of nodes, ascending, by direction of the packets.
#[derive(Debug, Default)]
struct Between {
    ways: BTreeMap<(u64, bool), Vec<i64>>,
    packets: usize,
}

/// How far each of `nodes` clocks is ahead of that of the reference node, nanoseconds. The reference is the first node
/// of the largest group that packets connect. Absent for nodes outside of that group: nothing can be compared with them.
pub fn offsets(nodes: usize, mut stamps: Vec<Stamp>) -> Vec<Option<i64>> {
    stamps.sort_unstable();
    let mut between: BTreeMap<(usize, usize), Between> = BTreeMap::new();
    for group in stamps.chunk_by(|a, b| (a.k0, a.pair, a.is_back) == (b.k0, b.pair, b.is_back)) {
        compare(group, &mut between);
    }
    let mut edges: BTreeMap<usize, Vec<(usize, i64, usize)>> = BTreeMap::new();
    for (&(a, b), between) in &between {
        let Some(ahead) = between.ahead() else { continue };
        edges.entry(a).or_default().push((b, ahead, between.packets));
        edges.entry(b).or_default().push((a, -ahead, between.packets));
    }
    let groups = (0..nodes).map(|start| reach(start, &edges));
    let Some(group) =
        groups.max_by_key(|group| (group.len(), std::cmp::Reverse(*group.keys().next().unwrap_or(&0))))
    else {
        return vec![None; nodes];
    };
    let zero = group.values().next().copied().unwrap_or(0);
    (0..nodes).map(|node| group.get(&node).map(|ahead| ahead - zero)).collect()
}

/// Takes in one packet's stamps. Where a point saw it twice, which of them is which elsewhere is not known.
fn compare(group: &[Stamp], between: &mut BTreeMap<(usize, usize), Between>) {
    let points: BTreeSet<usize> = group.iter().map(|stamp| stamp.point).collect();
    if points.len() < group.len() {
        return;
    }
    let mut first: BTreeMap<usize, i64> = BTreeMap::new();
    for stamp in group {
        first
            .entry(stamp.node)
            .and_modify(|time| *time = stamp.time_nanos.min(*time))
            .or_insert(stamp.time_nanos);
    }
    for (&a, &at_a) in &first {
        for (&b, &at_b) in first.range(a + 1..) {
            let known = between.entry((a, b)).or_default();
            known.packets += 1;
            let way = (group[0].pair, group[0].is_back);
            known.ways.entry(way).or_default().push(at_b.saturating_sub(at_a));
        }
    }
}

impl Between {
    /// How far the second clock is ahead: the median over pairs of addresses, those that were seen both ways if there
    /// are any.
    fn ahead(&self) -> Option<i64> {
        let medians: BTreeMap<_, _> =
            self.ways.iter().map(|(way, all)| (*way, median(all.clone()))).collect();
        let both = medians.iter().filter(|((_, is_back), _)| !is_back).filter_map(|(&(pair, _), &there)| {
            let back = *medians.get(&(pair, true))?;
            Some(there.midpoint(back))
        });
        let both: Vec<i64> = both.collect();
        let best = if both.is_empty() { medians.into_values().collect() } else { both };
        (!best.is_empty()).then(|| median(best))
    }
}

fn median(mut all: Vec<i64>) -> i64 {
    all.sort_unstable();
    all[all.len() / 2]
}

/// How far each node that packets connect to `start` is ahead of it, by the pairs with the most packets.
fn reach(start: usize, edges: &BTreeMap<usize, Vec<(usize, i64, usize)>>) -> BTreeMap<usize, i64> {
    let mut reached = BTreeMap::from([(start, 0)]);
    loop {
        let beyond = reached.iter().flat_map(|(from, ahead)| {
            edges.get(from).into_iter().flatten().map(move |&(to, more, packets)| (packets, to, ahead + more))
        });
        let next = beyond.filter(|(_, to, _)| !reached.contains_key(to)).max();
        let Some((_, to, ahead)) = next else { return reached };
        reached.insert(to, ahead);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    /// Packets `k0` of a pair of addresses that `nodes` see 1 ms after each other, by clocks that are `ahead`.
    fn packets(k0: std::ops::Range<u64>, nodes: &[usize], is_back: bool, ahead: &[i64]) -> Vec<Stamp> {
        let one = |k0: u64| {
            nodes.iter().enumerate().map(move |(hop, &node)| {
                let time_nanos = k0 as i64 * 10_000_000 + hop as i64 * 1_000_000 + ahead[node];
                Stamp { k0, pair: 1, is_back, point: node, node, time_nanos }
            })
        };
        k0.flat_map(one).collect()
    }

    #[test]
    fn seconds_between_clocks_are_found() {
        let ahead = [0, 7 * SECOND, -90 * SECOND];
        let mut stamps = packets(0..20, &[0, 1], false, &ahead);
        stamps.extend(packets(100..120, &[1, 0], true, &ahead));
        assert_eq!(offsets(2, stamps.clone()), [Some(0), Some(7 * SECOND)]);
        stamps.extend(packets(200..220, &[1, 2], false, &ahead));
        let found = offsets(3, stamps)[2].unwrap();
        assert!((found + 90 * SECOND).abs() <= 2_000_000, "{found}");
    }

    #[test]
    fn nodes_without_a_common_packet_are_not_compared() {
        let mut stamps = packets(0..5, &[1, 2], false, &[0; 4]);
        stamps.extend(packets(10..20, &[0], false, &[0; 4]));
        assert_eq!(offsets(4, stamps), [None, Some(0), Some(1_000_000), None]);
    }

    #[test]
    fn packets_that_look_alike_say_nothing() {
        let mut stamps = packets(0..5, &[0, 1], false, &[0; 2]);
        for stamp in &mut stamps {
            stamp.k0 = 1;
        }
        assert_eq!(offsets(2, stamps), [Some(0), None]);
        assert!(offsets(0, Vec::new()).is_empty());
    }
}
