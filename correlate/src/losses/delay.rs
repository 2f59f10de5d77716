//! Delays as a sparse log-linear histogram: mergeable in any order, exact below 64 ns, within 3 % above.

/// Steps per power of two.
const STEPS: u64 = 32;

/// Counts by bucket, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Delays {
    buckets: Vec<(u16, u32)>,
}

impl Delays {
    /// Adds one delay in nanoseconds. A negative one is clock error and counts as 0.
    #[inline]
    pub(crate) fn add(&mut self, nanos: i64) {
        self.add_many(bucket(nanos.max(0) as u64), 1);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for &(bucket, count) in &other.buckets {
            self.add_many(bucket, count);
        }
    }

    #[inline]
    fn add_many(&mut self, bucket: u16, count: u32) {
        let at = self.buckets.partition_point(|&(known, _)| known < bucket);
        match self.buckets.get_mut(at) {
            Some((known, counted)) if *known == bucket => *counted = counted.saturating_add(count),
            _ => self.buckets.insert(at, (bucket, count)),
        }
    }

    /// The delay that `share` of all do not exceed; absent without any.
    pub(crate) fn quantile(&self, share: f64) -> Option<i64> {
        let total: u64 = self.buckets.iter().map(|&(_, count)| u64::from(count)).sum();
        let rank = ((share * total as f64).ceil() as u64).clamp(1, total.max(1));
        let mut passed = 0;
        let found = self.buckets.iter().find(|&&(_, count)| {
            passed += u64::from(count);
            passed >= rank
        });
        found.map(|&(bucket, _)| middle(bucket))
    }
}

fn bucket(nanos: u64) -> u16 {
    let shift = (nanos | 1).ilog2().saturating_sub(STEPS.ilog2());
    (u64::from(shift) * STEPS + (nanos >> shift)) as u16
}

fn middle(bucket: u16) -> i64 {
    let shift = (u64::from(bucket) / STEPS).saturating_sub(1);
    let low = (u64::from(bucket) - shift * STEPS) << shift;
    (low + (1 << shift) / 2) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_three_percent() {
        let mut delays = Delays::default();
        (1..=100_i64).for_each(|micros| delays.add(micros * 1000));
        let close = |found: Option<i64>, wanted: f64| (found.unwrap() as f64 / wanted - 1.0).abs() < 0.03;
        assert!(close(delays.quantile(0.5), 50_000.0));
        assert!(close(delays.quantile(0.99), 99_000.0));
        assert_eq!(Delays::default().quantile(0.5), None);
    }

    #[test]
    fn buckets_ascend_with_the_delay_up_to_the_largest() {
        let values: Vec<u64> =
            (0..63).flat_map(|power| [1 << power, (1 << power) + (1 << power) / 2]).collect();
        assert!(values.windows(2).all(|pair| bucket(pair[0]) <= bucket(pair[1])));
        assert!(middle(bucket(i64::MAX as u64)) > 0);
    }

    #[test]
    fn merging_equals_adding() {
        let (mut one, mut two, mut both) = (Delays::default(), Delays::default(), Delays::default());
        for nanos in 0..1000 {
            if nanos % 3 == 0 {
                one.add(nanos * nanos);
            } else {
                two.add(nanos * nanos);
            }
            both.add(nanos * nanos);
        }
        one.merge(&two);
        assert_eq!(one, both);
    }
}
