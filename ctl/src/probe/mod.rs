//! Probes and their results for people.

mod summary;

use lastseen_proto::convert::timestamp;
use lastseen_proto::v1;
use lastseen_proto::v1::probe_spec::Kind;
pub use summary::Summary;

use crate::output::table::Table;
use crate::output::{self, names, units};

/// A probe: what it does, what became of its parts, and what the newest runs found.
pub fn text(probe: &v1::Probe, is_wide: bool) -> String {
    let mut text = output::facts(&facts(probe));
    let failed = failed(probe);
    if !failed.is_empty() {
        text.push('\n');
        text.push_str(&failed);
    }
    if !probe.reports.is_empty() {
        text.push('\n');
        text.push_str(&found(probe, is_wide));
        if probe.reports_omitted {
            text.push_str("there is more than one answer holds; ask for fewer --runs\n");
        }
    }
    text
}

fn facts(probe: &v1::Probe) -> Vec<(&'static str, String)> {
    let spec = probe.spec.clone().unwrap_or_default();
    let runs = probe.parts.iter().map(|part| part.runs).max().unwrap_or_default();
    vec![
        ("probe", probe.id.clone()),
        ("name", spec.name.clone()),
        ("kind", kind(&spec)),
        ("state", names::probe_state(probe.state)),
        ("start", units::instant(probe.start.as_ref())),
        ("every", units::span(spec.every.as_ref())),
        ("runs", if spec.every.is_some() { runs.to_string() } else { String::new() }),
        ("attempts", attempts(&spec)),
        ("created by", probe.created_by.clone()),
        ("stopped by", probe.stopped_by.clone()),
    ]
}

/// `icmp, 56 bytes`.
pub fn kind(spec: &v1::ProbeSpec) -> String {
    match &spec.kind {
        Some(Kind::Icmp(icmp)) => {
            let fragments = if icmp.dont_fragment { ", not to be fragmented" } else { "" };
            format!("icmp, {} bytes{fragments}", icmp.size.unwrap_or_default())
        }
        Some(Kind::Tcp(_)) => "tcp".to_owned(),
        Some(Kind::Udp(udp)) if udp.payload.is_empty() => "udp".to_owned(),
        Some(Kind::Udp(udp)) => format!("udp, {} bytes", udp.payload.len()),
        None => "of a newer version".to_owned(),
    }
}

fn attempts(spec: &v1::ProbeSpec) -> String {
    let (interval, timeout) = (units::span(spec.interval.as_ref()), units::span(spec.timeout.as_ref()));
    format!("{}, one every {interval}, answered within {timeout} or not", spec.count.unwrap_or_default())
}

/// A source as it is written on the command line.
pub fn source(source: Option<&v1::ProbeSource>) -> String {
    match source {
        Some(source) if source.netns.is_empty() => source.node.clone(),
        Some(source) => format!("{}:{}", source.node, source.netns),
        None => String::new(),
    }
}

/// Sources that could not do it.
fn failed(probe: &v1::Probe) -> String {
    let mut table = Table::new(&["SOURCE", "STATE", "REASON"]);
    let mut is_empty = true;
    for part in probe.parts.iter().filter(|part| !part.reason.is_empty()) {
        is_empty = false;
        table.row([source(part.source.as_ref()), names::probe_state(part.state), part.reason.clone()]);
    }
    if is_empty { String::new() } else { table.text() }
}

fn found(probe: &v1::Probe, is_wide: bool) -> String {
    let is_scheduled = probe.spec.as_ref().is_some_and(|spec| spec.every.is_some());
    let mut headers = if is_scheduled { vec![">RUN"] } else { Vec::new() };
    headers.extend(["SOURCE", "TARGET", ">SENT", ">ANSWERED", ">LOST", ">MIN", ">MEDIAN", ">MAX", "RESULT"]);
    if is_wide {
        headers.extend(["ADDRESS", "BEGAN"]);
    }
    let mut table = Table::new(&headers);
    for report in &probe.reports {
        for result in &report.results {
            let summary = Summary::of(result);
            let mut row = if is_scheduled { vec![report.run.to_string()] } else { Vec::new() };
            let delay =
                |delay: Option<u64>| delay.map_or_else(String::new, |delay| units::delay(delay as i64));
            row.extend([
                source(report.source.as_ref()),
                result.target.clone(),
                units::count(summary.sent),
                units::count(summary.answered),
                summary.lost(),
                delay(summary.least()),
                delay(summary.median()),
                delay(summary.most()),
                summary.words(probe.spec.as_ref()),
            ]);
            if is_wide {
                row.push(result.address.clone());
                row.push(began(report));
            }
            table.row(row);
        }
    }
    table.text()
}

fn began(report: &v1::ProbeReport) -> String {
    units::time_of_day_micros(Some(&timestamp(report.start_unix_nanos)))
}
