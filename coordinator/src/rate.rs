//! How often each holder may do something: a bucket of tokens each, filled at an even rate.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Buckets kept before those that are full again are thrown away.
const BUCKETS: usize = 4_096;

/// The buckets, by holder.
#[derive(Debug)]
pub struct Rates {
    buckets: Mutex<HashMap<String, Bucket>>,
    per_second: f64,
    at_once: f64,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Rates {
    /// `per_second` in the long run, `at_once` after a rest.
    pub fn new(per_second: f64, at_once: f64) -> Self {
        Self { buckets: Mutex::default(), per_second, at_once }
    }

    /// Whether `holder` may do it once more `now`; if not, in what time at the earliest.
    pub fn take(&self, holder: &str, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= BUCKETS && !buckets.contains_key(holder) {
            buckets.retain(|_, bucket| self.tokens(bucket, now) < self.at_once);
        }
        let bucket =
            buckets.entry(holder.to_owned()).or_insert_with(|| Bucket { tokens: self.at_once, filled: now });
        (bucket.tokens, bucket.filled) = (self.tokens(bucket, now), now);
        if bucket.tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - bucket.tokens) / self.per_second));
        }
        bucket.tokens -= 1.0;
        Ok(())
    }

    fn tokens(&self, bucket: &Bucket, now: Instant) -> f64 {
        let gained = now.duration_since(bucket.filled).as_secs_f64() * self.per_second;
        (bucket.tokens + gained).min(self.at_once)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greedy_holder_waits_and_the_others_do_not() {
        let (rates, start) = (Rates::new(2.0, 3.0), Instant::now());
        let take = |holder: &str, after| rates.take(holder, start + after);
        let taken = |holder: &str, after| (0..10).filter(|_| take(holder, after).is_ok()).count();
        assert_eq!((taken("a", Duration::ZERO), taken("b", Duration::ZERO)), (3, 3));
        assert_eq!(take("a", Duration::ZERO), Err(Duration::from_millis(500)));
        assert_eq!(taken("a", Duration::from_secs(1)), 2);
        assert_eq!(taken("a", Duration::from_hours(1)), 3);
    }

    #[test]
    fn holders_that_rest_are_forgotten() {
        let (rates, start) = (Rates::new(1.0, 1.0), Instant::now());
        for holder in 0..=BUCKETS {
            assert!(rates.take(&holder.to_string(), start + Duration::from_secs(holder as u64)).is_ok());
        }
        assert_eq!(rates.buckets.lock().unwrap().len(), 1);
    }
}
