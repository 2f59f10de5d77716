//! Bounds on the clocks of all nodes from bounds on the differences of some: a system of difference constraints, solved
//! by shortest paths (Bellman and Ford). Loops of the graph of nodes tighten it by themselves.

/// Least and most that one clock is ahead of another, nanoseconds; beyond [`FAR`] where nothing bounds it.
pub(crate) type Range = (i64, i64);

/// No bound.
pub(crate) const FAR: i64 = i64::MAX / 4;

/// The clock of `to` is ahead of that of `from` by at most `most` nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Constraint {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) most: i64,
}

/// Least and most that each of `nodes` clocks is ahead of that of `start`. Absent if the constraints contradict each
/// other.
pub(crate) fn around(start: usize, nodes: usize, constraints: &[Constraint]) -> Option<Vec<Range>> {
    let back: Vec<_> =
        constraints.iter().map(|c| Constraint { from: c.to, to: c.from, most: c.most }).collect();
    let (most, least) = (shortest(start, nodes, constraints)?, shortest(start, nodes, &back)?);
    Some(most.into_iter().zip(least).map(|(most, least)| (-least, most)).collect())
}

fn shortest(start: usize, nodes: usize, constraints: &[Constraint]) -> Option<Vec<i64>> {
    let mut distances = vec![FAR; nodes];
    distances[start] = 0;
    for _ in 0..=nodes {
        let mut is_settled = true;
        for &Constraint { from, to, most } in constraints {
            let reached = distances[from].saturating_add(most);
            if distances[from] < FAR && reached < distances[to] {
                distances[to] = reached;
                is_settled = false;
            }
        }
        if is_settled {
            return Some(distances);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(from: usize, to: usize, least: i64, most: i64) -> [Constraint; 2] {
        [Constraint { from, to, most }, Constraint { from: to, to: from, most: -least }]
    }

    #[test]
    fn a_loop_tightens_what_its_edges_leave_open() {
        let mut constraints = between(0, 1, 90, 110).to_vec();
        constraints.extend(between(1, 2, -60, -40));
        assert_eq!(around(0, 4, &constraints).unwrap(), [(0, 0), (90, 110), (30, 70), (-FAR, FAR)]);
        constraints.extend(between(0, 2, 65, 100));
        assert_eq!(around(0, 4, &constraints).unwrap(), [(0, 0), (105, 110), (65, 70), (-FAR, FAR)]);
    }

    #[test]
    fn a_contradiction_has_no_solution() {
        let mut constraints = between(0, 1, 0, 10).to_vec();
        constraints.extend(between(1, 2, 0, 10));
        constraints.extend(between(0, 2, 21, 30));
        assert_eq!(around(0, 3, &constraints), None);
    }

    #[test]
    fn one_way_around_a_loop_bounds_both_sides() {
        let one_way = [(0, 1), (1, 2), (2, 0)].map(|(from, to)| Constraint { from, to, most: 10 });
        assert_eq!(around(0, 3, &one_way).unwrap()[1], (-20, 10));
    }
}
