//! A job as it was asked for, checked and completed before anything starts.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Error;
use crate::fleet::{NodeView, is_gone};
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
        traceparent: None,
    })
}

/// What people give to tell jobs apart.
pub(crate) fn check_labels(name: &str, labels: &BTreeMap<String, String>) -> Result<(), Error> {
    let most = limits::NAME_BYTES;
    if name.len() > most {
        return Err(Error::invalid("name", format!("{} bytes long; the limit is {most}", name.len())));
    }
    if labels.len() > limits::LABELS {
        let reason = format!("{} labels; the limit is {}", labels.len(), limits::LABELS);
        return Err(Error::invalid("labels", reason));
    }
    if let Some((key, value)) = labels.iter().find(|(k, v)| k.is_empty() || k.len() > most || v.len() > most)
    {
        let shown: String = key.chars().take(20).collect();
        let (key, value) = (key.len(), value.len());
        let reason = format!(
            "{shown:?}: {key} and {value} bytes; key and value must have 1 and 0 to {most} bytes; shorten it"
        );
        return Err(Error::invalid("labels", reason));
    }
    Ok(())
}

fn check_texts(request: &Request) -> Result<(), Error> {
    check_labels(&request.name, &request.labels)?;
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
        let (length, most) = (name.len(), limits::INTERFACE_BYTES);
        let reason = match length {
            1.. if length > most => format!("{shown:?} is {length} bytes long; the limit is {most}"),
            _ => format!("{shown:?} is no interface name; `ctl show-node NAME` lists them"),
        };
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
    !node.is_ready && !is_gone(&node.record, now_nanos)
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
    use crate::fleet::fixtures;

    const NOW: i64 = 100 * 24 * 3600 * SECOND;

    fn node(name: &str, is_ready: bool, seen_hours_ago: i64) -> NodeView {
        let mut node = fixtures::node(name, is_ready);
        node.record.last_seen_nanos = NOW - seen_hours_ago * 3600 * SECOND;
        node
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

    /// A request of so many of something.
    type Asked = fn(usize) -> Request;

    fn text(bytes: usize) -> String {
        "x".repeat(bytes)
    }

    #[test]
    fn every_limit_takes_what_reaches_it_and_names_field_value_and_limit_beyond_it() {
        let nodes: Vec<_> =
            (0..=limits::NODES_PER_CAPTURE).map(|number| node(&format!("n-{number}"), true, 0)).collect();
        let second = SECOND as usize;
        let limits: [(&str, usize, &str, Asked); 9] = [
            ("name", limits::NAME_BYTES, "64 bytes long; the limit is 63", |n| Request {
                name: text(n),
                ..Request::default()
            }),
            ("labels", limits::LABELS, "33 labels; the limit is 32", |n| Request {
                labels: (0..n).map(|number| (number.to_string(), String::new())).collect(),
                ..Request::default()
            }),
            ("labels", limits::NAME_BYTES, "0 to 63 bytes", |n| Request {
                labels: [("key".to_owned(), text(n))].into(),
                ..Request::default()
            }),
            ("filter", limits::FILTER_BYTES, "4097 bytes long; the limit is 4096", |n| Request {
                filter: text(n),
                ..Request::default()
            }),
            ("interfaces", limits::INTERFACES, "65 names; the limit is 64", |n| Request {
                interfaces: (0..n).map(|number| format!("eth{number}")).collect(),
                ..Request::default()
            }),
            ("interfaces", limits::INTERFACE_BYTES, "16 bytes long; the limit is 15", |n| Request {
                interfaces: vec![text(n)],
                ..Request::default()
            }),
            ("snap_length", *limits::SNAP_LENGTH.end() as usize, "65536 is not from 64 to 65535", |n| {
                Request { snap_length: Some(n as u32), ..Request::default() }
            }),
            ("duration", limits::DURATION_NANOS as usize, "is above the limit of 1h", |n| Request {
                duration_nanos: Some(n as i64),
                ..Request::default()
            }),
            ("start_at", limits::START_AHEAD_NANOS as usize, "is more than 1h ahead", |n| Request {
                start_at_nanos: Some(NOW + n as i64),
                ..Request::default()
            }),
        ];
        for (field, limit, said, asked) in limits {
            let step = if limit >= second { second } else { 1 };
            let resolved = |n| resolve(Request { nodes: vec!["n-0".into()], ..asked(n) }, &nodes, NOW);
            assert!(resolved(limit - step).is_ok() && resolved(limit).is_ok(), "{field}");
            let refused = resolved(limit + step).unwrap_err().to_string();
            assert!(refused.starts_with(&format!("{field}: ")) && refused.contains(said), "{refused}");
        }
    }

    #[test]
    fn a_capture_takes_as_many_nodes_as_the_limit_says() {
        let most = limits::NODES_PER_CAPTURE;
        let nodes: Vec<_> = (0..=most).map(|number| node(&format!("n-{number}"), true, 0)).collect();
        let asked = |count: usize| {
            let nodes_asked = nodes[..count].iter().map(|node| node.record.name.clone()).collect();
            resolve(Request { nodes: nodes_asked, ..Request::default() }, &nodes, NOW)
        };
        assert_eq!(asked(most - 1).unwrap().nodes.len(), most - 1);
        assert_eq!(asked(most).unwrap().nodes.len(), most);
        assert_eq!(
            asked(most + 1).unwrap_err().to_string(),
            "nodes: 1001 nodes; the limit of one capture is 1000; name fewer"
        );
    }
}
