//! What came of numbered datagrams.

use super::seconds::Seconds;

/// Counts arrivals. Its size follows from how many there can be, not from what comes.
#[derive(Debug)]
pub(super) struct Tally {
    /// A bit for each number.
    seen: Vec<u64>,
    most: u64,
    highest: Option<u64>,
    /// Numbers that came.
    pub(super) distinct: u64,
    /// Payload of those.
    pub(super) bytes: u64,
    /// Numbers that came again.
    pub(super) duplicates: u64,
    /// Datagrams that came after one with a higher number (RFC 4737 §3.3).
    pub(super) reordered: u64,
    jitter_nanos: f64,
    /// Of the last: when it came less when it was sent.
    transit_nanos: Option<i64>,
    first_nanos: Option<i64>,
    last_nanos: i64,
    /// Second by second.
    pub(super) seconds: Seconds,
}

impl Tally {
    /// Of numbers below `most`.
    pub(super) fn new(most: u64) -> Self {
        Self {
            seen: vec![0; most.div_ceil(64) as usize],
            most,
            highest: None,
            distinct: 0,
            bytes: 0,
            duplicates: 0,
            reordered: 0,
            jitter_nanos: 0.0,
            transit_nanos: None,
            first_nanos: None,
            last_nanos: 0,
            seconds: Seconds::default(),
        }
    }

    /// One came: stamped at `sent_nanos` on the sender's clock and at `nanos` on ours. False: there is no such number.
    pub(super) fn arrived(&mut self, number: u64, sent_nanos: i64, nanos: i64, bytes: usize) -> bool {
        if number >= self.most {
            return false;
        }
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if self.seen[word] & bit != 0 {
            self.duplicates += 1;
            return true;
        }
        self.seen[word] |= bit;
        self.distinct += 1;
        self.bytes += bytes as u64;
        if self.highest.is_some_and(|highest| number < highest) {
            self.reordered += 1;
        }
        self.highest = self.highest.max(Some(number));
        self.vary(nanos.saturating_sub(sent_nanos));
        let first = *self.first_nanos.get_or_insert(nanos);
        self.last_nanos = self.last_nanos.max(nanos);
        self.seconds.add(nanos.saturating_sub(first).max(0) as u64, bytes as u64, 1);
        true
    }

    /// RFC 3550 §6.4.1: J += (|D| − J) / 16.
    fn vary(&mut self, transit_nanos: i64) {
        if let Some(before) = self.transit_nanos.replace(transit_nanos) {
            let varied = transit_nanos.saturating_sub(before).saturating_abs() as f64;
            self.jitter_nanos += (varied - self.jitter_nanos) / 16.0;
        }
    }

    /// The mean variation of the delay, nanoseconds. None: fewer than two came.
    pub(super) fn jitter_nanos(&self) -> Option<u64> {
        (self.distinct > 1).then_some(self.jitter_nanos.round() as u64)
    }

    /// Of `sent`; if that is not known, of those up to the highest that came.
    pub(super) fn lost(&self, sent: Option<u64>) -> u64 {
        let least = self.highest.map_or(0, |highest| highest + 1);
        // Nobody can send fewer than came.
        sent.unwrap_or(least).clamp(least, self.most.max(least)) - self.distinct
    }

    /// From the first to the last.
    pub(super) fn nanos(&self) -> u64 {
        self.first_nanos.map_or(0, |first| self.last_nanos.saturating_sub(first).max(0) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: i64 = 1_000_000;

    /// Datagrams of 100 bytes, one sent every 10 ms, that came in this order with these delays in milliseconds.
    fn tally(most: u64, arrivals: &[(u64, i64)]) -> Tally {
        let mut tally = Tally::new(most);
        for (number, delay) in arrivals {
            let sent = *number as i64 * 10 * MILLISECOND;
            assert!(tally.arrived(*number, sent, sent + delay * MILLISECOND, 100));
        }
        tally
    }

    #[test]
    fn losses_copies_and_order_are_told_apart() {
        let counts = |tally: &Tally, sent| {
            (tally.distinct, tally.lost(sent), tally.duplicates, tally.reordered, tally.bytes)
        };
        let well = tally(10, &[(0, 5), (1, 5), (2, 5)]);
        assert_eq!(counts(&well, Some(3)), (3, 0, 0, 0, 300));
        assert_eq!(well.nanos(), 20 * MILLISECOND as u64);
        let holes = tally(10, &[(0, 5), (3, 5), (7, 5)]);
        assert_eq!(counts(&holes, Some(10)), (3, 7, 0, 0, 300));
        assert_eq!(holes.lost(None), 5, "as far as can be known");
        assert_eq!(holes.lost(Some(2)), 5, "a sender that says less than came is not believed");
        assert_eq!(holes.lost(Some(u64::MAX)), 7, "nor one that says more than it may send");
        // 2 is late, 1 comes twice.
        let mixed = tally(10, &[(0, 5), (1, 5), (3, 5), (1, 25), (2, 18), (4, 5)]);
        assert_eq!(counts(&mixed, Some(5)), (5, 0, 1, 1, 500));
        let backward = tally(10, &[(3, 1), (2, 12), (1, 23), (0, 34)]);
        assert_eq!(counts(&backward, Some(4)), (4, 0, 0, 3, 400));
        assert_eq!(counts(&Tally::new(10), Some(10)), (0, 10, 0, 0, 0));
        assert_eq!(Tally::new(0).lost(None), 0);
    }

    #[test]
    fn jitter_is_that_of_the_rfc() {
        assert_eq!(tally(10, &[(0, 5)]).jitter_nanos(), None);
        assert_eq!(tally(10, &[(0, 5), (1, 5), (2, 5)]).jitter_nanos(), Some(0), "however long the way");
        // By hand: J = 16/16 = 1 ms; then 1 + (16 − 1)/16 = 1.9375 ms; then 1.9375 × 15/16 = 1.81640625 ms.
        let one = [(0, 5), (1, 21)];
        let two = [&one[..], &[(2, 5)]].concat();
        let three = [&two[..], &[(3, 5)]].concat();
        let jitter = |arrivals: &[(u64, i64)]| tally(10, arrivals).jitter_nanos().unwrap();
        assert_eq!([jitter(&one), jitter(&two), jitter(&three)], [1_000_000, 1_937_500, 1_816_406]);
        // The sender's clock may be any: only differences count.
        let mut far = Tally::new(10);
        for (number, at) in [(0, 0), (1, 26)] {
            far.arrived(
                number,
                i64::MAX - 100 * MILLISECOND + number as i64 * 10 * MILLISECOND,
                at * MILLISECOND,
                1,
            );
        }
        assert_eq!(far.jitter_nanos(), Some(1_000_000));
    }

    #[test]
    fn a_number_that_cannot_be_changes_nothing() {
        let mut tally = Tally::new(3);
        assert!(tally.arrived(2, 0, 0, 100));
        for number in [3, 64, u64::MAX] {
            assert!(!tally.arrived(number, 0, 0, 100), "{number}");
        }
        assert!(tally.arrived(0, i64::MIN, i64::MAX, 100) && tally.arrived(1, i64::MAX, i64::MIN, 100));
        assert_eq!((tally.distinct, tally.bytes), (3, 300));
        assert!(tally.jitter_nanos().is_some());
    }
}
