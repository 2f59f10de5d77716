//! The last lines: the verdict, and the report's own notes on what it rests on and what was missing.

use lastseen_proto::v1::diff_report::Verdict;
use lastseen_proto::v1::{DiffReport, NodeReport};

use super::{Options, plural};
use crate::output::{escape, units};

pub(super) fn text(report: &DiffReport, options: Options) -> String {
    let mut text = verdict(report, options);
    if report.partial {
        text += "partial: the capture still runs; what has passed the guard is judged\n";
    }
    for note in &report.notes {
        text += &format!("{}\n", escape::line(note));
    }
    text + &left_out(&report.nodes)
}

/// Packets that points received and nothing above speaks of; how many on which node stands in -o json.
fn left_out(nodes: &[NodeReport]) -> String {
    let sum = |count: fn(&NodeReport) -> u64| nodes.iter().map(count).fold(0, u64::saturating_add);
    let kinds = [
        (sum(|node| node.own_connections), "of Lastseen's own"),
        (sum(|node| node.undecoded), "not IP"),
        (sum(|node| node.unreadable), "unreadable"),
        (sum(|node| node.sampled_out), "not sampled"),
    ];
    let named = kinds.iter().filter(|(count, _)| *count > 0);
    let said: Vec<_> = named.map(|(count, kind)| format!("{} {kind}", units::count(*count))).collect();
    if said.is_empty() { String::new() } else { format!("packets left out: {}\n", said.join(", ")) }
}

fn verdict(report: &DiffReport, options: Options) -> String {
    let totals = report.totals.unwrap_or_default();
    match (Verdict::try_from(report.verdict), totals.lost) {
        (Ok(Verdict::Delivered), 0) => format!("{}\n", options.style.good("nothing lost")),
        (Ok(Verdict::Delivered), lost) => format!("lost {}, below the threshold\n", plural(lost, "segment")),
        (Ok(Verdict::Inconclusive), _) => {
            let word = options.style.doubtful("inconclusive");
            match totals.not_observable + totals.ambiguous {
                0 => format!("{word}\n"),
                unseen => {
                    let all = plural(totals.segments, "segment");
                    format!("{word}: {} of {all} not observable or ambiguous\n", units::count(unseen))
                }
            }
        }
        _ => String::new(),
    }
}
