//! The last lines: what the report rests on.

use std::collections::BTreeMap;

use lastseen_proto::v1::DiffReport;
use lastseen_proto::v1::diff_report::Verdict;

use super::{Options, plural};
use crate::output::{escape, names, units};

pub(super) fn text(report: &DiffReport, options: Options) -> String {
    let mut text = String::new();
    if report.omitted_paths > 0 {
        text += &format!("{} not listed: the report is full\n", plural(report.omitted_paths, "more path"));
    }
    text += &verdict(report, options);
    for note in &report.notes {
        text += &format!("{}\n", escape::line(note));
    }
    if report.partial {
        text += "partial: the capture still runs; what has passed the guard is judged\n";
    }
    text + &capture_loss(report, options)
}

fn verdict(report: &DiffReport, options: Options) -> String {
    let totals = report.totals.unwrap_or_default();
    match (Verdict::try_from(report.verdict), totals.lost) {
        (Ok(Verdict::Delivered), 0) => format!("{}\n", options.style.good("nothing lost")),
        (Ok(Verdict::Delivered), lost) => format!("lost {}, below the threshold\n", plural(lost, "segment")),
        (Ok(Verdict::Inconclusive), _) => format!(
            "{}: {} of {} not observable\n",
            options.style.doubtful("inconclusive"),
            units::count(totals.not_observable),
            plural(totals.segments, "segment")
        ),
        _ => String::new(),
    }
}

/// What capturing itself missed.
fn capture_loss(report: &DiffReport, options: Options) -> String {
    let points = points(report);
    let total = plural(points.len() as u64, "point");
    let blind: Vec<String> = points
        .iter()
        .filter(|(_, ratio)| **ratio > 0.0)
        .map(|(point, ratio)| format!("{} blind {}", escape::line(point), units::percent(*ratio)))
        .collect();
    let mut text = drops(report);
    if !blind.is_empty() {
        let line = format!("capture loss at {} of {total}", blind.len());
        text += &format!(
            "{}: {}; what they hide is not observable\n",
            options.style.doubtful(&line),
            blind.join(", ")
        );
    } else if !points.is_empty() && text.is_empty() {
        text += &format!("observed with no capture loss at any of {total}\n");
    }
    text
}

/// The observation points of all paths, with the largest share each cannot have seen.
fn points(report: &DiffReport) -> BTreeMap<String, f64> {
    let mut points = BTreeMap::new();
    for hop in report.paths.iter().flat_map(|path| &path.hops) {
        let point = format!("{} {} {}", hop.node, hop.interface, names::direction(hop.direction));
        let worst: &mut f64 = points.entry(point).or_default();
        *worst = worst.max(hop.blind_ratio);
    }
    points
}

/// Packets that were discarded while capturing, by node.
fn drops(report: &DiffReport) -> String {
    let lossy = report.nodes.iter().filter(|node| node.kernel_drops + node.agent_drops > 0);
    lossy
        .map(|node| {
            format!(
                "{} dropped {} while capturing: {} by the kernel, {} by the agent\n",
                escape::line(&node.node),
                plural(node.kernel_drops + node.agent_drops, "packet"),
                units::count(node.kernel_drops),
                units::count(node.agent_drops)
            )
        })
        .collect()
}
