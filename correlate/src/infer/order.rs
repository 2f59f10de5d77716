//! An order from what is known of pairs.

/// Which of at most 32 things comes before which. Bit `j` of `before[i]`: `i` comes before `j`.
#[derive(Clone, Debug)]
pub(super) struct Relation {
    before: Vec<u32>,
}

impl Relation {
    pub(super) fn new(count: usize) -> Self {
        Self { before: vec![0; count.min(32)] }
    }

    pub(super) fn add(&mut self, first: usize, then: usize) {
        self.before[first] |= 1 << then;
    }

    /// Adds what follows from what is known.
    pub(super) fn close(&mut self) {
        for via in 0..self.before.len() {
            let beyond = self.before[via];
            for row in &mut self.before {
                *row |= if *row & 1 << via == 0 { 0 } else { beyond };
            }
        }
    }

    /// True if `first` comes before `then` and nothing says otherwise.
    pub(super) fn is_before(&self, first: usize, then: usize) -> bool {
        self.before[first] & 1 << then != 0 && self.before[then] & 1 << first == 0
    }

    /// Things of which each pair has an order, in that order; those whose place is not known are left out, the least
    /// comparable first.
    pub(super) fn chain(&self) -> Vec<usize> {
        let comparable = |a: usize, b: usize| self.is_before(a, b) || self.is_before(b, a);
        let all = 0..self.before.len();
        let mut candidates: Vec<usize> = all.clone().collect();
        candidates.sort_by_key(|&a| std::cmp::Reverse(all.clone().filter(|&b| comparable(a, b)).count()));
        let mut chain: Vec<usize> = Vec::new();
        for candidate in candidates {
            if chain.iter().all(|&kept| comparable(kept, candidate)) {
                chain.push(candidate);
            }
        }
        let kept = chain.clone();
        chain.sort_by_key(|&a| kept.iter().filter(|&&b| self.is_before(b, a)).count());
        chain
    }
}

#[cfg(test)]
mod tests {
    use super::Relation;

    fn chain(count: usize, pairs: &[(usize, usize)]) -> Vec<usize> {
        let mut relation = Relation::new(count);
        for &(first, then) in pairs {
            relation.add(first, then);
        }
        relation.close();
        relation.chain()
    }

    #[test]
    fn what_follows_from_pairs_is_an_order() {
        assert_eq!(chain(4, &[(2, 0), (0, 3), (3, 1)]), [2, 0, 3, 1]);
        assert_eq!(chain(1, &[]), [0]);
    }

    #[test]
    fn what_cannot_be_placed_is_left_out() {
        assert_eq!(chain(4, &[(0, 1), (1, 2), (0, 3)]), [0, 1, 2]);
        assert_eq!(chain(3, &[(0, 1), (1, 0), (0, 2), (1, 2)]), [0, 2], "a contradiction is no order");
    }
}
