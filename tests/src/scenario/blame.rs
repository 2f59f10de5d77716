//! Where a report says that packets were lost: on the legs of the truth or elsewhere.

use super::finding::Finding;
use super::report::{Loss, Path, PointName, Report};
use super::truth::{LegLoss, Truth};

/// Sorts every loss in the report into right and elsewhere.
pub(super) fn attribute(truth: &Truth, report: &Report, finding: &mut Finding) {
    for path in &report.paths {
        let (sender, receiver) = (truth.faulty.source.ip(), truth.faulty.destination.ip());
        let is_of = |leg: &LegLoss| {
            path.addresses() == Some(if leg.is_answer { (receiver, sender) } else { (sender, receiver) })
        };
        for loss in &path.losses {
            let leg = truth.losses.iter().position(|leg| {
                is_of(leg) && (is_on(loss, leg) || truth.unseen_percent.is_some() && spans(path, loss, leg))
            });
            if let Some(leg) = leg {
                finding.by_leg[leg] += loss.count;
            } else {
                finding.lost_elsewhere += loss.count;
                finding.elsewhere.push((loss.from.clone(), loss.to.clone(), loss.count));
                finding.differ(format!("false loss: {} {}", path.name(), line(loss)));
            }
        }
    }
}

fn is_on(loss: &Loss, leg: &LegLoss) -> bool {
    loss.from == leg.from && loss.to.as_ref() == Some(&leg.to)
}

/// Whether a loss is told between points that have the leg between them: those that are nearer were not there to see.
fn spans(path: &Path, loss: &Loss, leg: &LegLoss) -> bool {
    let at = |point: &PointName| path.hops.iter().position(|hop| hop.point == *point);
    let ends =
        [Some(&loss.from), Some(&leg.from), Some(&leg.to), loss.to.as_ref()].map(|end| end.and_then(at));
    ends.iter().all(Option::is_some) && ends.is_sorted()
}

/// The report in one line: verdict and, by size, the legs on which something was lost.
pub(super) fn describe(report: &Report) -> String {
    let legs: Vec<_> = legs(report).into_iter().map(|(leg, _)| leg).collect();
    format!("{} {}", report.verdict, legs.join(", ")).trim_end().to_owned()
}

/// Segments lost on each leg over all paths, most first.
pub(super) fn legs(report: &Report) -> Vec<(String, u64)> {
    let mut legs: Vec<(String, u64)> = Vec::new();
    for loss in report.paths.iter().flat_map(|path| &path.losses) {
        let leg = leg(loss);
        match legs.iter_mut().find(|(known, _)| *known == leg) {
            Some((_, count)) => *count += loss.count,
            None => legs.push((leg, loss.count)),
        }
    }
    legs.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    legs
}

fn leg(loss: &Loss) -> String {
    let to = loss.to.as_ref().map_or_else(|| "?".to_owned(), ToString::to_string);
    format!("{} → {to}", loss.from)
}

fn line(loss: &Loss) -> String {
    format!("{} {}", loss.count, leg(loss))
}

#[cfg(test)]
mod tests {
    use super::spans;
    use crate::scenario::report::{Hop, Loss, Path, PointName};
    use crate::scenario::truth::LegLoss;

    fn point(node: &str) -> PointName {
        PointName { node: node.to_owned(), interface: "eth0".to_owned() }
    }

    #[test]
    fn a_loss_spans_a_leg_that_its_points_enclose() {
        let hops = ["a", "b", "c", "d"].map(|node| Hop { point: point(node), seen: 1, ..Hop::default() });
        let path = Path { hops: hops.to_vec(), ..Path::default() };
        let leg = LegLoss { from: point("b"), to: point("c"), count: 1, is_answer: false, unseen: 0 };
        let spanning = |from: &str, to: &str| {
            spans(&path, &Loss { from: point(from), to: Some(point(to)), count: 1 }, &leg)
        };
        assert!(spanning("a", "c") && spanning("b", "d") && spanning("b", "c"));
        assert!(!spanning("c", "d") && !spanning("a", "b") && !spanning("b", "?"));
    }
}
