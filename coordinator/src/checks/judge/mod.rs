//! What was found, as things that are well, not well, or not to be told.

mod node;
mod path;
mod table;
pub(super) mod tunnels;

use std::collections::BTreeSet;
use std::net::IpAddr;

use lastseen_proto::limits::{PROBE_GATEWAYS, PROBE_SERVERS};
use lastseen_proto::target::Target;
use lastseen_proto::v1;
use lastseen_proto::v1::check_result::Verdict;
use lastseen_proto::v1::{CheckItem, ProbeState};

use self::node::Fabric;
use self::table::Rows;
use self::tunnels::Frames;
use super::plan::{Look, Plan, Task};
use crate::fleet::NodeView;
use crate::probes::model::Source;
use crate::wire::probe::{source, source_message};

/// Why there is no verdict.
const NOT_REPORTED: &str = "its agent reported nothing of it";

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
    let mut results: Vec<v1::CheckResult> =
        plan.absent.iter().map(|(place, why)| absent(place, why)).collect();
    let of = |look: Look| plan.tasks.iter().zip(found).find(move |(task, _)| task.look == look);
    let of_source = |look: Look, source: &Source| of(look).and_then(|(_, found)| report(found, source).ok());
    for (task, found) in plan.tasks.iter().zip(found) {
        for source in &task.sources {
            let judged = match report(found, source) {
                Err(why) => items(task.look).iter().map(|item| Judged::unknown(*item, &why, "")).collect(),
                Ok(report) => match task.look {
                    Look::At(CheckItem::CheckNeighbors) => {
                        let gateways = of_source(Look::At(CheckItem::CheckGateway), source);
                        vec![neighbors(report, &addresses(gateways), source, &fabric)]
                    }
                    Look::At(item) => of_results(item, task, report, source, &fabric),
                    Look::Settings => {
                        let counters = [Look::CountersBefore, Look::Counters];
                        settings(report, source, counters.map(|look| of_source(look, source)), &fabric)
                    }
                    Look::CountersBefore | Look::Counters => Vec::new(),
                },
            };
            let probe = found.as_ref().map_or("", |probe| probe.id.as_str());
            results.extend(judged.into_iter().map(|judged| result(source, judged, probe)));
        }
    }
    doubt_echoes(&mut results);
    if let Some(frames) = frames {
        results.extend(
            frames.judge().into_iter().map(|(source, judged)| result(&source, judged, frames.probe())),
        );
    }
    let matters = |result: &v1::CheckResult| {
        let own = result.source.as_ref().map_or("", |source| source.node.as_str());
        let is_subject = |node: &str| plan.subjects.is_empty() || plan.subjects.contains(node);
        result.item() == CheckItem::CheckAgent
            || is_subject(own)
            || !result.target_node.is_empty() && is_subject(&result.target_node)
    };
    results.retain(matters);
    let place = |result: &v1::CheckResult| {
        let source = result.source.clone().map(source);
        plan.places.iter().position(|place| source.as_ref() == Some(place)).unwrap_or(plan.places.len())
    };
    results.sort_by_cached_key(|result| (place(result), result.source.clone().map(|s| s.node), result.item));
    let capture_id = frames.map_or_else(String::new, |frames| frames.capture().to_owned());
    v1::CheckReport { results, notes: plan.notes.clone(), capture_id }
}

fn result(source: &Source, judged: Judged, probe: &str) -> v1::CheckResult {
    let Judged { item, target, target_node, verdict, reason, next_step } = judged;
    v1::CheckResult {
        source: Some(source_message(source)),
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
    let source = Some(source_message(source));
    if let Some(report) = probe.reports.iter().find(|report| report.source == source) {
        return Ok(report);
    }
    let part = probe.parts.iter().find(|part| part.source == source);
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
        Look::CountersBefore | Look::Counters => Vec::new(),
        Look::Settings => {
            vec![CheckItem::CheckConntrack, CheckItem::CheckForwarding, CheckItem::CheckRpFilter]
        }
    }
}

/// Each target of a source, and no other: agents are not believed that they were asked for more.
fn of_results(
    item: CheckItem,
    task: &Task,
    report: &v1::ProbeReport,
    source: &Source,
    fabric: &Fabric,
) -> Vec<Judged> {
    let of = |result: &v1::ProbeResult| {
        let address = result.address.parse().ok();
        let target_node = address.and_then(|address| fabric.behind(address)).unwrap_or_default();
        Judged { target_node: target_node.to_owned(), ..path::judge(item, &task.spec, result, source) }
    };
    let mesh = task.spec.mesh.as_ref();
    let member = mesh.and_then(|mesh| mesh.members.iter().find(|member| member.source == *source));
    let targets = match (mesh, member) {
        (Some(mesh), Some(member)) => mesh.targets_of(member),
        _ => task.spec.targets.clone(),
    };
    if targets.is_empty() {
        let found: Vec<Judged> = report.results.iter().take(PROBE_GATEWAYS).map(of).collect();
        return if found.is_empty() { vec![Judged::unknown(item, NOT_REPORTED, "")] } else { found };
    }
    let of_target = |target: &String| {
        // A name has a result for each server.
        let all = report.results.iter().filter(|result| result.target == *target).take(PROBE_SERVERS);
        let found: Vec<Judged> = all.map(of).collect();
        if found.is_empty() { vec![Judged::unknown(item, NOT_REPORTED, "").at(target)] } else { found }
    };
    targets.iter().flat_map(of_target).collect()
}

/// A place that cannot be looked from.
fn absent(place: &Source, why: &str) -> v1::CheckResult {
    let next = "`ctl list-nodes` says which nodes there are, and since when one is away; start its agent";
    result(place, Judged::unknown(CheckItem::CheckAgent, why, next), "")
}

/// Who accepts connections and answers no echo may be told not to.
fn doubt_echoes(results: &mut [v1::CheckResult]) {
    let host = |target: &str| target.parse::<Target>().map(|target| target.host).ok();
    let is_open =
        |result: &&v1::CheckResult| result.item() == CheckItem::CheckTcp && result.verdict() == Verdict::Pass;
    let open: Vec<_> =
        results.iter().filter(is_open).map(|result| (result.source.clone(), host(&result.target))).collect();
    for echo in results.iter_mut().filter(|result| result.item() == CheckItem::CheckIcmp) {
        if echo.verdict() == Verdict::Fail && open.contains(&(echo.source.clone(), host(&echo.target))) {
            echo.verdict = Verdict::Unknown.into();
            echo.reason += "; it accepts connections all the same, and may be told not to answer echoes";
        }
    }
}

/// Addresses that a report is about.
fn addresses(report: Option<&v1::ProbeReport>) -> BTreeSet<IpAddr> {
    let results = report.into_iter().flat_map(|report| &report.results);
    results.filter_map(|result| result.address.parse().ok()).collect()
}

fn neighbors(
    report: &v1::ProbeReport,
    gateways: &BTreeSet<IpAddr>,
    source: &Source,
    fabric: &Fabric,
) -> Judged {
    match only(report) {
        Ok(rows) => node::neighbors(&rows, gateways, source, fabric),
        Err(why) => Judged::unknown(CheckItem::CheckNeighbors, why, ""),
    }
}

/// Connections, forwarding and reverse path filters.
fn settings(
    report: &v1::ProbeReport,
    source: &Source,
    counters: [Option<&v1::ProbeReport>; 2],
    fabric: &Fabric,
) -> Vec<Judged> {
    match only(report) {
        Err(why) => items(Look::Settings).iter().map(|item| Judged::unknown(*item, &why, "")).collect(),
        Ok(settings) => {
            let counters = counters.map(|report| report.and_then(|report| only(report).ok()));
            vec![
                node::connections(&settings, source),
                node::forwarding(&settings, source, fabric),
                node::rp_filter(&settings, counters.each_ref().map(Option::as_ref), source),
            ]
        }
    }
}

/// The table of a report on one.
fn only(report: &v1::ProbeReport) -> Result<Rows<'_>, String> {
    let result = report.results.first().ok_or("it reported nothing")?;
    Rows::of(result)
}
