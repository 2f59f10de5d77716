//! Losses that fall together: bursts, and what recurs.

use super::candidate::{Candidate, Holders, Kind, MIN_COVERAGE};
use super::chance::{Split, ln_choose};
use super::profile::Profile;
use super::timeline::Grain;

/// Most bursts that are looked for.
pub(crate) const MOST_BURSTS: usize = 8;
/// A period repeats at least this often.
const MIN_CYCLES: usize = 4;
/// Share of its cycles in which something must be lost.
const MIN_HITS: f64 = 0.75;
/// Largest share of a period in which its losses fall.
const MAX_ARC: f64 = 0.25;

/// Lost and passed segments by bin.
struct Bins<'p> {
    lost: Vec<u64>,
    passed: Vec<u64>,
    /// Bins in which something was lost, ascending.
    lossy: Vec<usize>,
    grain: &'p Grain,
}

/// Bursts and periods of a loss whose times are all known.
pub(crate) fn candidates(lost: &Profile, passed: &Profile, grain: &Grain) -> Vec<Candidate> {
    let bins = Bins::new(lost, passed, grain);
    if bins.lost.iter().sum::<u64>() < lost.count() || bins.lossy.is_empty() {
        return Vec::new();
    }
    let mut found: Vec<_> =
        (1..=MOST_BURSTS.min(bins.lossy.len())).filter_map(|count| bins.bursts(count)).collect();
    found.extend(bins.period());
    found
}

impl<'p> Bins<'p> {
    fn new(lost: &Profile, passed: &Profile, grain: &'p Grain) -> Self {
        let count = usize::from(grain.bins).max(lost.times.len()).max(passed.times.len());
        let widen = |times: &[u32]| {
            let mut wide: Vec<_> = times.iter().map(|&count| u64::from(count)).collect();
            wide.resize(count, 0);
            wide
        };
        let (lost, passed) = (widen(&lost.times), widen(&passed.times));
        let lossy = (0..count).filter(|&at| lost[at] > 0).collect();
        Self { lost, passed, lossy, grain }
    }

    fn split(&self, is_in: &[bool]) -> Split {
        let with =
            |counts: &[u64]| counts.iter().zip(is_in).filter(|(_, is_in)| **is_in).map(|(n, _)| n).sum();
        Split::new((with(&self.lost), self.lost.iter().sum()), (with(&self.passed), self.passed.iter().sum()))
    }

    /// At most `count` stretches between the widest gaps, without those that explain little.
    fn bursts(&self, count: usize) -> Option<Candidate> {
        let mut runs = self.runs(count);
        let lost = |run: &(usize, usize)| self.lost[run.0..=run.1].iter().sum::<u64>();
        let mut stray = (self.lost.iter().sum::<u64>() as f64 * (1.0 - MIN_COVERAGE)) as u64;
        while let Some(least) = (0..runs.len()).min_by_key(|&at| lost(&runs[at]))
            && lost(&runs[least]) <= stray
        {
            stray -= lost(&runs[least]);
            runs.remove(least);
        }
        let mut is_in = vec![false; self.lost.len()];
        for &(first, last) in &runs {
            is_in[first..=last].fill(true);
        }
        let (&(first, _), longest) = (runs.first()?, runs.iter().map(|run| run.1 - run.0 + 1).max()?);
        let (within, begin) = (self.length(longest as f64), self.instant(first as f64));
        let what = match runs.len() {
            1 => format!("were sent within {within}, {begin} into the window"),
            many => {
                format!("were sent in {many} bursts of at most {within}, the first {begin} into the window")
            }
        };
        Some(Candidate {
            kind: Kind::Burst,
            split: self.split(&is_in),
            holders: Holders::Bins(is_in),
            ln_tried: ln_choose(self.lost.len() as f64 + 1.0, 2.0 * runs.len() as f64),
            what,
            rest: "at other times",
        })
    }

    /// Cuts at the `count − 1` widest gaps between lossy bins; neighbours stay together.
    fn runs(&self, count: usize) -> Vec<(usize, usize)> {
        let gap = |at: usize| self.lossy[at] - self.lossy[at - 1];
        let mut cuts: Vec<_> = (1..self.lossy.len()).filter(|&at| gap(at) > 1).collect();
        cuts.sort_by_key(|&at| (std::cmp::Reverse(gap(at)), at));
        cuts.truncate(count - 1);
        cuts.sort_unstable();
        let begins = std::iter::once(0).chain(cuts.iter().copied());
        let ends = cuts.iter().copied().chain([self.lossy.len()]);
        begins.zip(ends).map(|(begin, end)| (self.lossy[begin], self.lossy[end - 1])).collect()
    }

    /// The best period, from all of the bins down to three bins, of which every loss falls into one part.
    fn period(&self) -> Option<Candidate> {
        let bins = self.lost.len();
        if self.lossy.len() < MIN_CYCLES || self.lossy.len() > bins / MIN_CYCLES {
            return None;
        }
        let most = bins / 3;
        let cycles = (2 * MIN_CYCLES..=2 * most).map(|halves| halves as f64 / 2.0);
        let folded = cycles.filter_map(|cycles| Fold::new(&self.lossy, cycles / bins as f64));
        let scored = folded.map(|fold| {
            let is_in: Vec<_> = (0..bins).map(|bin| fold.holds(bin)).collect();
            let split = self.split(&is_in);
            (split.ln_chance(), fold, is_in, split)
        });
        let (_, fold, is_in, split) = scored.min_by(|a, b| a.0.total_cmp(&b.0))?;
        let what = format!(
            "were sent within {} of every {}, the first {} into the window",
            self.length((fold.arc / fold.rate).round() + 1.0),
            self.length(fold.period(&self.lossy)),
            self.instant(self.lossy[0] as f64)
        );
        Some(Candidate {
            kind: Kind::Period,
            holders: Holders::Bins(is_in),
            split,
            // Periods, and for each where its part begins and ends.
            ln_tried: (2.0 * most as f64).ln() + 2.0 * (bins as f64).ln(),
            what,
            rest: "at other times",
        })
    }

    /// A number of bins as a time.
    fn length(&self, bins: f64) -> String {
        let millis = (bins * self.grain.width_nanos() as f64 / 1e6).round();
        if millis < 1000.0 { format!("{millis} ms") } else { format!("{:.2} s", millis / 1000.0) }
    }

    /// The begin of a bin, since the start of the window.
    fn instant(&self, bin: f64) -> String {
        let fine = (self.grain.first as f64 + bin) * self.grain.width_nanos() as f64;
        format!("{:.2} s", fine / 1e9)
    }
}

/// Bins folded by a period.
struct Fold {
    /// Periods per bin.
    rate: f64,
    /// Phase at which the part with the losses begins.
    begin: f64,
    /// How much of the period it is.
    arc: f64,
}

impl Fold {
    /// Absent where the losses spread over too much of the period or too few of its cycles.
    fn new(lossy: &[usize], rate: f64) -> Option<Self> {
        // Most periods are refused before the phases are sorted: too many parts of 64 have losses.
        let parts = lossy.iter().fold(0_u64, |parts, &bin| parts | 1 << (phase(bin, rate) * 64.0) as u32);
        if f64::from(parts.count_ones()) > MAX_ARC * 64.0 + 2.0 {
            return None;
        }
        let mut phases: Vec<_> = lossy.iter().map(|&bin| phase(bin, rate)).collect();
        phases.sort_by(f64::total_cmp);
        let around = phases.iter().skip(1).copied().chain([phases[0] + 1.0]);
        let gaps = phases.iter().zip(around).map(|(from, to)| (to - from, to % 1.0));
        let (gap, begin) = gaps.max_by(|a, b| a.0.total_cmp(&b.0))?;
        let fold = Self { rate, begin, arc: 1.0 - gap };
        // A bin more to either side: where within a bin something happens is not known.
        (fold.arc + rate <= MAX_ARC && fold.is_regular(lossy)).then_some(fold)
    }

    fn holds(&self, bin: usize) -> bool {
        let after = (phase(bin, self.rate) - self.begin).rem_euclid(1.0);
        after <= self.arc + 1e-9 || after >= 1.0 - 1e-9
    }

    fn cycle(&self, bin: usize) -> i64 {
        (bin as f64 * self.rate - self.begin + 1e-9).floor() as i64
    }

    fn is_regular(&self, lossy: &[usize]) -> bool {
        let mut cycles: Vec<_> = lossy.iter().map(|&bin| self.cycle(bin)).collect();
        cycles.dedup();
        let span = cycles[cycles.len() - 1] - cycles[0] + 1;
        cycles.len() >= MIN_CYCLES && cycles.len() as f64 >= MIN_HITS * span as f64
    }

    /// Length in bins, measured from the first loss to the last.
    fn period(&self, lossy: &[usize]) -> f64 {
        let (first, last) = (lossy[0], lossy[lossy.len() - 1]);
        (last - first) as f64 / (self.cycle(last) - self.cycle(first)).max(1) as f64
    }
}

fn phase(bin: usize, rate: f64) -> f64 {
    (bin as f64 * rate).fract()
}
