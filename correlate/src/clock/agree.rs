//! Which of the coordinator's measurements to believe: those that fit together with what the packets say, the most
//! there are (the intersection of RFC 5905 §11.2.1). One wrong measurement is outvoted and replaced.

use std::collections::BTreeSet;

use super::READING_NANOS;
use super::bounds::{Constraint, FAR, Range, around};

/// Nodes whose packets were compared, and what bounds their clocks.
#[derive(Debug)]
pub(super) struct Group<'c> {
    pub(super) members: Vec<usize>,
    pub(super) constraints: Vec<Constraint>,
    /// Error of each node's measurement; absent where there is none.
    pub(super) errors: &'c [Option<i64>],
}

impl Group<'_> {
    /// The node that most pairs lead to, the first of several.
    fn hub(&self) -> Option<usize> {
        let degree = |node: usize| self.constraints.iter().filter(|c| c.from == node || c.to == node).count();
        self.members.iter().copied().max_by_key(|&node| (degree(node), std::cmp::Reverse(node)))
    }

    /// The members whose measurements fit together best. Absent if the packets contradict themselves.
    pub(super) fn trusted(&self) -> Option<BTreeSet<usize>> {
        let hub = self.hub()?;
        let relative = around(hub, self.errors.len(), &self.constraints)?;
        let votes: Vec<(usize, i64, i64)> = self
            .members
            .iter()
            .filter_map(|&node| {
                let error = self.errors[node]?.saturating_add(READING_NANOS);
                let (least, most) = relative[node];
                Some((node, (-error).saturating_sub(most), error.saturating_sub(least)))
            })
            .collect();
        let voters = |place: i64| {
            let fits = votes.iter().filter(move |(_, least, most)| (*least..=*most).contains(&place));
            fits.map(|(node, ..)| *node).collect::<BTreeSet<_>>()
        };
        let surest = |nodes: &BTreeSet<usize>| nodes.iter().filter_map(|&node| self.errors[node]).min();
        let candidates = votes.iter().map(|&(_, least, _)| voters(least));
        candidates.max_by_key(|nodes| (nodes.len(), std::cmp::Reverse((surest(nodes), nodes.clone()))))
    }

    /// Least and most each member's clock is ahead of where it was measured to be, with the measurements of `trusted`.
    pub(super) fn bounds(&self, trusted: &BTreeSet<usize>) -> Option<Vec<(usize, Range)>> {
        let coordinator = self.errors.len();
        let mut constraints = self.constraints.clone();
        for &node in trusted {
            let most = self.errors[node].unwrap_or(FAR).saturating_add(READING_NANOS);
            constraints.push(Constraint { from: coordinator, to: node, most });
            constraints.push(Constraint { from: node, to: coordinator, most });
        }
        let found = around(coordinator, coordinator + 1, &constraints)?;
        Some(self.members.iter().map(|&node| (node, found[node])).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three nodes whose clocks are as far apart as the packets say, within 10 ns.
    fn group(ahead: [i64; 3], errors: &[Option<i64>]) -> Group<'_> {
        let pairs = [(0, 1), (1, 2), (2, 0)];
        let both = pairs.into_iter().flat_map(|(from, to): (usize, usize)| {
            let apart: i64 = ahead[to] - ahead[from];
            [Constraint { from, to, most: apart + 10 }, Constraint { from: to, to: from, most: 10 - apart }]
        });
        Group { members: vec![0, 1, 2], constraints: both.collect(), errors }
    }

    #[test]
    fn one_wrong_measurement_is_outvoted() {
        let errors = [Some(200_000); 3];
        let group = group([500_000_000, 0, 0], &errors);
        let trusted = group.trusted().unwrap();
        assert_eq!(trusted, BTreeSet::from([1, 2]));
        let (node, (least, most)) = group.bounds(&trusted).unwrap()[0];
        assert_eq!(node, 0);
        assert!((least..=most).contains(&500_000_000) && most - least < 500_000, "{least} {most}");
    }

    #[test]
    fn of_two_that_disagree_the_surer_is_believed() {
        let errors = [Some(200_000), None, Some(100_000)];
        assert_eq!(group([500_000_000, 0, 0], &errors).trusted(), Some(BTreeSet::from([2])));
    }

    #[test]
    fn without_any_measurement_nothing_is_believed() {
        assert_eq!(group([0; 3], &[None; 3]).trusted(), None);
    }
}
