//! What is probed for a check, and from where.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use lastseen_proto::table::NodeTable;
use lastseen_proto::target::{Host, Target};
use lastseen_proto::v1::CheckItem;

use super::request::{ApiServer, Request};
use crate::error::Error;
use crate::fleet::{NodeView, is_gone};
use crate::jobs;
use crate::limits;
use crate::model::{self, MILLISECOND, SECOND};
use crate::probes::model::{Family, Kind, Record, Source, Spec};
use crate::probes::pairs::HostNetwork;
use crate::probes::{self, Addresses, claimants, mesh, place};

/// Attempts: one that is lost by chance is no fault, and nobody waits long.
const COUNT: u32 = 3;
const TIMEOUT_NANOS: i64 = SECOND;
/// Packets of one size: one that comes through is enough.
const MTU_COUNT: u32 = 2;
/// Others to which each host looks for the path MTU.
const MTU_NEIGHBORS: u32 = 8;
/// The first datagram leaves so long after the window began: clocks of nodes differ a little.
pub(super) const AFTER_START_NANOS: i64 = 100 * MILLISECOND;
/// The window covers the datagrams and their answers.
const SLACK_NANOS: i64 = 2 * SECOND;

/// What one probe is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Something of its own.
    At(CheckItem),
    /// Connections, forwarding and reverse path filters.
    Settings,
    /// What reverse path filters dropped, before and after everything else.
    CountersBefore,
    Counters,
}

impl Look {
    /// A name that stays as it is: calls that are made again find by it what an earlier coordinator began.
    fn name(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::CountersBefore => "before",
            Self::Counters => "after",
            Self::At(item) => match item {
                CheckItem::CheckGateway => "gateway",
                CheckItem::CheckNeighbors => "neighbors",
                CheckItem::CheckIcmp => "icmp",
                CheckItem::CheckTcp => "tcp",
                CheckItem::CheckDns => "dns",
                CheckItem::CheckEndpoint => "endpoint",
                CheckItem::CheckApiServer => "api",
                CheckItem::CheckPathMtu => "mtu",
                CheckItem::CheckOverlayMtu => "tunnel-mtu",
                CheckItem::CheckOverlay => "tunnel",
                _ => "",
            },
        }
    }
}

/// A probe of a check.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) look: Look,
    /// Unlike that of any other of the check.
    pub(super) name: String,
    pub(super) spec: Spec,
    pub(super) sources: Vec<Source>,
}

impl Task {
    /// Whether it is done when everything else is: what packets do not reach shows in tables afterwards.
    pub(super) fn is_last(&self) -> bool {
        matches!(self.spec.kind, Kind::Table { .. }) && self.look != Look::CountersBefore
    }
}

/// How tunnels are watched: datagrams between hosts through them to a port where nobody listens, so that nothing else is
/// taken for them, and a capture of the same time.
#[derive(Clone, Debug)]
pub(super) struct Tunnels {
    pub(super) capture: model::Spec,
    pub(super) datagrams: Task,
    pub(super) port: u16,
}

/// Everything that is done.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// In the order of the report.
    pub(super) places: Vec<Source>,
    pub(super) tasks: Vec<Task>,
    pub(super) tunnels: Option<Tunnels>,
    /// Between hosts, only what begins or ends at one of these matters; empty: everything does.
    pub(super) subjects: BTreeSet<String>,
    /// Places that cannot be looked from, and why.
    pub(super) absent: Vec<(Source, String)>,
    /// What is not looked at, and why.
    pub(super) notes: Vec<String>,
}

/// The fleet as the plan is made.
pub(super) struct Fleet {
    pub(super) nodes: Arc<Vec<NodeView>>,
    pub(super) now_nanos: i64,
    /// For what goes through tunnels.
    pub(super) port: u16,
}

impl Fleet {
    fn is_ready(&self, name: &str) -> bool {
        self.nodes.iter().any(|node| node.is_ready && node.record.name == name)
    }
}

impl Plan {
    /// Of places by themselves, and of hosts to each other.
    pub(super) fn hosts(
        request: &Request,
        all_nodes: bool,
        sources: Vec<Source>,
        fleet: &Fleet,
    ) -> Result<Self, Error> {
        let mut plan = Self::default();
        let places = plan.placed(all_nodes, sources, fleet)?;
        plan.at_each(&places, fleet)?;
        plan.outward(request, &places, fleet)?;
        let hosts: Vec<Source> = places.iter().filter(|place| place.netns.is_empty()).cloned().collect();
        match &hosts[..] {
            [] => plan.notes.push("tunnels and path MTU between hosts: no host was asked for".to_owned()),
            [alone] => {
                plan.subjects.insert(alone.node.clone());
                let ready = fleet.nodes.iter().filter(|node| node.is_ready && node.record.name != alone.node);
                let others = ready.map(|node| host(&node.record.name)).take(limits::MESH_WHOLE - 1);
                let some: Vec<Source> = std::iter::once(alone.clone()).chain(others).collect();
                plan.between(&some, fleet);
            }
            several => plan.between(several, fleet),
        }
        plan.places = places;
        Ok(plan)
    }

    /// The places from which can be looked. Of the others it is told why not.
    fn placed(&mut self, all_nodes: bool, asked: Vec<Source>, fleet: &Fleet) -> Result<Vec<Source>, Error> {
        if all_nodes != asked.is_empty() {
            return Err(Error::invalid("host", "give either sources or all_nodes"));
        }
        let asked = if all_nodes {
            let here = fleet.nodes.iter().filter(|node| !is_gone(&node.record, fleet.now_nanos));
            here.map(|node| host(&node.record.name)).collect()
        } else {
            asked
        };
        let (mut places, mut first) = (Vec::new(), None);
        for source in asked {
            match place("sources", source.clone(), &fleet.nodes) {
                Ok(placed) if fleet.is_ready(&placed.node) => places.push(placed),
                Ok(placed) => self.absent.push((placed, "its agent is not connected".to_owned())),
                Err(error) => {
                    self.absent.push((source, error.to_string()));
                    first.get_or_insert(error);
                }
            }
        }
        match (places.is_empty(), first) {
            (true, Some(error)) => Err(error),
            (true, None) => {
                let reason = "sources: no node is connected; `ctl list-nodes` says since when".to_owned();
                Err(Error::Precondition(reason))
            }
            (false, _) => {
                let gateway = usual(Kind::Gateway, &places, Vec::new());
                probes::resolve(gateway, &fleet.nodes, fleet.now_nanos).map(|(_, places)| places)
            }
        }
    }

    /// Of the way from one place to an address, and back.
    pub(super) fn path(
        request: &Request,
        from: &Source,
        target: &Target,
        address: IpAddr,
        fleet: &Fleet,
    ) -> Result<Self, Error> {
        let mut plan = Self::default();
        let mut places = vec![from.clone()];
        let there = [from.clone()];
        plan.way("-there", &there, &Target { host: Host::Address(address), port: None }, fleet)?;
        if target.port.is_some() {
            let to = Target { host: Host::Address(address), ..target.clone() };
            let tcp = usual(Kind::Tcp, &there, vec![to.to_string()]);
            plan.add(Look::At(CheckItem::CheckTcp), "-there", tcp, fleet)?;
        }
        match far_end(from, address, fleet) {
            Ok((to, own)) => {
                let back = Target { host: Host::Address(own), port: None };
                plan.way("-back", std::slice::from_ref(&to), &back, fleet)?;
                places.push(to);
            }
            Err(why) => plan.notes.push(format!("the way back: {why}")),
        }
        let mut nodes: Vec<String> = places.iter().map(|place| place.node.clone()).collect();
        nodes.dedup();
        let hosts: Vec<Source> = nodes.iter().map(|node| host(node)).collect();
        for host in &hosts {
            if !places.contains(host) {
                places.push(host.clone());
            }
        }
        plan.at_each(&places, fleet)?;
        plan.outward(request, &there, fleet)?;
        if hosts.len() > 1 {
            plan.through_tunnels(&hosts, fleet);
        }
        plan.places = places;
        Ok(plan)
    }

    /// What can be seen at each place alone.
    fn at_each(&mut self, places: &[Source], fleet: &Fleet) -> Result<(), Error> {
        let table = |table| Kind::Table { table };
        let hosts: Vec<Source> = places.iter().filter(|place| place.netns.is_empty()).cloned().collect();
        self.add(Look::At(CheckItem::CheckGateway), "", usual(Kind::Gateway, places, Vec::new()), fleet)?;
        let neighbors = once(table(NodeTable::Neighbors), places);
        self.add(Look::At(CheckItem::CheckNeighbors), "", neighbors, fleet)?;
        if !hosts.is_empty() {
            self.add(Look::Settings, "", once(table(NodeTable::Settings), &hosts), fleet)?;
            self.add(Look::CountersBefore, "", once(table(NodeTable::Counters), &hosts), fleet)?;
            self.add(Look::Counters, "", once(table(NodeTable::Counters), &hosts), fleet)?;
        }
        Ok(())
    }

    /// From each place to what was named.
    fn outward(&mut self, request: &Request, places: &[Source], fleet: &Fleet) -> Result<(), Error> {
        let Request { names, nameservers, endpoints, ca_pem, api_server, external, .. } = request;
        let mut missing = Vec::new();
        if names.is_empty() {
            missing.push("names (--name)");
        } else {
            let servers = nameservers.clone();
            let kind = Kind::Dns { servers, record: Record::A, search: Vec::new(), tcp: false };
            let dns = usual(kind, places, names.clone());
            self.add(Look::At(CheckItem::CheckDns), "", dns, fleet).map_err(of("names"))?;
        }
        if endpoints.is_empty() {
            missing.push("endpoints (--endpoint)");
        } else {
            let http = usual(Kind::Http { ca_pem: ca_pem.clone() }, places, endpoints.clone());
            self.add(Look::At(CheckItem::CheckEndpoint), "", http, fleet).map_err(of("endpoints"))?;
        }
        match api_server {
            None => missing.push("the API server (--api-server)"),
            Some(ApiServer { url, ca_pem }) => {
                let http = usual(Kind::Http { ca_pem: ca_pem.clone() }, places, vec![url.clone()]);
                self.add(Look::At(CheckItem::CheckApiServer), "", http, fleet).map_err(of("api_server"))?;
            }
        }
        if external.is_empty() {
            missing.push("addresses outside (--external)");
        }
        let has_port = |target: &&String| target.parse::<Target>().is_ok_and(|target| target.port.is_some());
        let (tcp, icmp): (Vec<&String>, Vec<&String>) = external.iter().partition(has_port);
        for (item, kind, targets) in
            [(CheckItem::CheckIcmp, ICMP, icmp), (CheckItem::CheckTcp, Kind::Tcp, tcp)]
        {
            if !targets.is_empty() {
                let targets = targets.into_iter().cloned().collect();
                let probe = usual(kind, places, targets);
                self.add(Look::At(item), "-outside", probe, fleet).map_err(of("external"))?;
            }
        }
        if !missing.is_empty() {
            self.notes.push(format!("not asked for: {}", missing.join(", ")));
        }
        Ok(())
    }

    /// Echoes and sizes, one way.
    fn way(&mut self, name: &str, from: &[Source], to: &Target, fleet: &Fleet) -> Result<(), Error> {
        let targets = vec![to.to_string()];
        self.add(Look::At(CheckItem::CheckIcmp), name, usual(ICMP, from, targets.clone()), fleet)?;
        self.add(Look::At(CheckItem::CheckPathMtu), name, sizes(from, targets), fleet)
    }

    /// From hosts to hosts.
    fn between(&mut self, hosts: &[Source], fleet: &Fleet) {
        for (item, network) in [
            (CheckItem::CheckPathMtu, HostNetwork::Underlay),
            (CheckItem::CheckOverlayMtu, HostNetwork::Overlay),
        ] {
            let asked = mesh::Asked { neighbors: Some(MTU_NEIGHBORS), network, port: 0 };
            let request = probes::Request { mesh: Some(asked), ..sizes(hosts, Vec::new()) };
            if let Err(error) = self.add(Look::At(item), "", request, fleet) {
                self.notes.push(format!("{}: {error}", super::words(item)));
            }
        }
        self.through_tunnels(hosts, fleet);
    }

    fn through_tunnels(&mut self, hosts: &[Source], fleet: &Fleet) {
        match tunnels(hosts, fleet) {
            Ok(tunnels) => self.tunnels = Some(tunnels),
            Err(error) => self.notes.push(format!("{}: {error}", super::words(CheckItem::CheckOverlay))),
        }
    }

    /// In the order in which it is done: tables last.
    fn add(&mut self, look: Look, name: &str, request: probes::Request, fleet: &Fleet) -> Result<(), Error> {
        self.tasks.push(task(look, name, request, fleet)?);
        self.tasks.sort_by_key(Task::is_last);
        Ok(())
    }
}

/// The field of the request that a refused target was in.
fn of(field: &'static str) -> impl Fn(Error) -> Error {
    move |error| match error {
        Error::Invalid { field: "targets", reason } => Error::Invalid { field, reason },
        other => other,
    }
}

const ICMP: Kind = Kind::Icmp { size: 56, dont_fragment: false };

fn host(node: &str) -> Source {
    Source { node: node.to_owned(), netns: String::new() }
}

fn usual(kind: Kind, from: &[Source], targets: Vec<String>) -> probes::Request {
    probes::Request {
        name: "check".to_owned(),
        sources: from.to_vec(),
        targets,
        kind: Some(kind),
        count: Some(COUNT),
        timeout_nanos: Some(TIMEOUT_NANOS),
        ..probes::Request::default()
    }
}

fn once(kind: Kind, from: &[Source]) -> probes::Request {
    probes::Request { count: None, timeout_nanos: None, ..usual(kind, from, Vec::new()) }
}

fn sizes(from: &[Source], targets: Vec<String>) -> probes::Request {
    let kind = Kind::PathMtu { max_size: None };
    probes::Request { count: Some(MTU_COUNT), timeout_nanos: None, ..usual(kind, from, targets) }
}

fn task(look: Look, name: &str, request: probes::Request, fleet: &Fleet) -> Result<Task, Error> {
    let (spec, sources) = probes::resolve(request, &fleet.nodes, fleet.now_nanos)?;
    Ok(Task { look, name: format!("{}{name}", look.name()), spec, sources })
}

fn tunnels(hosts: &[Source], fleet: &Fleet) -> Result<Tunnels, Error> {
    let port = fleet.port;
    let asked = mesh::Asked { neighbors: None, network: HostNetwork::Overlay, port };
    let kind = Kind::Udp { payload: Vec::new() };
    let request = probes::Request { mesh: Some(asked), ..usual(kind, hosts, Vec::new()) };
    let datagrams = task(Look::At(CheckItem::CheckOverlay), "", request, fleet)?;
    let spreading = limits::START_LEAD_PER_NODE_NANOS * hosts.len() as i64;
    let capture = jobs::resolve(
        jobs::Request {
            name: "check".to_owned(),
            nodes: hosts.iter().map(|host| host.node.clone()).collect(),
            filter: format!("udp port {port}"),
            duration_nanos: Some(
                AFTER_START_NANOS
                    + limits::START_LEAD_NANOS
                    + spreading
                    + datagrams.spec.run_nanos()
                    + SLACK_NANOS,
            ),
            ..jobs::Request::default()
        },
        &fleet.nodes,
        fleet.now_nanos,
    )?;
    Ok(Tunnels { capture, datagrams, port })
}

/// The place that has an address, and the address by which it answers `from`; or why that is not known.
fn far_end(from: &Source, address: IpAddr, fleet: &Fleet) -> Result<(Source, IpAddr), String> {
    let node = match claimants(address, &fleet.nodes)[..] {
        [node] => node.to_owned(),
        [] => return Err(format!("no node has {address}")),
        _ => return Err(format!("{address} is on several nodes")),
    };
    if !fleet.is_ready(&node) {
        return Err(format!("{address} is on {node}, which is not connected"));
    }
    let family = Family::of(address.is_ipv6());
    let mut addresses = Addresses::new(&fleet.nodes);
    let own = addresses.of(from, HostNetwork::Underlay, family)?;
    let is_host = [HostNetwork::Underlay, HostNetwork::Overlay]
        .into_iter()
        .any(|network| addresses.of(&host(&node), network, family) == Ok(address));
    let netns = if is_host { String::new() } else { format!("@{address}") };
    Ok((Source { node, netns }, own))
}
