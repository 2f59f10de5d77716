//! A job as it was asked for, checked and completed before anything starts.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Error;
use crate::fleet::NodeView;
use crate::limits;
use crate::model::{Part, SECOND, Spec, State};
use crate::time::{display, display_span};

/// A job as it was asked for. Absent is not zero.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Free name.
    pub name: String,
    /// Free pairs.
    pub labels: BTreeMap<String, String>,
    /// Every node that is ready.
    pub all_nodes: bool,
    /// These nodes.
    pub nodes: Vec<String>,
    /// pcap-filter expression.
    pub filter: String,
    /// These interfaces.
    pub interfaces: Vec<String>,
    /// Length of the window.
    pub duration_nanos: Option<i64>,
    /// Packets per node.
    pub max_packets: Option<u64>,
    /// Bytes per node.
    pub max_bytes: Option<u64>,
    /// Bytes kept per packet.
    pub snap_length: Option<u32>,
    /// Start on the coordinator's clock.
    pub start_at_nanos: Option<i64>,
    /// One in this many segments.
    pub sampling_interval: Option<u32>,
}

/// Checks every field against the limits and the nodes there are, and fills in what was left out.
pub fn resolve(request: Request, nodes: &[NodeView], now_nanos: i64) -> Result<Spec, Error> {
    check_texts(&request)?;
    check_interfaces(&request.interfaces)?;
    let duration_nanos = request.duration_nanos.unwrap_or(limits::DEFAULT_DURATION_NANOS);
    check_duration(duration_nanos)?;
    check_start(request.start_at_nanos, now_nanos)?;
    check_stops(&request)?;
    let snap_length = request.snap_length.unwrap_or(limits::DEFAULT_SNAP_LENGTH);
    if !limits::SNAP_LENGTH.contains(&snap_length) {
        let (least, most) = (limits::SNAP_LENGTH.start(), limits::SNAP_LENGTH.end());
        return Err(Error::invalid(
            "snap_length",
            format!(
                "{snap_length} is not from {least} to {most}; leave it out for {}",
                limits::DEFAULT_SNAP_LENGTH
            ),
        ));
    }
    let sampling_interval = request.sampling_interval.unwrap_or(1);
    if sampling_interval == 0 {
        return Err(Error::invalid(
            "sampling_interval",
            "0 selects nothing; give 1 or more, or leave it out for all",
        ));
    }
    Ok(Spec {
        nodes: resolve_nodes(request.all_nodes, request.nodes, nodes, now_nanos)?,
        name: request.name,
        labels: request.labels,
        all_nodes: request.all_nodes,
        filter: request.filter.trim().to_owned(),
        interfaces: request.interfaces,
        duration_nanos,
        max_packets: request.max_packets,
        max_bytes: request.max_bytes,
        snap_length,
        start_at_nanos: request.start_at_nanos,
        sampling_interval,
    })
}

fn check_texts(request: &Request) -> Result<(), Error> {
    let most = limits::NAME_BYTES;
    if request.name.len() > most {
        return Err(Error::invalid(
            "name",
            format!("{} bytes long; the limit is {most}", request.name.len()),
        ));
    }
    if request.labels.len() > limits::LABELS {
        let reason = format!("{} labels; the limit is {}", request.labels.len(), limits::LABELS);
        return Err(Error::invalid("labels", reason));
    }
    if let Some((key, _)) =
        request.labels.iter().find(|(k, v)| k.is_empty() || k.len() > most || v.len() > most)
    {
        let shown: String = key.chars().take(20).collect();
        let reason = format!("{shown:?}: key and value must have 1 and 0 to {most} bytes; shorten it");
        return Err(Error::invalid("labels", reason));
    }
    if request.filter.len() > limits::FILTER_BYTES {
        let reason = format!("{} bytes long; the limit is {}", request.filter.len(), limits::FILTER_BYTES);
        return Err(Error::invalid("filter", reason));
    }
    if request.filter.contains('\0') {
        return Err(Error::invalid("filter", "contains a zero byte; remove it"));
    }
    Ok(())
}

fn check_interfaces(interfaces: &[String]) -> Result<(), Error> {
    if interfaces.len() > limits::INTERFACES {
        let reason = format!(
            "{} names; the limit is {}; `auto` finds them by itself",
            interfaces.len(),
            limits::INTERFACES
        );
        return Err(Error::invalid("interfaces", reason));
    }
    let is_name = |name: &str| {
        (1..=limits::INTERFACE_BYTES).contains(&name.len())
            && !name.chars().any(|c| c == '/' || c.is_whitespace() || c.is_control())
    };
    if let Some(name) = interfaces.iter().find(|name| !is_name(name)) {
        let shown: String = name.chars().take(32).collect();
        let reason = format!("{shown:?} is no interface name; `ctl show-node NAME` lists them");
        return Err(Error::invalid("interfaces", reason));
    }
    if interfaces.iter().any(|name| name == "any") {
        let reason = "\"any\" sees one packet many times and cannot be correlated; leave it out for auto";
        return Err(Error::invalid("interfaces", reason));
    }
    Ok(())
}

fn check_duration(nanos: i64) -> Result<(), Error> {
    let most = display_hours(limits::DURATION_NANOS);
    let shown = display_span(nanos);
    let least = display_span(limits::LEAST_DURATION_NANOS);
    match nanos {
        ..limits::LEAST_DURATION_NANOS => {
            Err(Error::invalid("duration", format!("{shown} is below {least}; give {least} to {most}")))
        }
        n if n > limits::DURATION_NANOS => Err(Error::invalid(
            "duration",
            format!("{shown} is above the limit of {most}; give {least} to {most}"),
        )),
        _ => Ok(()),
    }
}

fn check_start(start_at_nanos: Option<i64>, now_nanos: i64) -> Result<(), Error> {
    let Some(at) = start_at_nanos else { return Ok(()) };
    let now = display(now_nanos);
    if at < now_nanos {
        let reason = format!(
            "{} is in the past; it is {now} on the coordinator; give a later time or none",
            display(at)
        );
        return Err(Error::invalid("start_at", reason));
    }
    if at - now_nanos > limits::START_AHEAD_NANOS {
        let most = display_hours(limits::START_AHEAD_NANOS);
        let reason = format!(
            "{} is more than {most} ahead; it is {now} on the coordinator; give an earlier time",
            display(at)
        );
        return Err(Error::invalid("start_at", reason));
    }
    Ok(())
}

fn check_stops(request: &Request) -> Result<(), Error> {
    for (field, value) in [("max_packets", request.max_packets), ("max_bytes", request.max_bytes)] {
        if value == Some(0) {
            return Err(Error::invalid(field, "0 captures nothing; give 1 or more, or leave it out"));
        }
    }
    Ok(())
}

/// The parts of a capture that was just asked for. Of all nodes those that are offline have failed already.
pub(crate) fn parts(spec: &Spec, nodes: &[NodeView]) -> Vec<Part> {
    let part = |name: &String| {
        let mut part = Part::new(name);
        let away = |node: &&NodeView| node.record.name == *name && !node.is_ready && spec.all_nodes;
        if let Some(node) = nodes.iter().find(away) {
            part.state = State::Failed;
            part.reason = format!("left out: {}; start its agent", offline(node));
        }
        part
    };
    spec.nodes.iter().map(part).collect()
}

fn offline(node: &NodeView) -> String {
    format!("offline since {}", display(node.record.last_seen_nanos / SECOND * SECOND))
}

/// Offline, but not for so long that it has probably left the fabric.
fn is_missed(node: &NodeView, now_nanos: i64) -> bool {
    !node.is_ready && now_nanos.saturating_sub(node.record.last_seen_nanos) < limits::MISSED_NANOS
}

fn resolve_nodes(
    all: bool,
    wanted: Vec<String>,
    nodes: &[NodeView],
    now_nanos: i64,
) -> Result<Vec<String>, Error> {
    let wanted: BTreeSet<String> = wanted.into_iter().collect();
    match (all, wanted.is_empty()) {
        (true, false) => Err(Error::invalid("nodes", "given together with all_nodes; give one of them")),
        (false, true) => Err(Error::invalid("nodes", "none given; name some, or set all_nodes")),
        (true, true) => {
            let ready = nodes.iter().filter(|node| node.is_ready).map(|node| node.record.name.clone());
            let mut ready = bounded(ready.collect())?;
            if ready.is_empty() {
                return Err(Error::Precondition(
                    "all_nodes: no node is connected; start an agent".to_owned(),
                ));
            }
            // Asked for too: they fail at once, with the time since when they are gone.
            let offline = nodes.iter().filter(|node| is_missed(node, now_nanos));
            ready.extend(offline.map(|node| node.record.name.clone()));
            ready.truncate(limits::NODES_PER_CAPTURE);
            ready.sort_unstable();
            Ok(ready)
        }
        (false, false) => {
            for name in &wanted {
                check_node(name, nodes)?;
            }
            bounded(wanted.into_iter().collect())
        }
    }
}

fn bounded(names: Vec<String>) -> Result<Vec<String>, Error> {
    let most = limits::NODES_PER_CAPTURE;
    if names.len() > most {
        let reason = format!("{} nodes; the limit of one capture is {most}; name fewer", names.len());
        return Err(Error::invalid("nodes", reason));
    }
    Ok(names)
}

fn check_node(name: &str, nodes: &[NodeView]) -> Result<(), Error> {
    let shown: String = name.chars().take(253).collect();
    match nodes.iter().find(|node| node.record.name == name) {
        None => Err(Error::invalid("nodes", format!("no node named {shown:?}; known: {}", known(nodes)))),
        Some(node) if !node.is_ready => {
            let reason = format!("{name} is {}; start its agent or leave it out", offline(node));
            Err(Error::Precondition(format!("nodes: {reason}")))
        }
        Some(_) => Ok(()),
    }
}

/// Names of nodes for a message.
pub(crate) fn known(nodes: &[NodeView]) -> String {
    if nodes.is_empty() {
        return "none; start an agent".to_owned();
    }
    names(nodes.iter().map(|node| node.record.name.as_str()))
}

/// Names for a message, at most a line.
pub(crate) fn names<'a>(mut all: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 10;
    let mut shown: Vec<&str> = all.by_ref().take(SHOWN).collect();
    if all.next().is_some() {
        shown.push("… (`ctl list-nodes` names all)");
    }
    shown.join(", ")
}

fn display_hours(nanos: i64) -> String {
    format!("{}h", nanos / (3600 * SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NodeRecord;

    const NOW: i64 = 100 * 24 * 3600 * SECOND;

    fn node(name: &str, is_ready: bool, seen_hours_ago: i64) -> NodeView {
        let record = NodeRecord {
            name: name.to_owned(),
            agent_version: String::new(),
            kernel: String::new(),
            incarnation: 1,
            last_seen_nanos: NOW - seen_hours_ago * 3600 * SECOND,
            capabilities: Vec::new(),
            topology: bytes::Bytes::new(),
        };
        let (clock, round_trip_nanos, resident_bytes, notes) = (None, None, None, Vec::new());
        NodeView { record, is_ready, clock, round_trip_nanos, resident_bytes, notes }
    }

    #[test]
    fn of_all_nodes_one_that_is_offline_fails_at_once_and_one_long_gone_is_forgotten() {
        let nodes = [node("b", false, 1), node("a", true, 0), node("old", false, 25)];
        let spec = resolve(Request { all_nodes: true, ..Request::default() }, &nodes, NOW).unwrap();
        assert_eq!(spec.nodes, ["a", "b"]);
        let parts = parts(&spec, &nodes);
        assert_eq!((parts[0].state, parts[1].state), (State::Pending, State::Failed));
        let reason = &parts[1].reason;
        assert!(
            reason.starts_with("left out: offline since") && reason.ends_with("start its agent"),
            "{reason}"
        );
        let nobody = resolve(Request { all_nodes: true, ..Request::default() }, &nodes[..1], NOW);
        assert!(matches!(nobody, Err(Error::Precondition(_))), "{nobody:?}");
    }

    #[test]
    fn nothing_cannot_be_sampled() {
        let nodes = [node("a", true, 0)];
        let asked = |interval| Request { all_nodes: true, sampling_interval: interval, ..Request::default() };
        let refused = resolve(asked(Some(0)), &nodes, NOW).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "sampling_interval: 0 selects nothing; give 1 or more, or leave it out for all"
        );
        let interval = |asked| resolve(asked, &nodes, NOW).unwrap().sampling_interval;
        assert_eq!([interval(asked(None)), interval(asked(Some(100)))], [1, 100]);
    }

    #[test]
    fn a_window_too_short_is_refused_in_the_words_of_the_limit() {
        let nodes = [node("a", true, 0)];
        let asked =
            |duration| Request { all_nodes: true, duration_nanos: Some(duration), ..Request::default() };
        let refused = resolve(asked(limits::LEAST_DURATION_NANOS - 1_000_000), &nodes, NOW).unwrap_err();
        assert_eq!(refused.to_string(), "duration: 99ms is below 100ms; give 100ms to 1h");
        assert!(resolve(asked(limits::LEAST_DURATION_NANOS), &nodes, NOW).is_ok());
    }
}
