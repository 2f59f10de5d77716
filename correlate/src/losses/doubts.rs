//! Notes on what was missing and is not called lost: points that miss more than their counters say, and the segments
//! that only they testify to.

use std::collections::BTreeMap;

use crate::fabric::topology::Direction;
use crate::losses::confidence::LEAST_CONFIDENCE;
use crate::report::Doubt;
use crate::report::assemble::{Assembler, Settled};
use crate::report::text::grouped;

/// Most notes of a kind.
const NOTES: usize = 20;
/// A point with a smaller share of misses is not worth a note.
const WORTH_NOTING: f64 = 0.001;

/// What was doubted, by leg, most segments first.
pub(crate) fn doubts(found: &Assembler<'_, '_>, settled: &[Settled]) -> Vec<Doubt> {
    let mut legs: BTreeMap<(usize, usize), (u64, f64)> = BTreeMap::new();
    for one in settled {
        let points = &found.course(one.conversation).1.path.points;
        for doubt in &one.settlement.doubts {
            let leg = legs.entry((points[doubt.from as usize], points[doubt.to as usize])).or_default();
            leg.0 += doubt.count;
            leg.1 += doubt.count as f64 * doubt.confidence;
        }
    }
    let mut legs: Vec<_> = legs.into_iter().collect();
    legs.sort_by_key(|(leg, (count, _))| (std::cmp::Reverse(*count), *leg));
    let doubt = |((from, to), (count, sum)): ((usize, usize), (u64, f64))| Doubt {
        from: found.name(from),
        to: found.name(to),
        count,
        confidence: sum / count as f64,
    };
    legs.into_iter().map(doubt).collect()
}

/// A line each, the worst first.
pub(crate) fn notes(found: &Assembler<'_, '_>, settled: &[Settled], doubts: &[Doubt]) -> Vec<String> {
    let mut notes: Vec<_> = doubts.iter().take(NOTES).map(doubted).collect();
    notes.extend(missing_points(found));
    let acknowledged: u64 = settled.iter().map(|one| one.tally.acknowledged).sum();
    if acknowledged > 0 {
        let what = if found.sampling.is_some() {
            "missing segments were acknowledged: they arrived, or were sent again in segments that were not sampled"
        } else {
            "segments were acknowledged though later points did not see them: delivered"
        };
        notes.push(format!("{} {what}", grouped(acknowledged)));
    }
    notes
}

fn doubted(Doubt { from, to, count, confidence }: &Doubt) -> String {
    format!(
        "{} segments are missing from {} {} → {} {} on, which misses some: {:.0} % sure that they were lost, and a loss \
         needs {:.0} %; not called lost",
        grouped(*count),
        from.node,
        from.interface,
        to.node,
        to.interface,
        (confidence * 100.0).floor(),
        LEAST_CONFIDENCE * 100.0
    )
}

fn missing_points(found: &Assembler<'_, '_>) -> Vec<String> {
    let rates = found.settler.rates.iter().enumerate();
    let mut points: Vec<_> = rates.filter(|(_, rate)| rate.share() >= WORTH_NOTING).collect();
    points.sort_by(|a, b| b.1.share().total_cmp(&a.1.share()).then(a.0.cmp(&b.0)));
    let note = |(point, rate): (usize, &crate::losses::sandwich::MissRate)| {
        let name = found.name(point);
        let direction = match found.job.points[point].direction {
            Some(Direction::In) => " in",
            Some(Direction::Out) => " out",
            None => "",
        };
        format!(
            "{} {}{direction}: did not see {} of {} segments that are known to have passed it, though it reports no drops \
             for them",
            name.node,
            name.interface,
            grouped(rate.missed),
            grouped(rate.passed)
        )
    };
    points.into_iter().take(NOTES).map(note).collect()
}
