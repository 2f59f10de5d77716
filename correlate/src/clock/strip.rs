//! Where the offset between two clocks can be: a line over time, below every difference one way and above every
//! negated difference the other way. A linear program in two variables, level and skew.

/// Halvings of the range of skews: down to what a float can tell.
const STEPS: usize = 80;

/// Least and most the offset can be at a time; infinite where nothing bounds it.
pub(crate) type Span = (f64, f64);

/// Points that the line lies below, points that it lies above, in nanoseconds, and how steep it can be.
#[derive(Clone, Debug)]
pub(crate) struct Strip {
    pub(crate) above: Vec<(f64, f64)>,
    pub(crate) below: Vec<(f64, f64)>,
    pub(crate) most_skew: f64,
    /// How far stamps may be off the line, because the shift between clocks is constant within a slice.
    pub(crate) most_slack: f64,
}

impl Strip {
    /// The highest line of a skew, at time 0.
    fn top(&self, skew: f64) -> f64 {
        self.above.iter().map(|(time, most)| most - skew * time).fold(f64::INFINITY, f64::min)
    }

    /// The lowest line of a skew, at time 0.
    fn bottom(&self, skew: f64) -> f64 {
        self.below.iter().map(|(time, least)| least - skew * time).fold(f64::NEG_INFINITY, f64::max)
    }

    /// The skews that leave room for a line; absent if none does: a clock was stepped.
    fn skews(&self) -> Option<(f64, f64)> {
        let room = |skew: f64| self.top(skew) - self.bottom(skew);
        if self.above.is_empty() || self.below.is_empty() {
            return Some((-self.most_skew, self.most_skew));
        }
        let widest = highest(room, -self.most_skew, self.most_skew);
        let edge = |outside: f64| edge(room, widest, outside);
        (room(widest) >= 0.0).then(|| (edge(-self.most_skew), edge(self.most_skew)))
    }

    /// The same with as much slack as it takes for a line to fit.
    pub(crate) fn eased(mut self) -> Self {
        let room = |skew: f64| self.top(skew) - self.bottom(skew);
        let missing = -room(highest(room, -self.most_skew, self.most_skew));
        if missing > 0.0 && missing <= self.most_slack {
            self.above.iter_mut().for_each(|(_, most)| *most += missing);
            self.below.iter_mut().for_each(|(_, least)| *least -= missing);
        }
        self
    }

    /// The range of the offset at a time, over all lines that fit.
    pub(crate) fn range_at(&self, time: f64) -> Option<Span> {
        let (low, high) = self.skews()?;
        let top = |skew: f64| self.top(skew) + skew * time;
        let bottom = |skew: f64| -(self.bottom(skew) + skew * time);
        let most = if self.above.is_empty() { f64::INFINITY } else { top(highest(top, low, high)) };
        let least =
            if self.below.is_empty() { f64::NEG_INFINITY } else { -bottom(highest(bottom, low, high)) };
        Some((least, most))
    }
}

/// Where a concave function is highest.
fn highest(of: impl Fn(f64) -> f64, mut low: f64, mut high: f64) -> f64 {
    for _ in 0..STEPS {
        let third = (high - low) / 3.0;
        let (left, right) = (low + third, high - third);
        if of(left) < of(right) {
            low = left;
        } else {
            high = right;
        }
    }
    f64::midpoint(low, high)
}

/// The last place on the way from `inside` to `outside` where a concave function is not negative, or just beyond.
fn edge(of: impl Fn(f64) -> f64, inside: f64, outside: f64) -> f64 {
    if of(outside) >= 0.0 {
        return outside;
    }
    let (mut inside, mut outside) = (inside, outside);
    for _ in 0..STEPS {
        let middle = f64::midpoint(inside, outside);
        if of(middle) >= 0.0 {
            inside = middle;
        } else {
            outside = middle;
        }
    }
    outside
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Differences of two clocks that part by 50 ppm from 1,000 ns on, 500 ns there and 300 ns back at best.
    fn strip() -> Strip {
        let line = |time: f64| 1_000.0 + 5e-5 * time;
        let times = || (-50..=50).map(|at| f64::from(at) * 1e7);
        let late = |time: f64| (time / 1e7).abs() % 7.0 * 100.0;
        Strip {
            above: times().map(|time| (time, line(time) + 500.0 + late(time))).collect(),
            below: times().map(|time| (time, line(time) - 300.0 - late(time))).collect(),
            most_skew: 2e-4,
            most_slack: 1e5,
        }
    }

    #[test]
    fn the_line_is_between_the_shortest_differences() {
        for time in [-5e8, 0.0, 5e8] {
            let (least, most) = strip().range_at(time).unwrap();
            let truth = 1_000.0 + 5e-5 * time;
            assert!(least <= truth && truth <= most, "{least} {truth} {most}");
            assert!(most - least < 1_000.0, "{least} {most}");
        }
    }

    #[test]
    fn one_side_alone_leaves_the_other_open() {
        let above = Strip { below: Vec::new(), ..strip() };
        assert!(above.range_at(0.0).is_some_and(|(least, most)| least.is_infinite() && most >= 1_000.0));
        let below = Strip { above: Vec::new(), ..strip() };
        assert!(below.range_at(0.0).is_some_and(|(least, most)| most.is_infinite() && least <= 1_000.0));
    }

    #[test]
    fn a_step_fits_no_line() {
        let mut stepped = strip();
        for (time, nanos) in stepped.above.iter_mut().chain(&mut stepped.below) {
            *nanos += if *time > 0.0 { 1e6 } else { 0.0 };
        }
        assert_eq!(stepped.eased().range_at(0.0), None);
    }

    #[test]
    fn stamps_a_little_off_the_line_cost_their_error() {
        let mut stairs = strip();
        for (time, nanos) in stairs.above.iter_mut().chain(&mut stairs.below) {
            *nanos += if *time > 0.0 { 2e4 } else { -2e4 } * if time.abs() < 2e8 { 1.0 } else { -1.0 };
        }
        assert_eq!(stairs.range_at(0.0), None);
        let (least, most) = stairs.eased().range_at(0.0).unwrap();
        assert!(least <= 1_000.0 && 1_000.0 <= most && most - least < 1e5, "{least} {most}");
    }
}
