//! Notes on what was missing and is not called lost: points that miss more than their counters say, and the segments
//! that only they testify to.

use std::collections::BTreeMap;

use crate::assemble::{Assembler, Settled};
use crate::confidence::LEAST_CONFIDENCE;
use crate::text::grouped;
use crate::topology::Direction;

/// Most notes of a kind.
const NOTES: usize = 20;
/// A point with a smaller share of misses is not worth a note.
const WORTH_NOTING: f64 = 0.001;

/// A line each, the worst first.
pub(crate) fn notes(found: &Assembler<'_, '_>, settled: &[Settled]) -> Vec<String> {
    let mut notes = doubted(found, settled);
    notes.extend(missing_points(found));
    let acknowledged: u64 = settled.iter().map(|one| one.tally.acknowledged).sum();
    if acknowledged > 0 {
        notes.push(format!(
            "{} segments were acknowledged though later points did not see them: delivered",
            grouped(acknowledged)
        ));
    }
    notes
}

fn doubted(found: &Assembler<'_, '_>, settled: &[Settled]) -> Vec<String> {
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
    let note = |((from, to), (count, confidence)): ((usize, usize), (u64, f64))| {
        format!(
            "{} segments are missing from {} on, which is known to miss some: {:.0} % sure that they were lost, less than \
             the {:.0} % a loss needs; not called lost",
            grouped(count),
            leg_name(found, from, to),
            (confidence / count as f64 * 100.0).floor(),
            LEAST_CONFIDENCE * 100.0
        )
    };
    legs.into_iter().take(NOTES).map(note).collect()
}

fn leg_name(found: &Assembler<'_, '_>, from: usize, to: usize) -> String {
    let (from, to) = (found.name(from), found.name(to));
    format!("{} {} → {} {}", from.node, from.interface, to.node, to.interface)
}

fn missing_points(found: &Assembler<'_, '_>) -> Vec<String> {
    let rates = found.settler.rates.iter().enumerate();
    let mut points: Vec<_> = rates.filter(|(_, rate)| rate.share() >= WORTH_NOTING).collect();
    points.sort_by(|a, b| b.1.share().total_cmp(&a.1.share()).then(a.0.cmp(&b.0)));
    let note = |(point, rate): (usize, &crate::sandwich::MissRate)| {
        let name = found.name(point);
        let direction = match found.job.points[point].direction {
            Direction::In => "in",
            Direction::Out => "out",
        };
        format!(
            "{} {} {direction}: did not see {} of {} segments that are known to have passed it, though it reports no drops \
             for them",
            name.node,
            name.interface,
            grouped(rate.missed),
            grouped(rate.passed)
        )
    };
    points.into_iter().take(NOTES).map(note).collect()
}
