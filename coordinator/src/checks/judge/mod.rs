//! What was found, as things that are well, not well, or not to be told.

mod node;
mod path;
mod table;
pub(super) mod tunnels;

use lastseen_proto::v1;
use lastseen_proto::v1::check_result::Verdict;
use lastseen_proto::v1::{CheckItem, ProbeState};

use self::node::Fabric;
use self::table::Rows;
use self::tunnels::Frames;
use super::plan::{Look, Plan, Task};
use crate::fleet::NodeView;
use crate::probes::model::Source;

/// A probe that came to its end, or why there is none.
pub(super) type Found = Result<v1::Probe, String>;

/// One thing, without where and by which probe.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Judged {
    item: CheckItem,
    target: String,
    target_node: String,
    verdict: Verdict,
    reason: String,
    next_step: String,
}

impl Judged {
    fn new(item: CheckItem, verdict: Verdict, reason: impl Into<String>) -> Self {
        let (target, target_node, next_step) = (String::new(), String::new(), String::new());
        Self { item, target, target_node, verdict, reason: reason.into(), next_step }
    }

    fn pass(item: CheckItem, reason: impl Into<String>) -> Self {
        Self::new(item, Verdict::Pass, reason)
    }

    fn fail(item: CheckItem, reason: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self { next_step: next_step.into(), ..Self::new(item, Verdict::Fail, reason) }
    }

    fn unknown(item: CheckItem, reason: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self { next_step: next_step.into(), ..Self::new(item, Verdict::Unknown, reason) }
    }

    fn at(self, target: &str) -> Self {
        Self { target: target.to_owned(), ..self }
    }
}

/// The report.
pub(super) fn judge(
    plan: &Plan,
    found: &[Found],
    frames: Option<&Frames>,
    nodes: &[NodeView],
) -> v1::CheckReport {
    let fabric = Fabric::of(nodes);
    let mut results = Vec::new();
    let counters = plan.tasks.iter().zip(found).find(|(task, _)| task.look == Look::Counters);
    for (task, found) in plan.tasks.iter().zip(found) {
        for source in &task.sources {
            let judged = match report(found, source) {
                Err(why) => items(task.look).iter().map(|item| Judged::unknown(*item, &why, "")).collect(),
                Ok(report) => match task.look {
                    Look::At(item) => of_results(item, task, report, source, &fabric),
                    Look::Settings => {
                        let counters = counters.and_then(|(_, found)| self::report(found, source).ok());
                        settings(report, source, counters, &fabric)
                    }
                    Look::Counters => Vec::new(),
                },
            };
            let probe = found.as_ref().map_or("", |probe| probe.id.as_str());
            results.extend(judged.into_iter().map(|judged| result(source, judged, probe)));
        }
    }
    if let Some(frames) = frames {
        results.extend(
            frames.judge().into_iter().map(|(source, judged)| result(&source, judged, frames.probe())),
        );
    }
    let matters = |result: &v1::CheckResult| {
        let own = result.source.as_ref().map_or("", |source| source.node.as_str());
        let is_subject = |node: &str| plan.subjects.is_empty() || plan.subjects.contains(node);
        is_subject(own) || !result.target_node.is_empty() && is_subject(&result.target_node)
    };
    results.retain(matters);
    let place = |result: &v1::CheckResult| {
        let source = result.source.clone().unwrap_or_default();
        let is_it = |place: &Source| place.node == source.node && place.netns == source.netns;
        plan.places.iter().position(is_it).unwrap_or(plan.places.len())
    };
    results.sort_by_cached_key(|result| (place(result), result.source.clone().map(|s| s.node), result.item));
    let capture_id = frames.map_or_else(String::new, |frames| frames.capture().to_owned());
    v1::CheckReport { results, notes: plan.notes.clone(), capture_id }
}

fn result(source: &Source, judged: Judged, probe: &str) -> v1::CheckResult {
    let Judged { item, target, target_node, verdict, reason, next_step } = judged;
    v1::CheckResult {
        source: Some(v1::ProbeSource { node: source.node.clone(), netns: source.netns.clone() }),
        item: item.into(),
        target,
        target_node,
        verdict: verdict.into(),
        reason,
        next_step,
        probe_id: probe.to_owned(),
    }
}

/// What one source reported, or why it did not.
fn report<'f>(found: &'f Found, source: &Source) -> Result<&'f v1::ProbeReport, String> {
    let probe = found.as_ref().map_err(String::clone)?;
    let is_it = |at: Option<&v1::ProbeSource>| {
        at.is_some_and(|at| at.node == source.node && at.netns == source.netns)
    };
    if let Some(report) = probe.reports.iter().find(|report| is_it(report.source.as_ref())) {
        return Ok(report);
    }
    let part = probe.parts.iter().find(|part| is_it(part.source.as_ref()));
    Err(match part {
        _ if !probe.stopped_by.is_empty() => format!("{} stopped the probe", probe.stopped_by),
        Some(part) if !part.reason.is_empty() => part.reason.clone(),
        Some(part) if part.state() == ProbeState::ProbeCompleted => {
            "there are more reports than one check reads; check fewer nodes at once".to_owned()
        }
        _ => "it did not report".to_owned(),
    })
}

/// What a probe tells about.
fn items(look: Look) -> Vec<CheckItem> {
    match look {
        Look::At(item) => vec![item],
        Look::Counters => Vec::new(),
        Look::Settings => {
            vec![CheckItem::CheckConntrack, CheckItem::CheckForwarding, CheckItem::CheckRpFilter]
        }
    }
}

/// Each result of a report.
fn of_results(
    item: CheckItem,
    task: &Task,
    report: &v1::ProbeReport,
    source: &Source,
    fabric: &Fabric,
) -> Vec<Judged> {
    let of = |result: &v1::ProbeResult| match item {
        CheckItem::CheckNeighbors => match Rows::of(result) {
            Ok(rows) => node::neighbors(&rows, source, fabric),
            Err(why) => Judged::unknown(item, why, ""),
        },
        _ => {
            let address = result.address.parse().ok();
            let target_node = address.and_then(|address| fabric.behind(address)).unwrap_or_default();
            Judged { target_node: target_node.to_owned(), ..path::judge(item, &task.spec, result, source) }
        }
    };
    report.results.iter().map(of).collect()
}

/// Connections, forwarding and reverse path filters.
fn settings(
    report: &v1::ProbeReport,
    source: &Source,
    counters: Option<&v1::ProbeReport>,
    fabric: &Fabric,
) -> Vec<Judged> {
    match only(report) {
        Err(why) => items(Look::Settings).iter().map(|item| Judged::unknown(*item, &why, "")).collect(),
        Ok(settings) => {
            let counters = counters.and_then(|report| only(report).ok());
            vec![
                node::connections(&settings, source),
                node::forwarding(&settings, source, fabric),
                node::rp_filter(&settings, counters.as_ref(), source),
            ]
        }
    }
}

/// The table of a report on one.
fn only(report: &v1::ProbeReport) -> Result<Rows<'_>, String> {
    let result = report.results.first().ok_or("it reported nothing")?;
    Rows::of(result)
}
