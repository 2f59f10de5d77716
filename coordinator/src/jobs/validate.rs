//! A job as it was asked for, checked and completed before anything starts.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Error;
use crate::fleet::NodeView;
use crate::limits;
use crate::model::{SECOND, Spec};
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
    Ok(Spec {
        nodes: resolve_nodes(request.all_nodes, request.nodes, nodes)?,
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
    match nanos {
        ..=0 => Err(Error::invalid("duration", format!("{shown} is not above 0; give 1s to {most}"))),
        n if n > limits::DURATION_NANOS => Err(Error::invalid(
            "duration",
            format!("{shown} is above the limit of {most}; give 1s to {most}"),
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
        let reason = format!("{} is more than {most} ahead; it is {now} on the coordinator", display(at));
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

fn resolve_nodes(all: bool, wanted: Vec<String>, nodes: &[NodeView]) -> Result<Vec<String>, Error> {
    let wanted: BTreeSet<String> = wanted.into_iter().collect();
    match (all, wanted.is_empty()) {
        (true, false) => Err(Error::invalid("nodes", "given together with all_nodes; give one of them")),
        (false, true) => Err(Error::invalid("nodes", "none given; name some, or set all_nodes")),
        (true, true) => {
            let ready = nodes.iter().filter(|node| node.is_ready).map(|node| node.record.name.clone());
            let ready: Vec<String> = ready.collect();
            if ready.is_empty() {
                return Err(Error::Precondition(
                    "all_nodes: no node is connected; start an agent".to_owned(),
                ));
            }
            bounded(ready)
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
            let since = display(node.record.last_seen_nanos / SECOND * SECOND);
            let reason = format!("{name} is offline since {since}; start its agent or leave it out");
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
