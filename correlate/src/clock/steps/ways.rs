//! Packets both ways between two points, whose clocks were set if no one offset and drift explains them.

use super::TOLERANCE_NANOS;

/// Stretches of time that are looked at by themselves.
const BINS: i64 = 8;
/// Clocks part by a nanosecond in so many at most, 500 ppm: the kernel slews no faster.
const DRIFT: i64 = 2_000;

/// True if neither can be the way from the first point to the second and the other the way back.
pub(super) fn contradict(one: &[[i64; 2]], other: &[[i64; 2]]) -> bool {
    let times = || one.iter().chain(other).map(|times| times[0]);
    let (Some(start), Some(end)) = (times().min(), times().max()) else { return false };
    let width = end.saturating_sub(start) / BINS + 1;
    let (one, other) = (ranges(one, start, width), ranges(other, start, width));
    let refuted = |most: &Ranges, least: &Ranges| {
        let (most, least) = (most.iter().enumerate(), || least.iter().enumerate());
        most.filter_map(|(at, range)| Some((at, range.as_ref()?.0))).any(|(at, most)| {
            least().filter_map(|(other, range)| Some((other, range.as_ref()?.1))).any(|(other, least)| {
                let time = width.saturating_mul(at.abs_diff(other) as i64 + 1);
                most.saturating_add(TOLERANCE_NANOS + time / DRIFT) < least
            })
        })
    };
    refuted(&one, &other) && refuted(&other, &one)
}

type Ranges = Vec<Option<(i64, i64)>>;

/// The second least and the second greatest difference of each bin: one wrong pair proves nothing.
fn ranges(times: &[[i64; 2]], start: i64, width: i64) -> Ranges {
    let mut bins = vec![Vec::new(); BINS as usize];
    for [first, second] in times {
        let bin = (first.saturating_sub(start) / width).clamp(0, BINS - 1);
        bins[bin as usize].push(second.saturating_sub(*first));
    }
    let range = |mut bin: Vec<i64>| {
        bin.sort_unstable();
        (bin.len() > 1).then(|| (bin[1], bin[bin.len() - 2]))
    };
    bins.into_iter().map(range).collect()
}
