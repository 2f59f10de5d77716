//! Which sources of a probe found something else than the others.
//!
//! What sources found at one target is put in words that are alike where nothing is wrong: `all answered`, `some lost`,
//! `NOERROR 10.0.0.1`. What more than half of the sources found is what there is; who found something else differs. Delays
//! are never alike: one differs that is far above the median of all, measured by how far the others are from it.

mod aspects;

use std::collections::BTreeMap;

use lastseen_proto::v1;
use lastseen_proto::v1::probe_diff::Verdict;
use lastseen_proto::v1::probe_result::Finding;
use lastseen_proto::v1::probe_spec::Kind;

use self::aspects::{Found, Merged};

/// Sources whose delays must be known before one of them can be slow.
const DELAYS: usize = 4;
/// A slow source is so many deviations above the median, and twice the median, and by more than a host's own jitter.
const DEVIATIONS: u64 = 10;
const JITTER_NANOS: u64 = 1_000_000;

/// The target of whatever is found on the source itself.
const GATEWAYS: &str = "gateways";

/// Whence, in an order.
type Source<'p> = (&'p str, &'p str);

/// Compares the reports that `probe` shows.
pub fn diff(probe: &v1::Probe) -> v1::ProbeDiff {
    let by_target = by_target(probe);
    let compared: Vec<_> = by_target.into_iter().filter(|(_, sources)| sources.len() > 1).collect();
    let mut differences = Vec::new();
    for (target, sources) in &compared {
        differences.extend(of_target(target, sources));
    }
    let notes = notes(probe);
    let verdict = if !differences.is_empty() {
        Verdict::Different
    } else if compared.is_empty() || !notes.is_empty() {
        Verdict::Inconclusive
    } else {
        Verdict::Alike
    };
    let sources: std::collections::BTreeSet<Source<'_>> = probe.reports.iter().map(source).collect();
    v1::ProbeDiff {
        probe_id: probe.id.clone(),
        verdict: verdict.into(),
        differences,
        sources: sources.len() as u32,
        targets: compared.len() as u32,
        notes,
    }
}

fn source(report: &v1::ProbeReport) -> Source<'_> {
    report.source.as_ref().map_or(("", ""), |source| (&source.node, &source.netns))
}

/// What each source found at each target, of all runs together. Every server that was asked for a name is a target of its
/// own; gateways, which are others on every node, are one.
fn by_target(probe: &v1::Probe) -> BTreeMap<String, BTreeMap<Source<'_>, Merged<'_>>> {
    let kind = probe.spec.as_ref().and_then(|spec| spec.kind.as_ref());
    let is_own = matches!(kind, Some(Kind::Gateway(_)));
    let has_servers = matches!(kind, Some(Kind::Dns(dns)) if !dns.servers.is_empty());
    let mut all: BTreeMap<String, BTreeMap<Source<'_>, Merged<'_>>> = BTreeMap::new();
    // Its two sources do two different things.
    if matches!(kind, Some(Kind::Throughput(_))) {
        return all;
    }
    for report in &probe.reports {
        for result in &report.results {
            for (setting, value) in settings(result) {
                all.entry(setting.to_owned()).or_default().entry(source(report)).or_default().add_cell(value);
            }
            // Rows of other tables are others on every node.
            if matches!(result.finding, Some(Finding::Table(_))) {
                continue;
            }
            let target = match () {
                () if is_own => GATEWAYS.to_owned(),
                () if has_servers => format!("{} @{}", result.target, result.server),
                () => result.target.clone(),
            };
            all.entry(target).or_default().entry(source(report)).or_default().add(result);
        }
    }
    all
}

/// The rows of a table of settings but for what only counts: other tables are others on every node.
fn settings(result: &v1::ProbeResult) -> impl Iterator<Item = (&str, &str)> {
    let table = match &result.finding {
        Some(Finding::Table(table)) if table.table() == v1::NodeTable::TableSettings => Some(table),
        _ => None,
    };
    let rows = table.into_iter().flat_map(|table| &table.rows);
    rows.filter_map(|row| match &row.cells[..] {
        [setting, value] if !setting.ends_with("_count") => Some((setting.as_str(), value.as_str())),
        _ => None,
    })
}

fn of_target(target: &str, sources: &BTreeMap<Source<'_>, Merged<'_>>) -> Vec<v1::ProbeDifference> {
    let found: Vec<(Source<'_>, Found)> =
        sources.iter().map(|(source, merged)| (*source, merged.found())).collect();
    let mut differences =
        apart(target, v1::ProbeAspect::Outcome, &found, |found| Some(found.outcome.as_str()));
    differences.extend(apart(target, v1::ProbeAspect::Finding, &found, |found| found.finding.as_deref()));
    differences.extend(slow(target, &found));
    differences.sort_by(|one, other| {
        let key = |difference: &v1::ProbeDifference| {
            let source = difference.source.clone().unwrap_or_default();
            (source.node, source.netns, difference.aspect)
        };
        key(one).cmp(&key(other))
    });
    differences
}

/// Who did not find what more than half found; all if there is no such thing and they do not agree.
fn apart(
    target: &str,
    aspect: v1::ProbeAspect,
    found: &[(Source<'_>, Found)],
    of: impl Fn(&Found) -> Option<&str>,
) -> Vec<v1::ProbeDifference> {
    let known: Vec<(Source<'_>, &str)> =
        found.iter().filter_map(|(source, found)| Some((*source, of(found)?))).collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, words) in &known {
        *counts.entry(words).or_default() += 1;
    }
    if counts.len() < 2 {
        return Vec::new();
    }
    let most = counts.iter().find(|(_, count)| **count * 2 > known.len());
    let (others, agreeing) = most.map_or(("", 0), |(words, count)| (*words, *count));
    let differing = known.iter().filter(|(_, words)| agreeing == 0 || *words != others);
    differing
        .map(|(source, words)| difference(target, aspect, *source, (words, others), (agreeing, known.len())))
        .collect()
}

/// Who waits far longer for answers than the others.
fn slow(target: &str, found: &[(Source<'_>, Found)]) -> Vec<v1::ProbeDifference> {
    let delays: Vec<(Source<'_>, u64)> =
        found.iter().filter_map(|(source, found)| Some((*source, found.delay_nanos?))).collect();
    if delays.len() < DELAYS {
        return Vec::new();
    }
    let usual = median(delays.iter().map(|(_, delay)| *delay).collect());
    let deviation = median(delays.iter().map(|(_, delay)| delay.abs_diff(usual)).collect());
    let most = usual + (deviation * DEVIATIONS).max(usual).max(JITTER_NANOS);
    let (slow, rest): (Vec<_>, Vec<_>) = delays.iter().partition(|(_, delay)| *delay > most);
    let words = |nanos: u64| format!("{:.3} ms", nanos as f64 / 1e6);
    let count = (rest.len(), delays.len());
    slow.into_iter()
        .map(|(source, delay)| {
            difference(target, v1::ProbeAspect::Delay, source, (&words(delay), &words(usual)), count)
        })
        .collect()
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

fn difference(
    target: &str,
    aspect: v1::ProbeAspect,
    (node, netns): Source<'_>,
    (found, others): (&str, &str),
    (agreeing, compared): (usize, usize),
) -> v1::ProbeDifference {
    v1::ProbeDifference {
        source: Some(v1::ProbeSource { node: node.to_owned(), netns: netns.to_owned() }),
        target: target.to_owned(),
        aspect: aspect.into(),
        found: found.to_owned(),
        others: others.to_owned(),
        agreeing: agreeing as u32,
        compared: compared as u32,
    }
}

/// Sources that have not reported, and reports that are not all there.
fn notes(probe: &v1::Probe) -> Vec<String> {
    let silent = probe.parts.iter().filter(|part| {
        let own = part.source.as_ref();
        !probe.reports.iter().any(|report| report.source.as_ref() == own)
    });
    let mut notes: Vec<String> = silent
        .map(|part| {
            let source = part.source.clone().unwrap_or_default();
            let colon = if source.netns.is_empty() { "" } else { ":" };
            let why = if part.reason.is_empty() { "it has not reported yet" } else { &part.reason };
            format!("{}{colon}{} is not compared: {why}", source.node, source.netns)
        })
        .collect();
    notes.extend(probe.reports.iter().filter_map(gap));
    if probe.reports_omitted {
        notes.push("there are more reports than one answer holds; the newest are compared".to_owned());
    }
    notes
}

/// What of a report cannot be compared.
fn gap(report: &v1::ProbeReport) -> Option<String> {
    let source = report.source.clone().unwrap_or_default();
    let colon = if source.netns.is_empty() { "" } else { ":" };
    let why = report.results.iter().find_map(|result| match &result.finding {
        Some(Finding::Table(table)) if table.table() != v1::NodeTable::TableSettings => {
            Some("rows of this table are others on every node".to_owned())
        }
        Some(Finding::Table(table)) if table.rows_total > table.rows.len() as u64 => {
            Some(format!("{} of {} settings fit its report", table.rows.len(), table.rows_total))
        }
        Some(Finding::Table(table)) => table.notes.first().cloned(),
        _ => report.is_cut.then(|| "its report was too large".to_owned()),
    });
    why.map(|why| format!("{}{colon}{} is not compared, or not in all: {why}", source.node, source.netns))
}

#[cfg(test)]
mod tests;
