//! A check for people: a line for each thing, and what to do about those that are not well.

use std::collections::BTreeSet;

use lastseen_proto::v1::check_result::Verdict;
use lastseen_proto::v1::{CheckItem, CheckReport, CheckResult};

use crate::context::Context;
use crate::output::table::Table;
use crate::output::{Format, escape, units};
use crate::probe;

/// The whole report. Unless it is wide, targets of one kind that are well share a line.
pub fn text(report: &CheckReport, context: &Context) -> String {
    let is_wide = context.global.output == Format::Wide;
    let mut table = Table::new(&["SOURCE", "CHECK", "TARGET", "RESULT", "REASON"]);
    for group in report.results.chunk_by(|one, next| one.source == next.source && one.item == next.item) {
        let (well, other): (Vec<_>, Vec<_>) =
            group.iter().partition(|result| result.verdict() == Verdict::Pass && !is_wide);
        match &well[..] {
            [] => {}
            [one] => table.row(row(one)),
            several => table.row([
                probe::source(several[0].source.as_ref()),
                name(several[0].item()).to_owned(),
                format!("{} targets", units::count(several.len() as u64)),
                "pass".to_owned(),
                String::new(),
            ]),
        }
        for result in other {
            table.row(row(result));
        }
    }
    let mut text = table.text();
    let steps = next_steps(report);
    if !steps.is_empty() {
        text += &format!("\nnext\n{steps}");
    }
    text.push('\n');
    for note in &report.notes {
        text += &format!("note: {}\n", escape::line(note));
    }
    text + &summary(report, context)
}

fn row(result: &CheckResult) -> [String; 5] {
    let target = match result.target_node.as_str() {
        "" => result.target.clone(),
        node => format!("{} ({node})", result.target),
    };
    [
        probe::source(result.source.as_ref()),
        name(result.item()).to_owned(),
        target,
        word(result.verdict()).to_owned(),
        result.reason.clone(),
    ]
}

/// Each step once, in the order of the report.
fn next_steps(report: &CheckReport) -> String {
    let mut seen = BTreeSet::new();
    let mut lines = String::new();
    for result in report.results.iter().filter(|result| !result.next_step.is_empty()) {
        if seen.insert(&result.next_step) {
            let source = probe::source(result.source.as_ref());
            let what = format!("{source} {}: {}", name(result.item()), result.next_step);
            lines += &format!("  {}\n", escape::line(&what));
        }
    }
    lines
}

/// `12 pass, 1 fail`.
fn summary(report: &CheckReport, context: &Context) -> String {
    let count = |verdict| report.results.iter().filter(|result| result.verdict() == verdict).count() as u64;
    let (pass, fail) = (count(Verdict::Pass), count(Verdict::Fail));
    let unknown = report.results.len() as u64 - pass - fail;
    let words: Vec<String> = [(pass, "pass"), (fail, "FAIL"), (unknown, "unknown")]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{} {word}", units::count(count)))
        .collect();
    let (words, style) = (words.join(", "), context.style);
    let painted = match (fail, unknown, pass) {
        (0, 0, 0) => style.doubtful("nothing was looked at"),
        (0, 0, _) => style.good(&words),
        (0, ..) => style.doubtful(&words),
        _ => style.bad(&words),
    };
    format!("{painted}\n")
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "FAIL",
        Verdict::Unknown | Verdict::Unspecified => "unknown",
    }
}

fn name(item: CheckItem) -> &'static str {
    match item {
        CheckItem::CheckGateway => "gateway",
        CheckItem::CheckNeighbors => "neighbors",
        CheckItem::CheckIcmp => "icmp",
        CheckItem::CheckTcp => "tcp",
        CheckItem::CheckDns => "dns",
        CheckItem::CheckEndpoint => "endpoint",
        CheckItem::CheckApiServer => "api-server",
        CheckItem::CheckPathMtu => "mtu",
        CheckItem::CheckOverlayMtu => "tunnel mtu",
        CheckItem::CheckOverlay => "tunnel",
        CheckItem::CheckConntrack => "conntrack",
        CheckItem::CheckForwarding => "forwarding",
        CheckItem::CheckRpFilter => "rp_filter",
        CheckItem::CheckAgent => "agent",
        CheckItem::Unspecified => "of a newer version",
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use lastseen_proto::v1::ProbeSource;

    use super::*;
    use crate::cli::Cli;

    fn result(node: &str, item: CheckItem, target: &str, verdict: Verdict) -> CheckResult {
        let next_step = if verdict == Verdict::Fail { "look at the link" } else { "" };
        CheckResult {
            source: Some(ProbeSource { node: node.into(), netns: String::new() }),
            item: item.into(),
            target: target.into(),
            verdict: verdict.into(),
            reason: "it is so".into(),
            next_step: next_step.into(),
            ..CheckResult::default()
        }
    }

    fn context(format: &str) -> Context {
        let cli = Cli::parse_from(["ctl", "-o", format, "check-host"]);
        Context::for_process(cli.global)
    }

    #[test]
    fn what_is_well_is_short_and_what_is_not_has_a_next_step() {
        let results = vec![
            result("a", CheckItem::CheckOverlay, "10.0.0.1", Verdict::Pass),
            result("a", CheckItem::CheckOverlay, "10.0.0.2", Verdict::Pass),
            result("a", CheckItem::CheckOverlay, "10.0.0.3", Verdict::Fail),
            result("b", CheckItem::CheckGateway, "", Verdict::Fail),
            result("b", CheckItem::CheckConntrack, "", Verdict::Unknown),
        ];
        let report =
            CheckReport { results, notes: vec!["not asked for: names".into()], ..CheckReport::default() };
        let expected = "SOURCE   CHECK       TARGET      RESULT    REASON\n\
                        a        tunnel      2 targets   pass      -\n\
                        a        tunnel      10.0.0.3    FAIL      it is so\n\
                        b        gateway     -           FAIL      it is so\n\
                        b        conntrack   -           unknown   it is so\n\
                        \nnext\n  a tunnel: look at the link\n\
                        \nnote: not asked for: names\n\
                        2 pass, 2 FAIL, 1 unknown\n";
        assert_eq!(text(&report, &context("table")), expected);
        assert!(text(&report, &context("wide")).contains("10.0.0.2"));
        assert!(text(&CheckReport::default(), &context("table")).ends_with("nothing was looked at\n"));
    }
}
