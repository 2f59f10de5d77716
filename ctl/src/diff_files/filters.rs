//! Points whose files look as if a capture filter left a protocol out.

use std::collections::{BTreeMap, BTreeSet};

use lastseen_correlate::report::{PathReport, Report};

/// Of one protocol at one point.
#[derive(Default)]
struct Share {
    /// Segments that the points before saw.
    came: u64,
    seen: u64,
    /// Lost on the way to the point.
    lost: u64,
}

/// Asks for each point that saw nothing of a protocol which the points before it saw, but all of another. Whether a filter
/// left it out or the network did cannot be told.
pub(super) fn notes(report: &Report) -> impl Iterator<Item = String> {
    let mut points: BTreeMap<(String, String), BTreeMap<&str, Share>> = BTreeMap::new();
    for path in &report.paths {
        add(path, &mut points);
    }
    let mut notes = BTreeSet::new();
    for ((node, interface), shares) in points {
        let is_whole = shares.values().any(|share| share.seen > 0 && share.lost == 0);
        for (protocol, _) in shares.iter().filter(|(_, share)| is_whole && share.seen == 0 && share.came > 0)
        {
            notes.insert(format!(
                "{node} {interface} saw no {protocol} at all: was it captured with another filter?"
            ));
        }
    }
    notes.into_iter()
}

fn add<'r>(path: &'r PathReport, points: &mut BTreeMap<(String, String), BTreeMap<&'r str, Share>>) {
    for (hop, before) in path.hops.iter().skip(1).zip(&path.hops).filter(|(hop, _)| !hop.bypassed) {
        let shares = points.entry((hop.node.clone(), hop.interface.clone())).or_default();
        let share = shares.entry(&path.protocol).or_default();
        share.came += before.seen;
        share.seen += hop.seen;
        share.lost += before.missing_after;
    }
}
