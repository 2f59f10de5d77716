//! What scheduled probes find, for Prometheus: counters by outcome and the newest delays, of every source and target.
//!
//! A coordinator shows what its own agents reported since it started; over several of them figures add up.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lastseen_proto::v1;
use lastseen_proto::v1::ProbeOutcome as Outcome;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use prost::Message as _;

use super::model::Source;
use crate::limits;

/// Outcomes by the values of the label.
const OUTCOMES: [(Outcome, &str); 6] = [
    (Outcome::ProbeAnswered, "answered"),
    (Outcome::ProbeRefused, "refused"),
    (Outcome::ProbeUnreachable, "unreachable"),
    (Outcome::ProbeSilent, "silent"),
    (Outcome::ProbeNotSent, "not_sent"),
    (Outcome::ProbeExpired, "expired"),
];

/// One source of a probe.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Part {
    probe: String,
    source: Source,
}

/// What is known of a source.
#[derive(Debug, Default)]
struct Reported {
    last_run: u64,
    began_nanos: i64,
    targets: BTreeMap<String, Figure>,
}

/// What is known of one of its targets.
#[derive(Debug, Default)]
struct Figure {
    attempts: [u64; OUTCOMES.len()],
    /// Median of the newest run.
    delay_nanos: Option<u64>,
}

#[derive(Debug, Default)]
struct All {
    parts: BTreeMap<Part, Reported>,
    /// Sources with their targets.
    series: usize,
    left_out: u64,
}

/// All of them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Figures(Arc<Mutex<All>>);

impl Figures {
    /// Takes in the report of a run of a scheduled probe. One that comes again changes nothing.
    pub(super) fn report(&self, probe: &str, source: &Source, run: u64, content: &[u8]) {
        // What cannot be read is told to whoever asks for the probe.
        let Ok(report) = v1::ProbeReport::decode(content) else { return };
        let mut all = self.lock();
        let All { parts, series, left_out } = &mut *all;
        let part = Part { probe: probe.to_owned(), source: source.clone() };
        let is_new = !parts.contains_key(&part);
        // A source is what its agent says it is, and takes room as well.
        if is_new && parts.len() >= limits::PROBE_SERIES {
            *left_out += 1;
            return;
        }
        let reported = parts.entry(part).or_default();
        if !is_new && run <= reported.last_run {
            return;
        }
        (reported.last_run, reported.began_nanos) = (run, report.start_unix_nanos);
        for result in &report.results {
            let target = if result.server.is_empty() {
                result.target.clone()
            } else {
                format!("{} @{}", result.target, result.server)
            };
            if !reported.targets.contains_key(&target) {
                if *series >= limits::PROBE_SERIES {
                    *left_out += 1;
                    continue;
                }
                *series += 1;
            }
            reported.targets.entry(target).or_default().add(result);
        }
    }

    /// Forgets all probes but these.
    pub(super) fn keep(&self, open: &BTreeSet<&str>) {
        let mut all = self.lock();
        all.parts.retain(|part, _| open.contains(part.probe.as_str()));
        all.series = all.parts.values().map(|reported| reported.targets.len()).sum();
    }

    /// Registers them in `registry`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(Shown(self.clone())));
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Figure {
    fn add(&mut self, result: &v1::ProbeResult) {
        let mut delays = Vec::new();
        for attempt in &result.attempts {
            let outcome = OUTCOMES.iter().position(|(outcome, _)| *outcome == attempt.outcome());
            if let Some(count) = outcome.and_then(|outcome| self.attempts.get_mut(outcome)) {
                *count += 1;
            }
            // The delay of a hop is not that of the target.
            if attempt.outcome() == Outcome::ProbeAnswered && attempt.hop_limit == 0 {
                delays.extend(attempt.delay_nanos);
            }
        }
        delays.sort_unstable();
        self.delay_nanos = delays.get(delays.len() / 2).copied();
    }
}

#[derive(Debug)]
struct Shown(Figures);

type Labels<'l> = Vec<(&'static str, &'l str)>;

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.0.lock();
        let help = "Attempts of scheduled probes, by outcome";
        let mut family = encoder.encode_descriptor("probe_attempts", help, None, MetricType::Counter)?;
        for (labels, figure) in all.figures() {
            for ((_, outcome), count) in OUTCOMES.iter().zip(figure.attempts) {
                let labels: Labels<'_> = labels.iter().copied().chain([("outcome", *outcome)]).collect();
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Median delay of the answers in the newest run of a scheduled probe";
        let mut family = encoder.encode_descriptor("probe_delay_seconds", help, None, MetricType::Gauge)?;
        for (labels, figure) in all.figures() {
            let Some(nanos) = figure.delay_nanos else { continue };
            ConstGauge::new(nanos as f64 / 1e9).encode(family.encode_family(&labels)?)?;
        }
        let help = "Begin of the newest run that a source of a scheduled probe reported, Unix time";
        let mut family = encoder.encode_descriptor("probe_run_seconds", help, None, MetricType::Gauge)?;
        for (part, reported) in &all.parts {
            let labels = part.labels();
            ConstGauge::new(reported.began_nanos as f64 / 1e9).encode(family.encode_family(&labels)?)?;
        }
        let help = "Results of scheduled probes that are in no figure because there are too many sources and targets";
        let family = encoder.encode_descriptor("probe_left_out_results", help, None, MetricType::Counter)?;
        ConstCounter::new(all.left_out).encode(family)
    }
}

impl All {
    fn figures(&self) -> impl Iterator<Item = (Labels<'_>, &Figure)> {
        self.parts.iter().flat_map(|(part, reported)| {
            reported.targets.iter().map(|(target, figure)| {
                let mut labels = part.labels();
                labels.push(("target", target));
                (labels, figure)
            })
        })
    }
}

impl Part {
    fn labels(&self) -> Labels<'_> {
        vec![("probe", &self.probe), ("node", &self.source.node), ("netns", &self.source.netns)]
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    fn source(node: &str) -> Source {
        Source { node: node.into(), netns: String::new() }
    }

    fn report(targets: usize, outcomes: &[Outcome]) -> Vec<u8> {
        let attempt = |outcome: &Outcome| v1::ProbeAttempt {
            outcome: (*outcome).into(),
            delay_nanos: (*outcome == Outcome::ProbeAnswered).then_some(2_000_000),
            ..Default::default()
        };
        let result = |target: usize| v1::ProbeResult {
            target: format!("t{target}"),
            attempts: outcomes.iter().map(attempt).collect(),
            ..Default::default()
        };
        let results = (0..targets).map(result).collect();
        v1::ProbeReport { start_unix_nanos: 5_000_000_000, results, ..Default::default() }.encode_to_vec()
    }

    fn shown(figures: &Figures) -> String {
        let mut registry = Registry::default();
        figures.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn a_run_counts_once_and_goes_with_its_probe() {
        let figures = Figures::default();
        let found = report(1, &[Outcome::ProbeAnswered, Outcome::ProbeAnswered, Outcome::ProbeSilent]);
        for run in [0, 1, 1] {
            figures.report("p-1", &source("a"), run, &found);
        }
        let text = shown(&figures);
        for line in [
            "probe_attempts_total{probe=\"p-1\",node=\"a\",netns=\"\",target=\"t0\",outcome=\"answered\"} 4",
            "probe_attempts_total{probe=\"p-1\",node=\"a\",netns=\"\",target=\"t0\",outcome=\"silent\"} 2",
            "probe_delay_seconds{probe=\"p-1\",node=\"a\",netns=\"\",target=\"t0\"} 0.002",
            "probe_run_seconds{probe=\"p-1\",node=\"a\",netns=\"\"} 5.0",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        figures.keep(&BTreeSet::from(["p-2"]));
        assert!(!shown(&figures).contains("p-1"));
    }

    #[test]
    fn no_more_series_are_shown_than_the_limit_and_the_rest_is_counted() {
        let figures = Figures::default();
        let found = report(64, &[Outcome::ProbeAnswered]);
        let nodes = limits::PROBE_SERIES / 64;
        for node in 0..=nodes {
            figures.report("p-1", &source(&format!("n{node}")), 0, &found);
        }
        let text = shown(&figures);
        let answered = text.lines().filter(|line| line.contains("outcome=\"answered\"")).count();
        assert_eq!(answered, limits::PROBE_SERIES);
        let left_out = 64 * (nodes + 1) - limits::PROBE_SERIES;
        assert!(text.contains(&format!("probe_left_out_results_total {left_out}")), "{left_out}");
        // Of sources that an agent makes up as well.
        for netns in 0..limits::PROBE_SERIES {
            let made_up = Source { netns: netns.to_string(), ..source("n0") };
            figures.report("p-1", &made_up, 0, &[]);
        }
        assert_eq!(figures.lock().parts.len(), limits::PROBE_SERIES);
    }
}
