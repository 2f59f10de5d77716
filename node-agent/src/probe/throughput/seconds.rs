//! How much in which second.

use lastseen_proto::limits::THROUGHPUT_SECONDS;

use crate::probe::report::Interval;

const SECOND_NANOS: u64 = 1_000_000_000;

/// Bytes and packets second by second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seconds(pub(super) Vec<Interval>);

impl Seconds {
    /// So long after the begin. What comes after the last second counts as of it.
    pub(super) fn add(&mut self, nanos: u64, bytes: u64, packets: u64) {
        let at = usize::try_from(nanos / SECOND_NANOS).unwrap_or(usize::MAX).min(THROUGHPUT_SECONDS - 1);
        if self.0.len() <= at {
            self.0.resize(at + 1, Interval::default());
        }
        self.0[at].bytes += bytes;
        self.0[at].packets += packets;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_has_its_own_and_there_are_no_more_than_the_limit() {
        let mut seconds = Seconds::default();
        for nanos in [0, 999_999_999, 2 * SECOND_NANOS, u64::MAX] {
            seconds.add(nanos, 10, 1);
        }
        let bytes: Vec<u64> = seconds.0.iter().map(|interval| interval.bytes).collect();
        assert_eq!(
            (bytes.len(), &bytes[..3], bytes[THROUGHPUT_SECONDS - 1]),
            (THROUGHPUT_SECONDS, &[20, 0, 10][..], 10)
        );
    }
}
