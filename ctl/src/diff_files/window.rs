//! The window of files that nobody synchronised: where they overlap, less a guard.

use crate::output::units;

/// Before the window: what was on its way when the last file began is first seen here.
pub(super) const LEAD_NANOS: i64 = 100_000_000;
/// After the window, at least and at most: what was first seen in it has that long to arrive. The kernel holds packets
/// for an unresolved neighbour for some three seconds.
const TAIL_NANOS: [i64; 2] = [1_000_000_000, 4_000_000_000];

/// When files overlap, on one clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overlap {
    pub(super) start_nanos: i64,
    pub(super) end_nanos: i64,
    /// Places of the span that begins last and of the one that ends first.
    edges: [usize; 2],
    /// Spans that have it in common.
    pub(super) common: usize,
}

impl Overlap {
    /// Of the files' spans. One that spans less than half of what the longest does had little to show, or began late:
    /// it does not narrow the others' overlap, but is blind outside of its own span.
    pub(super) fn of(spans: &[(i64, i64)]) -> Option<Self> {
        let length = |span: &(i64, i64)| span.1.saturating_sub(span.0);
        let longest = spans.iter().map(length).max()?;
        let long = || spans.iter().enumerate().filter(|(_, span)| length(span) >= longest / 2);
        let (last, start_nanos) = long().map(|(at, span)| (at, span.0)).max_by_key(|(_, start)| *start)?;
        let (first, end_nanos) = long().map(|(at, span)| (at, span.1)).min_by_key(|(_, end)| *end)?;
        Some(Self { start_nanos, end_nanos, edges: [last, first], common: long().count() })
    }

    pub(super) fn nanos(self) -> i64 {
        self.end_nanos.saturating_sub(self.start_nanos)
    }

    /// What is left at the end for packets to arrive: a quarter, within bounds.
    pub(super) fn tail_nanos(self) -> i64 {
        (self.nanos() / 4).clamp(TAIL_NANOS[0], TAIL_NANOS[1])
    }

    /// The window, or why there is none. `names` are those of the spans.
    pub(super) fn window(self, names: &[String]) -> Result<(i64, i64), String> {
        let (start, end) =
            (self.start_nanos.saturating_add(LEAD_NANOS), self.end_nanos.saturating_sub(self.tail_nanos()));
        if self.nanos() <= 0 {
            let gap = units::delay(-self.nanos());
            let [last, first] = self.edges.map(|at| names.get(at).map_or("a file", String::as_str));
            return Err(format!(
                "the files do not overlap in time: that of {last} begins {gap} after that of {first} has ended; capture \
                 at the same time at all points"
            ));
        }
        if end <= start {
            let (overlap, least) = (units::delay(self.nanos()), units::delay(LEAD_NANOS + TAIL_NANOS[0]));
            return Err(format!(
                "the files overlap for {overlap} only, and {least} are needed to tell what was lost from what was on \
                 its way: begin captures before the traffic and let them run on for some seconds after it, with a \
                 packet through each point at the end (ping)"
            ));
        }
        Ok((start, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn files_with_little_to_show_do_not_narrow_the_overlap() {
        let spans = [(0, 10 * SECOND), (2 * SECOND, 11 * SECOND), (4 * SECOND, 5 * SECOND)];
        let overlap = Overlap::of(&spans).unwrap();
        assert_eq!((overlap.start_nanos, overlap.end_nanos), (2 * SECOND, 10 * SECOND));
        assert_eq!(overlap.window(&[]), Ok((2 * SECOND + LEAD_NANOS, 8 * SECOND)));
        assert_eq!(overlap.common, 2);
        assert_eq!(Overlap::of(&[]), None);
    }

    #[test]
    fn files_apart_have_no_window() {
        let apart = Overlap::of(&[(0, 5 * SECOND), (6 * SECOND, 11 * SECOND)]).unwrap();
        let said = apart.window(&["a/eth0".to_owned(), "b/eth0".to_owned()]).unwrap_err();
        assert!(said.contains("that of b/eth0 begins 1.00 s after that of a/eth0 has ended"), "{said}");
        let short = Overlap::of(&[(0, SECOND)]).unwrap();
        assert!(short.window(&[]).unwrap_err().contains("overlap for 1.00 s only"));
    }
}
