//! What is asked for, before anything is stored.

mod kind;
mod targets;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use lastseen_proto::limits::{
    PROBE_COUNT, PROBE_EVERY_NANOS, PROBE_HOP_NANOS, PROBE_INTERVAL_NANOS, PROBE_TIMEOUT_NANOS,
};

use self::kind::Defaults;
use super::mesh;
use super::model::{Family, Kind, Source, Spec};
use super::throughput;
use super::whereabouts::place;
use crate::error::Error;
use crate::fleet::NodeView;
use crate::jobs::check_labels;
use crate::limits;
use crate::model::{MILLISECOND, SECOND};
use crate::time::display_span;

/// As it is asked for: what is absent is filled in.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// For people.
    pub name: String,
    /// For people and tools.
    pub labels: BTreeMap<String, String>,
    /// The host of every node that is ready.
    pub all_nodes: bool,
    /// Whence.
    pub sources: Vec<Source>,
    /// Whither.
    pub targets: Vec<String>,
    /// How.
    pub kind: Option<Kind>,
    /// Attempts.
    pub count: Option<u32>,
    /// Between two.
    pub interval_nanos: Option<i64>,
    /// Patience.
    pub timeout_nanos: Option<i64>,
    /// For names.
    pub family: Option<Family>,
    /// Begin.
    pub start_at_nanos: Option<i64>,
    /// Again and again.
    pub every_nanos: Option<i64>,
    /// The targets are the sources.
    pub mesh: Option<mesh::Asked>,
}

/// Between two runs: the end of one must not delay the next.
const REST_NANOS: i64 = 100 * MILLISECOND;

/// The probe, and its sources, or what is wrong with it. `nodes` are all that are known.
pub fn resolve(request: Request, nodes: &[NodeView], now_nanos: i64) -> Result<(Spec, Vec<Source>), Error> {
    check_labels(&request.name, &request.labels)?;
    let kind = request.kind.ok_or_else(|| Error::invalid("kind", "missing; say how to probe"))?;
    kind::check(&kind)?;
    let targets = match &request.mesh {
        Some(asked) => mesh::check(asked, &kind, &request.targets).map(|()| Vec::new())?,
        None => targets::resolve(request.targets, &kind)?,
    };
    let within = |field: &'static str, asked: Option<i64>, default: i64, limits: &RangeInclusive<i64>| {
        let nanos = asked.unwrap_or(default);
        let reason = || {
            let [asked, least, most] = [nanos, *limits.start(), *limits.end()].map(display_span);
            format!("{asked} is not within {least} and {most}")
        };
        if limits.contains(&nanos) { Ok(nanos) } else { Err(Error::invalid(field, reason())) }
    };
    let defaults = Defaults::of(&kind);
    let count = request.count.unwrap_or(defaults.count);
    if !PROBE_COUNT.contains(&count) {
        let reason = format!("{count} is not within {} and {}", PROBE_COUNT.start(), PROBE_COUNT.end());
        return Err(Error::invalid("count", reason));
    }
    if matches!(kind, Kind::Table { .. }) && count != 1 {
        return Err(Error::invalid("count", "a table is read once in a run; leave it out"));
    }
    let every = request.every_nanos;
    let mut spec = Spec {
        name: request.name,
        labels: request.labels,
        all_nodes: request.all_nodes,
        targets,
        kind,
        count,
        interval_nanos: within(
            "interval",
            request.interval_nanos,
            defaults.interval_nanos,
            &PROBE_INTERVAL_NANOS,
        )?,
        timeout_nanos: within(
            "timeout",
            request.timeout_nanos,
            defaults.timeout_nanos,
            &PROBE_TIMEOUT_NANOS,
        )?,
        family: request.family.unwrap_or(Family::Any),
        every_nanos: every.map(|nanos| within("every", Some(nanos), 0, &PROBE_EVERY_NANOS)).transpose()?,
        mesh: None,
    };
    if let Some(at) =
        request.start_at_nanos.filter(|at| at.saturating_sub(now_nanos) > limits::START_AHEAD_NANOS)
    {
        let ahead = display_span(at.saturating_sub(now_nanos));
        let most = display_span(limits::START_AHEAD_NANOS);
        return Err(Error::invalid("start_at", format!("{ahead} ahead is above the limit of {most}")));
    }
    let mut sources = sources(request.all_nodes, request.sources, nodes)?;
    if let Kind::Throughput(asked) = &mut spec.kind {
        spec.targets = vec![throughput::resolve(asked, spec.family, &mut sources, nodes)?];
    }
    let mesh = request.mesh.map(|asked| mesh::resolve(&asked, spec.family, &sources, nodes));
    spec.mesh = mesh.transpose()?;
    check_rate(&spec)?;
    Ok((spec, sources))
}

/// What one source sends, and that a run ends before the next.
fn check_rate(spec: &Spec) -> Result<(), Error> {
    let targets = spec.targets_of_each();
    let attempts = targets * spec.kind.attempts(spec.count);
    if attempts > limits::PROBE_ATTEMPTS {
        let (each, most) = (spec.kind.attempts(spec.count), limits::PROBE_ATTEMPTS);
        let reason = format!("{each} at each of {targets} targets are {attempts}, above the limit of {most}");
        return Err(Error::invalid("count", reason));
    }
    if matches!(spec.kind, Kind::Throughput(_)) && spec.count > 1 {
        return Err(Error::invalid("count", "a throughput is measured once in a run; leave it out"));
    }
    if let Kind::Trace { max_hops, .. } = spec.kind
        && spec.count > 1
    {
        let least = i64::from(max_hops) * PROBE_HOP_NANOS;
        if spec.interval_nanos < least {
            let [given, least] = [spec.interval_nanos, least].map(display_span);
            let reason = format!(
                "{given} is too short for rounds of {max_hops} hops; give {least} or more, or fewer hops"
            );
            return Err(Error::invalid("interval", reason));
        }
    }
    let at_once = targets as f64 * spec.kind.attempts_at_once();
    let per_second = at_once * SECOND as f64 / spec.interval_nanos as f64;
    if per_second > limits::PROBES_PER_SECOND {
        let least = at_once / limits::PROBES_PER_SECOND;
        return Err(Error::invalid(
            "interval",
            format!(
                "{targets} targets every {} come to {per_second:.0} packets a second from each source, above the limit of {:.0}; \
                 give {} or more",
                display_span(spec.interval_nanos),
                limits::PROBES_PER_SECOND,
                display_span((least * SECOND as f64).ceil() as i64),
            ),
        ));
    }
    let least = spec.run_nanos() + REST_NANOS;
    if let Some(every) = spec.every_nanos.filter(|every| *every < least) {
        let [every, least] = [every, least].map(display_span);
        let reason = format!("{every} is too short for a run; give {least} or more");
        return Err(Error::invalid("every", reason));
    }
    Ok(())
}

fn sources(all_nodes: bool, given: Vec<Source>, nodes: &[NodeView]) -> Result<Vec<Source>, Error> {
    if all_nodes != given.is_empty() {
        return Err(Error::invalid("sources", "give either sources or all_nodes"));
    }
    let mut given: Vec<Source> = if all_nodes {
        let ready = nodes.iter().filter(|node| node.is_ready);
        ready.map(|node| Source { node: node.record.name.clone(), netns: String::new() }).collect()
    } else {
        given
    };
    if given.is_empty() {
        return Err(Error::Precondition("all_nodes: no node is ready; `ctl list-nodes` says why".to_owned()));
    }
    if given.len() > limits::NODES_PER_CAPTURE {
        let reason = format!("{} sources; the limit is {}", given.len(), limits::NODES_PER_CAPTURE);
        return Err(Error::invalid("sources", reason));
    }
    let (mut sources, mut places) = (BTreeSet::new(), BTreeMap::<&str, usize>::new());
    for source in &mut given {
        *source = place("sources", source.clone(), nodes)?;
    }
    for source in &given {
        if !sources.insert(source) {
            let reason = format!("{}:{} comes twice; leave one out", source.node, source.netns);
            return Err(Error::invalid("sources", reason));
        }
        let of_node = places.entry(&source.node).or_default();
        *of_node += 1;
        if *of_node > limits::PROBE_PLACES {
            let most = limits::PROBE_PLACES;
            return Err(Error::invalid(
                "sources",
                format!("{} has more than {most} of them, the limit", source.node),
            ));
        }
    }
    Ok(given)
}
