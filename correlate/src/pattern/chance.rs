//! How likely chance alone explains what the lost have in common: Fisher's exact test.

/// Lost and delivered segments, those that share a trait and those that do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Split {
    pub(crate) lost_with: u64,
    pub(crate) lost_without: u64,
    pub(crate) passed_with: u64,
    pub(crate) passed_without: u64,
}

/// What of a sample has a trait; the rest has it not.
impl Split {
    pub(crate) fn new((lost_with, lost): (u64, u64), (passed_with, passed): (u64, u64)) -> Self {
        Self {
            lost_with,
            lost_without: lost.saturating_sub(lost_with),
            passed_with,
            passed_without: passed.saturating_sub(passed_with),
        }
    }

    pub(crate) fn lost(&self) -> u64 {
        self.lost_with + self.lost_without
    }

    /// Share of the lost that have the trait.
    pub(crate) fn coverage(&self) -> f64 {
        self.lost_with as f64 / self.lost().max(1) as f64
    }

    /// How many times as often those with the trait are lost as those without. Half a loss is added to the latter, so
    /// that few of them do not seem safe.
    pub(crate) fn relative_risk(&self) -> f64 {
        let (with, without) = (self.lost_with + self.passed_with, self.lost_without + self.passed_without);
        let risk = (self.lost_without as f64 + 0.5) / (without as f64 + 1.0);
        self.lost_with as f64 / with.max(1) as f64 / risk
    }

    /// Natural logarithm of the chance that at least as many of the lost have the trait if it has nothing to do with
    /// the loss: the upper tail of the hypergeometric distribution (R. A. Fisher, "The Logic of Inductive
    /// Inference", 1935).
    pub(crate) fn ln_chance(&self) -> f64 {
        let with = (self.lost_with + self.passed_with) as f64;
        let (lost, passed) = (self.lost() as f64, (self.passed_with + self.passed_without) as f64);
        let all = lost + passed;
        let mut hits = self.lost_with as f64;
        if hits * all <= with * lost {
            return 0.0;
        }
        let first = ln_choose(with, hits) + ln_choose(all - with, lost - hits) - ln_choose(all, lost);
        // Beyond the mean each term is a falling share of the one before.
        let (mut term, mut tail) = (1.0, 1.0);
        while term > tail * f64::EPSILON {
            term *= (with - hits) * (lost - hits) / ((hits + 1.0) * (all - with - lost + hits + 1.0));
            tail += term;
            hits += 1.0;
        }
        (first + tail.ln()).min(0.0)
    }
}

/// Natural logarithm of the number of ways to choose `part` of `whole`.
pub(crate) fn ln_choose(whole: f64, part: f64) -> f64 {
    if part < 0.0 || part > whole {
        return f64::NEG_INFINITY;
    }
    ln_factorial(whole) - ln_factorial(part) - ln_factorial(whole - part)
}

/// Stirling's series (NIST DLMF 5.11.1), off by less than 1e-10; below its range the product itself.
fn ln_factorial(n: f64) -> f64 {
    if n < 16.0 {
        return (2..=n as u32).map(f64::from).product::<f64>().ln();
    }
    let series = 1.0 / (12.0 * n) - 1.0 / (360.0 * n.powi(3)) + 1.0 / (1260.0 * n.powi(5));
    n * n.ln() - n + 0.5 * (std::f64::consts::TAU * n).ln() + series
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chance(lost_with: u64, lost: u64, passed_with: u64, passed: u64) -> f64 {
        Split::new((lost_with, lost), (passed_with, passed)).ln_chance().exp()
    }

    #[test]
    fn factorials_agree_with_their_product_on_both_sides_of_the_series() {
        for n in [0, 1, 2, 15, 16, 17, 60] {
            let product: f64 = (1..=n).map(|k| f64::from(k).ln()).sum();
            assert!((ln_factorial(f64::from(n)) - product).abs() < 1e-9, "{n}");
        }
    }

    #[test]
    fn chances_are_those_counted_by_hand() {
        // Two of two lost among 502, the only ones of their kind: one of C(502, 2) ways.
        assert!((chance(2, 2, 0, 500) * 125_751.0 - 1.0).abs() < 1e-9);
        // The lady tasting tea: 3 of 4 right, (16 + 1) of 70.
        assert!((chance(3, 4, 1, 4) - 17.0 / 70.0).abs() < 1e-12);
        // No more than expected is no evidence.
        assert!((chance(5, 10, 50, 100) - 1.0).abs() < f64::EPSILON);
        assert!((chance(0, 0, 0, 0) - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn chances_of_large_samples_are_finite_logarithms() {
        let all = Split::new((1_000_000, 1_000_000), (0, 10_000_000)).ln_chance();
        assert!(all.is_finite() && all < -1e6, "{all}");
    }

    #[test]
    fn a_trait_few_lack_is_not_thought_safe_to_lack() {
        assert!(Split::new((10, 10), (90, 92)).relative_risk() < 1.0);
        assert!(Split::new((10, 10), (0, 990)).relative_risk() > 1_000.0);
    }
}
