//! What is captured and what is sent, so that one follows the other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lastseen_proto::limits::{PROBE_MTU, PROBE_PACKETS};
use lastseen_proto::target::{Host, Target};

use super::sizes;
use crate::errand;
use crate::error::Error;
use crate::fleet::NodeView;
use crate::limits;
use crate::model::{self, MILLISECOND, SECOND};
use crate::probes::model::{Family, Kind, Source, TraceProtocol};
use crate::probes::{self, claimants, place};
use crate::{jobs, time};

/// The first packet leaves so long after the window began: clocks of nodes differ a little.
pub(super) const AFTER_START_NANOS: i64 = 100 * MILLISECOND;
/// The last packet leaves so long before the window ends, unless something took long.
const SLACK_NANOS: i64 = SECOND;
/// Packets unless the caller names a number.
const COUNT: u32 = 50;
/// Between two of them.
const INTERVAL_NANOS: i64 = 20 * MILLISECOND;
/// How long an answer is waited for.
const TIMEOUT_NANOS: i64 = SECOND;
/// As `ping` has it: 56 bytes, and the headers of ICMP and IPv4.
const SIZE: u32 = 84;
/// Bytes of the packets, with their IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// All alike.
    One(u32),
    /// Many, to find where they begin to vanish.
    Sweep,
}

/// As it is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Whence.
    pub from: Source,
    /// Whither.
    pub to: String,
    /// How packets look.
    pub protocol: TraceProtocol,
    /// Their sizes; absent: as `ping` has it.
    pub sizes: Option<Sizes>,
    /// How many.
    pub count: Option<u32>,
    /// Between two.
    pub interval_nanos: Option<i64>,
    /// DF.
    pub dont_fragment: bool,
    /// For names.
    pub family: Family,
}

impl Request {
    /// Its source.
    pub(super) fn source(&self, nodes: &[NodeView]) -> Result<Source, Error> {
        place("from", self.from.clone(), nodes)
    }

    /// Absent: it is a name.
    pub(super) fn address(&self) -> Option<IpAddr> {
        match self.to.parse::<Target>().ok()?.host {
            Host::Address(address) => Some(address.to_canonical()),
            Host::Name(_) => None,
        }
    }

    /// What is wrong with it, before anything starts; and what follows from it.
    pub(super) fn check(&self) -> Result<Packets, Error> {
        let target: Target = self.to.parse().map_err(|error| Error::invalid("to", format!("{error}")))?;
        match (self.protocol, target.port) {
            (TraceProtocol::Icmp, Some(_)) => {
                let reason =
                    format!("{target} has a port, and ICMP has none; trace with UDP or TCP, or leave it out");
                return Err(Error::invalid("to", reason));
            }
            (TraceProtocol::Udp | TraceProtocol::Tcp, None) => {
                return Err(Error::invalid(
                    "to",
                    format!("{target} lacks a port; give {target}:80 for example"),
                ));
            }
            _ => {}
        }
        let sizes = packet_sizes(self)?;
        let least =
            if self.sizes == Some(Sizes::Sweep) { sizes.len() as u32 } else { *PROBE_PACKETS.start() };
        let count = self.count.unwrap_or(match self.sizes {
            Some(Sizes::Sweep) => sizes::OF_EACH * least,
            _ => COUNT,
        });
        if !(least..=*PROBE_PACKETS.end()).contains(&count) {
            let reason = format!("{count} is not within {least} and {}", PROBE_PACKETS.end());
            return Err(Error::invalid("count", reason));
        }
        check_interval(self.interval_nanos.unwrap_or(INTERVAL_NANOS))?;
        Ok(Packets { port: target.port, sizes, count })
    }

    /// The target without its port.
    pub(super) fn host(&self) -> String {
        let host = self.to.parse::<Target>().map(|target| Target { port: None, ..target }.to_string());
        host.unwrap_or_default()
    }
}

fn probe(kind: Kind, target: String, count: u32, request: &Request) -> probes::model::Spec {
    probes::model::Spec {
        name: "trace-path".to_owned(),
        labels: BTreeMap::new(),
        all_nodes: false,
        targets: vec![target],
        kind,
        count,
        interval_nanos: request.interval_nanos.unwrap_or(INTERVAL_NANOS),
        timeout_nanos: TIMEOUT_NANOS,
        family: request.family,
        every_nanos: None,
        mesh: None,
    }
}

/// What is sent.
pub(super) struct Packets {
    port: Option<u16>,
    sizes: Vec<u32>,
    count: u32,
}

/// Both halves of a trace.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) capture: model::Spec,
    pub(super) probe: probes::model::Spec,
    /// Whither, as it was asked for.
    pub(super) to: String,
    pub(super) address: IpAddr,
    pub(super) protocol: TraceProtocol,
    /// Of UDP and TCP; 0 of ICMP.
    pub(super) source_port: u16,
    /// Nodes that the target is on, as far as the fabric knows.
    pub(super) owners: Vec<String>,
    /// What else there is to say.
    pub(super) notes: Vec<String>,
}

impl Plan {
    pub(super) fn new(
        request: &Request,
        source: &Source,
        address: IpAddr,
        nodes: &[NodeView],
        now_nanos: i64,
        name: &str,
    ) -> Result<Self, Error> {
        let Packets { port, sizes, count } = request.check()?;
        let source_port = if port.is_some() { errand::port(name) } else { 0 };
        // Of a sweep, fragments would come through whatever their size.
        let dont_fragment = request.dont_fragment || request.sizes == Some(Sizes::Sweep);
        let protocol = request.protocol;
        let to = Target { host: Host::Address(address), port }.to_string();
        let kind = Kind::Path { protocol, sizes, dont_fragment, source_port };
        let probe = probe(kind, to, count, request);
        let owners = claimants(address, nodes).into_iter().map(str::to_owned).collect::<Vec<_>>();
        let (on, notes) = capture_nodes(source, address, &owners, nodes);
        let capture = jobs::resolve(
            jobs::Request {
                name: "trace-path".to_owned(),
                nodes: on,
                filter: filter(protocol, address, source_port, port.unwrap_or_default()),
                duration_nanos: Some(window_nanos(&probe)),
                ..jobs::Request::default()
            },
            nodes,
            now_nanos,
        )?;
        Ok(Self { capture, probe, to: request.to.clone(), address, protocol, source_port, owners, notes })
    }
}

fn check_interval(nanos: i64) -> Result<(), Error> {
    let limits = lastseen_proto::limits::PROBE_INTERVAL_NANOS;
    if limits.contains(&nanos) {
        return Ok(());
    }
    let [asked, least, most] = [nanos, *limits.start(), *limits.end()].map(time::display_span);
    Err(Error::invalid("interval", format!("{asked} is not within {least} and {most}")))
}

fn packet_sizes(request: &Request) -> Result<Vec<u32>, Error> {
    match request.sizes {
        Some(_) if request.protocol == TraceProtocol::Tcp => {
            Err(Error::invalid("size", "TCP SYN has a size of its own; trace with ICMP or UDP".to_owned()))
        }
        Some(Sizes::One(size)) if !PROBE_MTU.contains(&size) => {
            let reason = format!("{size} is not within {} and {} bytes", PROBE_MTU.start(), PROBE_MTU.end());
            Err(Error::invalid("size", reason))
        }
        Some(Sizes::One(size)) => Ok(vec![size]),
        Some(Sizes::Sweep) => Ok(sizes::sweep()),
        None => Ok(vec![SIZE]),
    }
}

/// From the first packet to the last.
pub(super) fn sending_nanos(probe: &probes::model::Spec) -> i64 {
    probe.interval_nanos * i64::from(probe.count.saturating_sub(1))
}

/// The probe begins when its agent can have it, and the window covers it and its answers.
fn window_nanos(probe: &probes::model::Spec) -> i64 {
    AFTER_START_NANOS + limits::START_LEAD_NANOS + sending_nanos(probe) + SLACK_NANOS
}

/// Where it is followed: at the source, and where the fabric's tables place the target. Where they do not, anywhere.
fn capture_nodes(
    source: &Source,
    address: IpAddr,
    owners: &[String],
    nodes: &[NodeView],
) -> (Vec<String>, Vec<String>) {
    let is_ready = |name: &str| nodes.iter().any(|node| node.is_ready && node.record.name == name);
    let (there, away): (Vec<&str>, Vec<&str>) =
        owners.iter().map(String::as_str).partition(|name| is_ready(name));
    let mut notes: Vec<String> = away
        .iter()
        .map(|node| format!("{address} is on {node}, which is not connected: its hops are not seen"))
        .collect();
    let mut on: BTreeSet<String> = there.iter().map(ToString::to_string).collect();
    if on.is_empty() && away.is_empty() {
        notes.push(format!("no node has {address}: every node that is connected was looked at"));
        let ready = nodes.iter().filter(|node| node.is_ready).map(|node| node.record.name.clone());
        on = ready.take(limits::NODES_PER_CAPTURE - 1).collect();
    }
    on.insert(source.node.clone());
    (on.into_iter().collect(), notes)
}

/// What the packets and their answers have in common at every hop (pcap-filter(7)). A service translates the target's
/// address and perhaps its port, a masquerade the source's: where a packet leaves the node that does both at once, that
/// node's agent knows it all the same.
fn filter(protocol: TraceProtocol, address: IpAddr, source_port: u16, port: u16) -> String {
    match (protocol, address) {
        (TraceProtocol::Icmp, IpAddr::V4(_)) => format!("icmp and host {address}"),
        (TraceProtocol::Icmp, IpAddr::V6(_)) => format!("icmp6 and host {address}"),
        (TraceProtocol::Udp, _) => format!("udp and (port {source_port} or port {port})"),
        (TraceProtocol::Tcp, _) => format!("tcp and (port {source_port} or port {port})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::fixtures::node;

    fn request() -> Request {
        Request {
            from: Source { node: "a".into(), netns: "pod".into() },
            to: "10.0.0.2".into(),
            protocol: TraceProtocol::Icmp,
            sizes: None,
            count: None,
            interval_nanos: None,
            dont_fragment: false,
            family: Family::Any,
        }
    }

    fn plan(request: &Request) -> Result<Plan, Error> {
        let nodes = [node("a", true), node("b", true), node("c", false)];
        Plan::new(request, &request.from, request.address().unwrap(), &nodes, 0, "name")
    }

    #[test]
    fn what_is_sent_is_what_is_captured() {
        let icmp = plan(&request()).unwrap();
        assert_eq!(icmp.capture.filter, "icmp and host 10.0.0.2");
        assert_eq!(icmp.capture.nodes, ["a", "b"], "nobody has it: those that are connected");
        assert!(icmp.notes[0].contains("no node has 10.0.0.2"));
        let six = plan(&Request { to: "fd00::2".into(), ..request() }).unwrap();
        assert_eq!(six.capture.filter, "icmp6 and host fd00::2");
        let udp = Request { to: "10.0.0.2:53".into(), protocol: TraceProtocol::Udp, ..request() };
        let udp = plan(&udp).unwrap();
        let Kind::Path { source_port, ref sizes, .. } = udp.probe.kind else { panic!() };
        assert_eq!(*sizes, [84]);
        assert_eq!(errand::port("name"), source_port, "a call made again sends from the same");
        assert_eq!(udp.capture.filter, format!("udp and (port {source_port} or port 53)"));
        assert_eq!(udp.probe.targets, ["10.0.0.2:53"]);
        assert!(udp.capture.duration_nanos > udp.probe.interval_nanos * i64::from(udp.probe.count));
    }

    #[test]
    fn a_trace_is_refused_with_field_and_limit() {
        let sized = |size| Request { sizes: Some(Sizes::One(size)), ..request() };
        for (given, words) in [
            (Request { count: Some(1_001), ..request() }, "count: 1001 is not within 1 and 1000"),
            (Request { count: Some(0), ..request() }, "count: 0 is not within 1 and 1000"),
            (
                Request { sizes: Some(Sizes::Sweep), count: Some(10), ..request() },
                "count: 10 is not within 56 and 1000",
            ),
            (sized(67), "size: 67 is not within 68 and 65535 bytes"),
            (sized(65_536), "size: 65536 is not within"),
            (Request { interval_nanos: Some(1), ..request() }, "interval: 1ns is not within 10ms and 1m"),
            (Request { to: "10.0.0.2:80".into(), ..request() }, "to: 10.0.0.2:80 has a port"),
            (Request { protocol: TraceProtocol::Udp, ..request() }, "to: 10.0.0.2 lacks a port"),
            (
                Request { to: "10.0.0.2:80".into(), protocol: TraceProtocol::Tcp, ..sized(100) },
                "size: TCP SYN has a size of its own",
            ),
        ] {
            let reason = plan(&given).unwrap_err().to_string();
            assert!(reason.starts_with(words), "{reason}");
        }
        assert!(plan(&Request { count: Some(1_000), ..request() }).is_ok());
    }
}
