//! A few packets long before or after all others of a file: they would stretch the window over a time in which no other
//! file has anything.

use crate::output::units;

/// Strays are at most one of so many packets of a file, and one at least.
const SHARE: u64 = 100;
/// What is closer to the others is no stray, nanoseconds.
const LEAST_SILENCE_NANOS: i64 = 10_000_000_000;

/// Packets at one end of a file with a longer silence behind them than all others last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stray {
    packets: u64,
    /// Last of them in time, or first of those after the others.
    edge_nanos: i64,
    /// Where the others begin, or end.
    rest_nanos: i64,
}

/// A stretch of time with packets: of the first, of the last, how many.
type Busy = (i64, i64, u64);

/// Strays before and after the others. `busy` is in order of time.
pub(super) fn find(busy: impl Iterator<Item = Busy>) -> [Option<Stray>; 2] {
    let forth: Vec<Busy> = busy.collect();
    let back: Vec<Busy> = forth.iter().rev().map(|&(first, last, count)| (-last, -first, count)).collect();
    let turned =
        |stray: Stray| Stray { edge_nanos: -stray.edge_nanos, rest_nanos: -stray.rest_nanos, ..stray };
    // Strays at one end are not among the others that those at the other end are held against.
    let [begin, end] = [&forth, &back].map(|all| first_of_many(all).unwrap_or_default());
    [early(&forth, -end), early(&back, -begin).map(turned)]
}

fn few(all: &[Busy]) -> u64 {
    (all.iter().map(|slice| slice.2).sum::<u64>() / SHARE).max(1)
}

/// Begin of the first stretch that is more than strays together with those before it.
fn first_of_many(all: &[Busy]) -> Option<i64> {
    let few = few(all);
    let mut packets = 0;
    let is_many = |slice: &&Busy| {
        packets += slice.2;
        packets > few
    };
    all.iter().find(is_many).map(|slice| slice.0)
}

/// Strays before others that last until `end` at least.
fn early(all: &[Busy], end: i64) -> Option<Stray> {
    let few = few(all);
    let mut packets = 0;
    let mut found = None;
    for two in all.windows(2) {
        packets += two[0].2;
        if packets > few {
            break;
        }
        let (silence, rest) = (two[1].0.saturating_sub(two[0].1), end.saturating_sub(two[1].0));
        if silence > rest.max(LEAST_SILENCE_NANOS) {
            found = Some(Stray { packets, edge_nanos: two[0].1, rest_nanos: two[1].0 });
        }
    }
    found
}

/// A file's name, its span and its strays, on one clock.
#[derive(Clone, Debug)]
pub(super) struct Spanned {
    pub(super) name: String,
    pub(super) span: (i64, i64),
    pub(super) strays: [Option<Stray>; 2],
}

impl Stray {
    /// On a clock that is `nanos` behind.
    pub(super) fn back(self, nanos: i64) -> Self {
        let back = |time: i64| time.saturating_sub(nanos);
        Self { edge_nanos: back(self.edge_nanos), rest_nanos: back(self.rest_nanos), ..self }
    }
}

/// Takes strays from the spans where no other file has a packet as early, or as late. Returns what is to be said of it.
/// Nothing can be compared at such a time, and a window that spans it calls every other file blind.
pub(super) fn leave_out(files: &mut [Spanned]) -> Vec<String> {
    let mut notes = Vec::new();
    while let Some((at, side, stray)) = (0..files.len()).find_map(|at| lonely(files, at)) {
        let file = &mut files[at];
        file.strays[side] = None;
        let (ends, than) = if side == 0 {
            file.span.0 = stray.rest_nanos;
            ("first", "before")
        } else {
            file.span.1 = stray.rest_nanos;
            ("last", "after")
        };
        let which = match stray.packets {
            1 => format!("its {ends} packet is"),
            count => format!("its {ends} {} packets are", units::count(count)),
        };
        let silence = units::delay(stray.rest_nanos.saturating_sub(stray.edge_nanos).saturating_abs());
        notes.push(format!(
            "{}: {which} {silence} {than} the others, at a time when no other file has any: the window leaves that out",
            file.name
        ));
    }
    notes
}

/// Strays of a file at a time that no other file spans.
fn lonely(files: &[Spanned], at: usize) -> Option<(usize, usize, Stray)> {
    let file = &files[at];
    let is_alone = |(first, last): (i64, i64)| {
        let others = files.iter().enumerate().filter(|(other, _)| *other != at);
        files.len() > 1 && others.map(|(_, other)| other.span).all(|span| span.1 < first || span.0 > last)
    };
    let times = |side: usize, stray: &Stray| {
        if side == 0 { (file.span.0, stray.edge_nanos) } else { (stray.edge_nanos, file.span.1) }
    };
    let found = |side: usize| file.strays[side].filter(|stray| is_alone(times(side, stray)));
    (0..2).find_map(|side| Some((at, side, found(side)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn file(name: &str, seconds: &[i64]) -> Spanned {
        let slices = seconds.iter().map(|&second| (second * SECOND, second * SECOND, 1));
        let ends = [seconds[0], seconds[seconds.len() - 1]].map(|second| second * SECOND);
        Spanned { name: name.to_owned(), span: (ends[0], ends[1]), strays: find(slices) }
    }

    fn spans(files: &[Spanned]) -> Vec<(i64, i64)> {
        files.iter().map(|file| (file.span.0 / SECOND, file.span.1 / SECOND)).collect()
    }

    #[test]
    fn a_stray_is_left_out_where_no_other_file_has_packets() {
        let b = || file("b", &[1_000, 1_005, 1_010, 1_015, 1_020]);
        let mut early = [file("a", &[0, 1_001, 1_006, 1_011, 1_019]), b()];
        let said = leave_out(&mut early);
        assert_eq!(spans(&early), [(1_001, 1_019), (1_000, 1_020)]);
        assert!(said.len() == 1 && said[0].starts_with("a: its first packet is "), "{said:?}");
        let mut both = [file("a", &[0, 1_001, 1_006, 1_011, 9_000]), b()];
        leave_out(&mut both);
        assert_eq!(spans(&both)[0], (1_001, 1_011), "at either end");
        let mut even = [file("a", &[0, 1_001, 1_006, 1_011, 2_000]), b()];
        leave_out(&mut even);
        assert_eq!(spans(&even)[0], (1_001, 1_011), "as far from either");
        let mut shared = [early[0].clone(), b(), file("c", &[0, 1_020])];
        shared[0] = file("a", &[0, 1_001, 1_006, 1_011, 1_019]);
        assert!(leave_out(&mut shared).is_empty(), "another file has it, too");
        assert!(leave_out(&mut shared[..1]).is_empty(), "nothing else to compare with");
    }

    #[test]
    fn few_packets_with_less_silence_are_no_strays() {
        assert_eq!(find([0, 20, 21, 40, 41].map(|s| (s * SECOND, s * SECOND, 1)).into_iter()), [None, None]);
        assert_eq!(find([0, 5, 6].map(|s| (s * SECOND, s * SECOND, 1)).into_iter())[0], None, "5 s is short");
        let many = [(0, 0, 40), (100 * SECOND, 101 * SECOND, 60)];
        assert_eq!(find(many.into_iter()), [None, None], "no few");
    }
}
