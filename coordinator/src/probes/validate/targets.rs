//! What is probed.

use std::collections::BTreeSet;

use lastseen_proto::limits::PROBE_TARGETS;
use lastseen_proto::target::{Host, Target, TargetError};
use lastseen_proto::url::{UrlError, WebUrl};

use super::super::model::{Kind, Record, TraceProtocol};
use crate::error::Error;

/// Where a trace by UDP goes unless a port is named, as `traceroute` has it.
const TRACE_PORT: u16 = 33_434;

/// As they are stored: one way to write each.
pub(super) fn resolve(given: Vec<String>, kind: &Kind) -> Result<Vec<String>, Error> {
    let without = match kind {
        Kind::Gateway => Some("gateways are found on the node; leave the targets out"),
        Kind::Table { .. } => Some("a table is that of the node itself; leave the targets out"),
        _ => None,
    };
    if let Some(reason) = without {
        return if given.is_empty() { Ok(given) } else { Err(Error::invalid("targets", reason)) };
    }
    if matches!(kind, Kind::Throughput(_)) {
        let reason = "a throughput goes to another source; say to whom, and leave the targets out";
        return if given.is_empty() { Ok(given) } else { Err(Error::invalid("targets", reason)) };
    }
    if given.is_empty() || given.len() > PROBE_TARGETS {
        let reason = format!("{} targets; give 1 to {PROBE_TARGETS}", given.len());
        return Err(Error::invalid("targets", reason));
    }
    let targets: Result<Vec<String>, String> = given.into_iter().map(|given| target(&given, kind)).collect();
    let targets = targets.map_err(|reason| Error::invalid("targets", reason))?;
    let mut seen = BTreeSet::new();
    match targets.iter().find(|target| !seen.insert(*target)) {
        Some(twice) => Err(Error::invalid("targets", format!("{twice} comes twice; leave one out"))),
        None => Ok(targets),
    }
}

fn target(given: &str, kind: &Kind) -> Result<String, String> {
    if matches!(kind, Kind::Http { .. }) {
        let url: WebUrl = given.parse().map_err(|error: UrlError| error.to_string())?;
        return Ok(url.to_string());
    }
    let mut target: Target = given.parse().map_err(|error: TargetError| error.to_string())?;
    let has_port = match kind {
        Kind::Path { protocol, .. } => *protocol != TraceProtocol::Icmp,
        Kind::Trace { protocol: TraceProtocol::Udp, .. } => {
            target.port = target.port.or(Some(TRACE_PORT));
            true
        }
        Kind::Tcp | Kind::Udp { .. } | Kind::Trace { protocol: TraceProtocol::Tcp, .. } => true,
        _ => false,
    };
    match (has_port, target.port) {
        (true, None) => return Err(format!("{target} lacks a port; give {target}:80 for example")),
        (false, Some(_)) => {
            return Err(format!("{target} has a port, and such a probe has none; leave it out"));
        }
        _ => {}
    }
    match (kind, &target.host) {
        (Kind::Dns { record: Record::Ptr, .. }, Host::Name(name)) => {
            Err(format!("{name} is a name, and PTR asks for that of an address"))
        }
        (Kind::Dns { record: Record::A | Record::Aaaa | Record::Srv, .. }, Host::Address(address)) => {
            Err(format!("{address} is an address; ask for its name with type ptr"))
        }
        _ => Ok(target.to_string()),
    }
}
