//! Legs in the words of scenario files, and which were taken for which.

use std::collections::BTreeMap;

use serde::Serialize;

use super::casting::Staging;
use super::file::Place;
use super::finding::Finding;
use super::report::PointName;
use super::truth::Truth;
use crate::lab::node::Node;

/// Where nothing is lost.
const NOWHERE: &str = "nowhere";

/// Names of a lab, which the seed chooses, and the part each plays.
#[derive(Debug, Clone, Default)]
pub struct Roles {
    nodes: Vec<(String, &'static str)>,
    interfaces: Vec<(String, &'static str)>,
}

impl Roles {
    /// Of one scenario.
    pub fn new(staging: &Staging<'_>) -> Self {
        let cast = &staging.cast;
        let nodes = [(cast.sender, "sender"), (cast.receiver, "receiver"), (cast.bystander, "third")];
        let places =
            |node: &Node| Place::WORDS.map(|(place, word)| (place.interface(&node.plan).to_owned(), word));
        Self {
            nodes: nodes.iter().map(|(node, role)| (node.plan.name.clone(), *role)).collect(),
            interfaces: nodes.iter().flat_map(|(node, _)| places(node)).collect(),
        }
    }

    /// `sender.nic → receiver.nic`.
    pub fn leg(&self, from: &PointName, to: Option<&PointName>) -> String {
        let to = to.map_or("?".to_owned(), |to| self.point(to));
        format!("{} → {to}", self.point(from))
    }

    fn point(&self, name: &PointName) -> String {
        let part = |known: &[(String, &'static str)], name: &str| {
            let found = known.iter().find(|(known, _)| known == name);
            found.map_or(name.to_owned(), |(_, part)| (*part).to_owned())
        };
        format!("{}.{}", part(&self.nodes, &name.node), part(&self.interfaces, &name.interface))
    }
}

/// Segments of a leg that the report puts on another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Confused {
    /// Leg on which they were lost, or `nowhere`.
    pub expected: String,
    /// Leg that the report names, or `nowhere`.
    pub found: String,
    /// How many.
    pub segments: u64,
}

/// What the report lost on other legs than those of the truth.
pub fn confused(truth: &Truth, finding: &Finding) -> Vec<Confused> {
    let mut missing = Vec::new();
    let mut surplus: Vec<(String, u64)> = finding
        .elsewhere
        .iter()
        .map(|(from, to, count)| (truth.roles.leg(from, to.as_ref()), *count))
        .collect();
    for (leg, &found) in truth.losses.iter().zip(&finding.by_leg) {
        let name = truth.roles.leg(&leg.from, Some(&leg.to));
        missing.push((name.clone(), leg.count.saturating_sub(found)));
        surplus.push((name, found.saturating_sub(leg.count)));
    }
    pair(missing, surplus)
}

/// Takes what is missing for what is too much elsewhere, as far as it goes.
fn pair(missing: Vec<(String, u64)>, mut surplus: Vec<(String, u64)>) -> Vec<Confused> {
    let mut cells = Vec::new();
    let mut cell = |expected: &str, found: &str, segments: u64| {
        if segments > 0 {
            cells.push(Confused { expected: expected.to_owned(), found: found.to_owned(), segments });
        }
    };
    for (expected, mut left) in missing {
        for (found, more) in surplus.iter_mut().filter(|(found, _)| *found != expected) {
            let taken = left.min(*more);
            cell(&expected, found, taken);
            (left, *more) = (left - taken, *more - taken);
        }
        cell(&expected, NOWHERE, left);
    }
    for (found, more) in &surplus {
        cell(NOWHERE, found, *more);
    }
    cells
}

/// The cells of several scenarios, those of the same two legs added.
pub fn matrix<'c>(cells: impl Iterator<Item = &'c Confused>) -> Vec<Confused> {
    let mut sums: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for Confused { expected, found, segments } in cells {
        *sums.entry((expected, found)).or_default() += segments;
    }
    let cell = |((expected, found), segments): ((&str, &str), u64)| Confused {
        expected: expected.to_owned(),
        found: found.to_owned(),
        segments,
    };
    sums.into_iter().map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::{Confused, matrix, pair};

    fn cell(expected: &str, found: &str, segments: u64) -> Confused {
        Confused { expected: expected.into(), found: found.into(), segments }
    }

    #[test]
    fn what_one_leg_lacks_another_has_too_much_of() {
        let cells = pair(vec![("a".into(), 5)], vec![("b".into(), 3), ("a".into(), 0), ("c".into(), 4)]);
        assert_eq!(cells, [cell("a", "b", 3), cell("a", "c", 2), cell("nowhere", "c", 2)]);
    }

    #[test]
    fn what_was_not_found_is_nowhere_and_nothing_confused_is_no_cell() {
        assert_eq!(pair(vec![("a".into(), 5)], Vec::new()), [cell("a", "nowhere", 5)]);
        assert_eq!(pair(vec![("a".into(), 0)], vec![("b".into(), 0)]), []);
    }

    #[test]
    fn cells_of_the_same_legs_add_up() {
        let cells = [cell("a", "b", 1), cell("c", "d", 2), cell("a", "b", 3)];
        assert_eq!(matrix(cells.iter()), [cell("a", "b", 4), cell("c", "d", 2)]);
    }
}
