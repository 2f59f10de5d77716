//! A traced path for people: what the sender saw, the way there, the way back, and what that comes to.

use lastseen_proto::probed::{Summary, words};
use lastseen_proto::v1::diff_report::Verdict;
use lastseen_proto::v1::{PathTrace, ProbeOutcome, TracedSize};

use crate::context::Context;
use crate::output::{escape, units};
use crate::probe;
use crate::report;

/// The whole trace.
pub fn text(trace: &PathTrace, context: &Context) -> String {
    let mut text = header(trace);
    for (name, path) in [("there", &trace.forward), ("back", &trace.back)] {
        if let Some(path) = path {
            text += &format!("\n{name}  {}", report::traced(path, context.style));
        }
    }
    text.push('\n');
    if let Some(sizes) = sizes(&trace.sizes) {
        text += &format!("{sizes}\n");
    }
    for note in &trace.notes {
        text += &format!("note: {}\n", escape::line(note));
    }
    text + &format!("{}\n", verdict(trace))
}

fn header(trace: &PathTrace) -> String {
    let to = if trace.to.contains(&trace.address) {
        trace.to.clone()
    } else {
        format!("{} ({})", trace.to, trace.address)
    };
    let own =
        if trace.source_address.is_empty() { String::new() } else { format!(" ({})", trace.source_address) };
    let route = format!("{}{own} → {to}", probe::source(trace.from.as_ref()));
    let ids = format!("capture {}  probe {}", trace.capture_id, trace.probe_id);
    format!("{}\n{}\n{}\n", escape::line(&route), escape::line(&sender(trace)), escape::line(&ids))
}

/// What the sender saw of it.
fn sender(trace: &PathTrace) -> String {
    let result = trace.result.clone().unwrap_or_default();
    let summary = Summary::of(&result);
    let words = words(None, &result, &summary);
    let delay = summary
        .median()
        .map_or_else(String::new, |delay| format!(", answered in {}", units::delay(delay as i64)));
    format!("sent {}{delay}: {words}", units::count(summary.sent))
}

/// From which size on packets vanish.
fn sizes(sizes: &[TracedSize]) -> Option<String> {
    let sent: Vec<&TracedSize> = sizes.iter().filter(|size| size.sent > 0).collect();
    let largest = sent.iter().rev().find(|size| size.lost < size.sent && size.answered > 0);
    let vanishing = sent.iter().find(|size| {
        let all_larger = sent.iter().filter(|other| other.size >= size.size);
        size.lost > 0 && all_larger.clone().all(|other| other.lost > 0 && other.answered == 0)
    });
    let unsent = sizes.iter().find(|size| size.not_sent > 0);
    let mut words = vec![match (largest, vanishing) {
        (_, None) if sent.is_empty() => return None,
        (_, None) => "size makes no difference".to_owned(),
        (Some(largest), Some(from)) => format!(
            "packets of up to {} bytes come through, and from {} on all vanish on the way there",
            units::count(largest.size.into()),
            units::count(from.size.into())
        ),
        (None, Some(_)) => "none comes through, whatever its size".to_owned(),
    }];
    words.extend(unsent.map(|size| {
        format!("from {} on the source itself does not send them", units::count(size.size.into()))
    }));
    Some(format!("sizes: {}", words.join("; ")))
}

fn verdict(trace: &PathTrace) -> String {
    let lost = |path: &Option<lastseen_proto::v1::PathReport>| {
        path.as_ref().and_then(|path| path.totals).map_or(0, |totals| totals.lost)
    };
    let attempts = trace.result.iter().flat_map(|result| &result.attempts);
    let count =
        |outcome: ProbeOutcome| attempts.clone().filter(|attempt| attempt.outcome() == outcome).count();
    let (answered, refused) = (count(ProbeOutcome::ProbeAnswered), count(ProbeOutcome::ProbeRefused));
    match trace.verdict() {
        Verdict::Lost => match (lost(&trace.forward), lost(&trace.back)) {
            (there, 0) => format!("LOST on the way there: {}", units::count(there)),
            (0, back) => format!("LOST on the way back: {}", units::count(back)),
            (there, back) => {
                format!(
                    "LOST on the way there: {}, and on the way back: {}",
                    units::count(there),
                    units::count(back)
                )
            }
        },
        Verdict::Delivered if refused > 0 && answered == 0 => {
            "delivered, and refused by the target: nothing listens there".to_owned()
        }
        Verdict::Delivered if answered == 0 && trace.back.is_none() => {
            "delivered to the last point, and nothing came back: look at the target itself".to_owned()
        }
        Verdict::Delivered => "nothing lost".to_owned(),
        Verdict::Inconclusive | Verdict::Unspecified => {
            "inconclusive: the notes say what was not seen".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(size: u32, sent: u64, lost: u64, answered: u64) -> TracedSize {
        TracedSize { size, sent, lost, answered, not_sent: 3 - sent }
    }

    #[test]
    fn the_size_from_which_packets_vanish_is_said() {
        let told = |all: &[TracedSize]| sizes(all).unwrap_or_default();
        assert_eq!(told(&[]), "");
        assert_eq!(told(&[size(100, 3, 0, 3), size(1_400, 3, 0, 3)]), "sizes: size makes no difference");
        assert_eq!(
            told(&[
                size(100, 3, 0, 3),
                size(1_352, 3, 0, 3),
                size(1_356, 3, 3, 0),
                size(1_400, 3, 3, 0),
                size(1_452, 0, 0, 0)
            ]),
            "sizes: packets of up to 1,352 bytes come through, and from 1,356 on all vanish on the way there; from 1,452 on \
             the source itself does not send them"
        );
        assert_eq!(told(&[size(100, 3, 3, 0)]), "sizes: none comes through, whatever its size");
        assert_eq!(told(&[size(100, 3, 1, 2), size(1_400, 3, 0, 3)]), "sizes: size makes no difference");
    }
}
