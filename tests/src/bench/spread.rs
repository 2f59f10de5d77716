//! Several takes of one figure.

use std::fmt;

use anyhow::{Result, ensure};

/// Median, smallest and largest of several takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The middle one; of an even number the upper of the two.
    pub median: f64,
    /// The smallest.
    pub low: f64,
    /// The largest.
    pub high: f64,
}

impl Spread {
    /// Takes a figure `rounds` times, at least once.
    pub fn of(rounds: usize, mut take: impl FnMut() -> Result<f64>) -> Result<Self> {
        Self::from_takes((0..rounds.max(1)).map(|_| take()).collect::<Result<_>>()?)
    }

    /// Of figures already taken; none is an error.
    pub fn from_takes(mut takes: Vec<f64>) -> Result<Self> {
        ensure!(!takes.is_empty(), "a figure was never taken");
        takes.sort_by(f64::total_cmp);
        Ok(Self { median: takes[takes.len() / 2], low: takes[0], high: takes[takes.len() - 1] })
    }

    /// The same in another unit: every figure times `factor`.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        Self { median: self.median * factor, low: self.low * factor, high: self.high * factor }
    }
}

/// `median (low – high)`, with the decimals asked for, otherwise two.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = f.precision().unwrap_or(2);
        let Self { median, low, high } = self;
        write!(f, "{median:.decimals$} ({low:.decimals$} – {high:.decimals$})")
    }
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn the_median_is_the_middle_take_whatever_the_order() {
        let spread = Spread::from_takes(vec![9.0, 1.0, 4.0]).unwrap();
        assert_eq!(spread, Spread { median: 4.0, low: 1.0, high: 9.0 });
        assert_eq!(format!("{:.1}", spread.times(0.5)), "2.0 (0.5 – 4.5)");
        assert!(Spread::from_takes(Vec::new()).is_err());
    }
}
