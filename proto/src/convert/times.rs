//! Nanoseconds and the times of `google.protobuf`.

use prost_types::{Duration, Timestamp};

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// Unix nanoseconds as a timestamp.
pub fn timestamp(unix_nanos: i64) -> Timestamp {
    Timestamp {
        seconds: unix_nanos.div_euclid(NANOS_PER_SECOND),
        nanos: unix_nanos.rem_euclid(NANOS_PER_SECOND) as i32,
    }
}

/// A timestamp as Unix nanoseconds; what lies beyond the years 1677 to 2262 becomes the nearest of them.
pub fn nanos(timestamp: &Timestamp) -> i64 {
    timestamp.seconds.saturating_mul(NANOS_PER_SECOND).saturating_add(timestamp.nanos.into())
}

/// A length of time in nanoseconds; none for one beyond 292 years.
pub fn span_nanos(span: &Duration) -> Option<i64> {
    span.seconds.checked_mul(NANOS_PER_SECOND)?.checked_add(span.nanos.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_survive_on_both_sides_of_1970() {
        for value in [0, 1, -1, 1_790_000_000_123_456_789, -1_500_000_000] {
            assert_eq!(nanos(&timestamp(value)), value);
            assert!(timestamp(value).nanos >= 0);
        }
        assert_eq!(nanos(&Timestamp { seconds: i64::MAX, nanos: 5 }), i64::MAX);
    }

    #[test]
    fn a_length_that_does_not_fit_is_none() {
        assert_eq!(span_nanos(&Duration { seconds: 2, nanos: -5 }), Some(1_999_999_995));
        assert_eq!(span_nanos(&Duration { seconds: i64::MAX, nanos: 0 }), None);
        assert_eq!(span_nanos(&Duration { seconds: i64::MAX / NANOS_PER_SECOND, nanos: i32::MAX }), None);
    }
}
