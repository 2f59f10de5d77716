//! One path: a line, and where something is worth a look its hops and losses.

use lastseen_proto::v1::{PathReport, PieceBytes, SegmentTotals};

use super::{Options, aligned, hops, loss, plural};
use crate::output::{escape, names, units};

/// Where the outcome of a path begins.
const OUTCOME_COLUMN: usize = 73;

/// Whether the path takes more than its line.
pub(super) fn has_details(path: &PathReport, options: Options) -> bool {
    let totals = path.totals.unwrap_or_default();
    let in_doubt = totals.not_observable + totals.ambiguous > 0;
    let blind = path.hops.iter().any(|hop| hop.blind_ratio > 0.0);
    options.wide || !path.losses.is_empty() || totals.lost > 0 || in_doubt || blind
}

pub(super) fn text(path: &PathReport, options: Options) -> String {
    let mut text = aligned(&title(path), &outcome(path), OUTCOME_COLUMN);
    if !has_details(path, options) {
        return text;
    }
    for translation in &path.translations {
        let node =
            translation.node.as_ref().map(|node| format!(", translated by {node}")).unwrap_or_default();
        let line = format!("  also seen as {} → {}{node}", translation.source, translation.destination);
        text += &format!("{}\n", escape::line(&line));
    }
    text += &hops::text(path, options);
    for loss in &path.losses {
        text += &loss::text(loss, unit(path.in_pieces.as_ref()), options);
    }
    text
}

/// What the path is counted in.
pub(super) fn unit(in_pieces: Option<&PieceBytes>) -> &'static str {
    if in_pieces.is_some() { "piece" } else { "segment" }
}

fn title(path: &PathReport) -> String {
    let mut title = format!("{} → {}  {}", path.source, path.destination, path.protocol);
    if let Some(overlay) = &path.overlay {
        title += &format!("  {}", names::overlay(overlay));
    }
    escape::line(&title).into_owned()
}

fn outcome(path: &PathReport) -> String {
    match (&path.totals.unwrap_or_default(), &path.hops[..]) {
        (SegmentTotals { segments: 0, .. }, [only]) => {
            format!("{} seen at one point only", plural(only.seen, "segment"))
        }
        (totals, _) => judged(totals, path.in_pieces.as_ref()),
    }
}

fn judged(totals: &SegmentTotals, in_pieces: Option<&PieceBytes>) -> String {
    let all = plural(totals.segments, unit(in_pieces));
    let share = in_pieces.map(|bytes| bytes.lost as f64 / bytes.total.max(1) as f64);
    let share = share.map(|share| format!(" ({} of the bytes)", units::percent(share))).unwrap_or_default();
    let mut outcome = match totals.lost {
        0 => format!("{} of {all} arrived", units::count(totals.delivered)),
        lost => format!("lost {} of {all}{share}", units::count(lost)),
    };
    for (number, what) in [
        (totals.not_observable, "not observable"),
        (totals.ambiguous, "ambiguous"),
        (totals.in_flight, "in flight"),
        (totals.transformed, "transformed"),
        (totals.duplicated, "duplicated"),
    ] {
        if number > 0 {
            outcome += &format!(", {} {what}", units::count(number));
        }
    }
    outcome
}
