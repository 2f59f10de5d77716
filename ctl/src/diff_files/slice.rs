//! A slice of a file's time while it is read: when it is and what is counted in it.

/// Length of a slice, nanoseconds.
pub(super) const SLICE_NANOS: i64 = 100_000_000;

/// Counters of the slice at hand.
#[derive(Debug, Default)]
pub(super) struct Slice {
    pub(super) start_nanos: Option<i64>,
    /// It ends here, as it covers a pause in which packets were dropped and no more.
    pub(super) ends: Option<i64>,
    /// Times of the first and the last packet in it.
    pub(super) busy: Option<(i64, i64)>,
    pub(super) received: u64,
    pub(super) unreadable: u64,
    /// Packets that are no IP packet.
    pub(super) undecoded: u64,
    pub(super) drops: u64,
}

impl Slice {
    /// It is as long as a slice may be by `time`.
    pub(super) fn is_over(&self, time: i64) -> bool {
        self.start_nanos.is_some_and(|start| time.saturating_sub(start) >= SLICE_NANOS)
    }

    /// Notes a packet.
    pub(super) fn receive(&mut self, time: i64) {
        let (first, last) = self.busy.unwrap_or((time, time));
        self.busy = Some((first.min(time), last.max(time)));
        self.received += 1;
    }

    /// Notes drops between `from` and `to`, which is not before it, and covers that time.
    pub(super) fn drop(&mut self, (from, to): (i64, i64), drops: u64) {
        self.start_nanos = Some(self.start_nanos.map_or(from, |start| start.min(from)));
        self.drops = self.drops.saturating_add(drops);
        if self.is_over(to) {
            self.ends = Some(to);
        }
    }

    /// Begin and end of the slice, which is done at `end`. One with drops has the moment of its end, too: so it has a
    /// length, and what was dropped along with its last packet is in it.
    pub(super) fn span(&self, end: i64) -> (i64, i64) {
        let start = self.start_nanos.unwrap_or(end);
        (start, end.max(start).saturating_add(i64::from(self.drops > 0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    #[test]
    fn a_slice_with_drops_has_the_time_between_two_packets_and_a_length() {
        let mut pause = Slice { start_nanos: Some(500 * MS), ..Slice::default() };
        pause.drop((500 * MS, 900 * MS), 3);
        assert_eq!(
            (pause.ends, pause.drops, pause.span(900 * MS)),
            (Some(900 * MS), 3, (500 * MS, 900 * MS + 1))
        );
        let mut back = Slice { start_nanos: Some(500 * MS), ..Slice::default() };
        back.drop((480 * MS, 510 * MS), 3);
        assert_eq!((back.ends, back.span(510 * MS).0), (None, 480 * MS), "stamps that run back");
        let mut moment = Slice::default();
        moment.drop((7, 7), u64::MAX);
        moment.drop((7, 7), 1);
        assert_eq!((moment.drops, moment.span(7)), (u64::MAX, (7, 8)));
        assert_eq!(Slice::default().span(7), (7, 7), "nothing was dropped");
    }
}
