//! Who probes whom in a mesh that is too large for all pairs.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

/// Whom each of `names` probes: `neighbors` others, as indices. One is the next on a ring ordered by hash, so that everybody
/// is probed; the rest are those that rank highest by a hash of both names (rendezvous hashing: Thaler and Ravishankar,
/// "Using name-based mappings to increase hit rates", 1998). So a name that goes changes nothing but for those that
/// probed it.
pub(super) fn choose(names: &[String], neighbors: usize) -> Vec<Vec<u16>> {
    let all = 0..names.len() as u16;
    let others = |own: u16| all.clone().filter(move |other| *other != own);
    if neighbors >= names.len().saturating_sub(1) {
        return all.clone().map(|own| others(own).collect()).collect();
    }
    let next = ring(names);
    let chosen = |own: u16| {
        let next = next[usize::from(own)];
        let rank = |other: u16| (hash(&[&names[usize::from(own)], &names[usize::from(other)]]), other);
        let mut ranked: Vec<(u64, u16)> = others(own).filter(|other| *other != next).map(rank).collect();
        let further = neighbors.saturating_sub(1);
        if further < ranked.len() {
            ranked.select_nth_unstable(further);
            ranked.truncate(further);
        }
        let mut chosen: Vec<u16> = ranked.into_iter().map(|(_, other)| other).chain([next]).collect();
        chosen.sort_unstable();
        chosen
    };
    all.clone().map(chosen).collect()
}

/// Who follows each.
fn ring(names: &[String]) -> Vec<u16> {
    let mut order: Vec<u16> = (0..names.len() as u16).collect();
    order.sort_by_cached_key(|index| (hash(&[&names[usize::from(*index)]]), *index));
    let mut next = vec![0; names.len()];
    for (at, index) in order.iter().enumerate() {
        next[usize::from(*index)] = order[(at + 1) % order.len()];
    }
    next
}

/// The same on every machine and in every version.
fn hash(texts: &[&String]) -> u64 {
    let mut hasher = SipHasher13::new();
    for text in texts {
        hasher.write(text.as_bytes());
        hasher.write_u8(0);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn names(numbers: impl Iterator<Item = usize>) -> Vec<String> {
        numbers.map(|number| format!("node-{number}")).collect()
    }

    /// By name.
    fn pairs(names: &[String], neighbors: usize) -> BTreeSet<(String, String)> {
        let chosen = choose(names, neighbors);
        let of = |(own, others): (usize, Vec<u16>)| {
            others.into_iter().map(move |other| (names[own].clone(), names[usize::from(other)].clone()))
        };
        chosen.into_iter().enumerate().flat_map(of).collect()
    }

    #[test]
    fn few_probe_each_other_all() {
        assert_eq!(choose(&names(0..3), 8), [vec![1, 2], vec![0, 2], vec![0, 1]]);
        assert_eq!(choose(&names(0..9), 8)[4], [0, 1, 2, 3, 5, 6, 7, 8]);
        assert_eq!(choose(&names(0..1), 8), [Vec::<u16>::new()]);
    }

    #[test]
    fn cost_is_linear_and_everybody_is_probed() {
        for (count, neighbors) in [(10, 1), (33, 8), (200, 8), (1_000, 8), (1_000, 64)] {
            let names = names(0..count);
            let chosen = choose(&names, neighbors);
            assert!(chosen.iter().all(|others| others.len() == neighbors), "{count} × {neighbors}");
            let mut probed = vec![0; count];
            for (own, others) in chosen.iter().enumerate() {
                assert!(!others.contains(&(own as u16)), "{own} probes itself");
                for other in others {
                    probed[usize::from(*other)] += 1;
                }
            }
            assert!(probed.iter().all(|times| *times >= 1), "{count} × {neighbors}: {probed:?}");
            // Binomial: five standard deviations.
            let most = neighbors as f64 + 5.0 * (neighbors as f64).sqrt() + 1.0;
            assert!(
                probed.iter().all(|times| f64::from(*times) <= most),
                "{count} × {neighbors}: {probed:?}"
            );
        }
    }

    #[test]
    fn a_node_that_leaves_changes_nothing_but_for_those_that_probed_it() {
        let (whole, neighbors) = (names(0..100), 8);
        let before = pairs(&whole, neighbors);
        for gone in [0, 17, 99] {
            let after = pairs(&names((0..100).filter(|number| *number != gone)), neighbors);
            let gone = format!("node-{gone}");
            let mut changes: BTreeMap<&String, usize> = BTreeMap::new();
            for (own, _) in after.difference(&before) {
                *changes.entry(own).or_default() += 1;
            }
            for (own, count) in changes {
                assert!(before.contains(&(own.clone(), gone.clone())), "{own} did not probe {gone}");
                assert_eq!(count, 1, "{own} has one other in its place");
            }
            let kept = before.iter().filter(|(own, other)| *own != gone && *other != gone).count();
            assert!(before.intersection(&after).count() >= kept - 1, "{gone}");
        }
    }

    #[test]
    fn the_choice_does_not_hang_on_the_order_of_names_and_never_changes() {
        let forward = names(0..50);
        let backward: Vec<String> = forward.iter().rev().cloned().collect();
        assert_eq!(pairs(&forward, 4), pairs(&backward, 4));
        assert_eq!(hash(&[&"node-a".to_owned(), &"node-b".to_owned()]), 799_339_602_797_899_678);
    }
}
