//! A line for each target that was probed.

use lastseen_proto::convert::timestamp;
use lastseen_proto::probed::{Summary, words};
use lastseen_proto::v1;
use lastseen_proto::v1::probe_spec::Kind;

use super::{lost, source, spec_kind};
use crate::output::table::Table;
use crate::output::units;

/// The table.
pub(super) fn text(probe: &v1::Probe, is_wide: bool) -> String {
    let columns = columns(probe, is_wide);
    let headers: Vec<&str> = columns.iter().map(|(header, _)| *header).collect();
    let mut table = Table::new(&headers);
    for report in &probe.reports {
        for result in &report.results {
            let line = Line { spec: probe.spec.as_ref(), report, result, summary: Summary::of(result) };
            table.row(columns.iter().map(|(_, cell)| cell(&line)));
        }
    }
    table.text()
}

/// One target in one run from one source.
struct Line<'a> {
    spec: Option<&'a v1::ProbeSpec>,
    report: &'a v1::ProbeReport,
    result: &'a v1::ProbeResult,
    summary: Summary,
}

/// Header, and what stands below it.
type Column = (&'static str, fn(&Line<'_>) -> String);

fn columns(probe: &v1::Probe, is_wide: bool) -> Vec<Column> {
    let kind = spec_kind(probe);
    let mut columns: Vec<Column> = Vec::new();
    if probe.spec.as_ref().is_some_and(|spec| spec.every.is_some()) {
        columns.push((">RUN", |line| line.report.run.to_string()));
    }
    columns.push(("SOURCE", |line| source(line.report.source.as_ref())));
    columns.push(("TARGET", |line| line.result.target.clone()));
    if matches!(kind, Some(Kind::Dns(_))) {
        columns.push(("SERVER", |line| server(line.result)));
    }
    columns.push((">SENT", |line| units::count(line.summary.sent)));
    columns.push((">ANSWERED", |line| units::count(line.summary.answered)));
    if matches!(kind, Some(Kind::PathMtu(_))) {
        columns.push((">MTU", |line| size(line, |path| path.mtu)));
        columns.push((">INTERFACE", |line| size(line, |path| path.interface_mtu)));
    } else {
        columns.push((">LOST", |line| lost(&line.summary)));
        columns.push((">MIN", |line| delay(line.summary.least())));
        columns.push((">MEDIAN", |line| delay(line.summary.median())));
        columns.push((">MAX", |line| delay(line.summary.most())));
    }
    if is_wide && matches!(kind, Some(Kind::Http(_))) {
        columns.push((">CONNECTED", |line| delay(median(line.result, |timing| timing.connected_nanos))));
        columns.push((">TLS", |line| delay(median(line.result, |timing| timing.secured_nanos))));
        columns.push((">FIRST BYTE", |line| delay(median(line.result, |timing| timing.first_byte_nanos))));
    }
    columns.push(("RESULT", |line| words(line.spec, line.result, &line.summary)));
    if is_wide {
        columns.push(("ADDRESS", |line| line.result.address.clone()));
        columns.push(("BEGAN", |line| {
            units::time_of_day_micros(Some(&timestamp(line.report.start_unix_nanos)))
        }));
    }
    columns
}

/// Without the port that every name server has.
fn server(result: &v1::ProbeResult) -> String {
    if result.server.ends_with(":53") { result.address.clone() } else { result.server.clone() }
}

fn delay(nanos: Option<u64>) -> String {
    nanos.map_or_else(String::new, |nanos| units::delay(nanos as i64))
}

fn size(line: &Line<'_>, of: impl Fn(&v1::PathMtuFinding) -> u32) -> String {
    match &line.result.finding {
        Some(v1::probe_result::Finding::PathMtu(path)) if of(path) > 0 => of(path).to_string(),
        _ => String::new(),
    }
}

fn median(result: &v1::ProbeResult, step: impl Fn(&v1::HttpTiming) -> Option<u64>) -> Option<u64> {
    let mut all: Vec<u64> =
        result.attempts.iter().filter_map(|attempt| attempt.http.as_ref().and_then(&step)).collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied()
}
