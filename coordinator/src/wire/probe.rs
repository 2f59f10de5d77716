//! Probes and what is asked of them.

use std::net::IpAddr;

use bytes::Bytes;
use lastseen_proto::convert::{nanos, timestamp};
use lastseen_proto::limits::THROUGHPUT_BYTES;
use lastseen_proto::table::NodeTable;
use lastseen_proto::v1::probe_spec::Kind as Asked;
use lastseen_proto::{convert, v1};
use prost::Message;

use crate::error::Error;
use crate::fleet::ProbeCommand;
use crate::model::SECOND;
use crate::probes::Request;
use crate::probes::mesh;
use crate::probes::model::{Family, Kind, Part, Probe, Record, Source, Spec, State, TraceProtocol};
use crate::probes::pairs::{HostNetwork, Mesh, Throughput, Token, Transport};
use crate::probes::throughput::DEFAULT_DURATION_NANOS;
use crate::store::probes::Reports;

/// Size of an echo when the caller names none, as `ping` has it.
const ICMP_BYTES: u32 = 56;
/// Routers that a trace looks for when the caller names no number, as `traceroute` has it.
const MAX_HOPS: u32 = 30;

/// A probe as it was asked for.
pub fn request(spec: v1::ProbeSpec) -> Result<Request, Error> {
    let family = family(spec.family)?;
    Ok(Request {
        name: spec.name,
        labels: spec.labels.into_iter().collect(),
        all_nodes: spec.all_nodes,
        sources: spec.sources.into_iter().map(source).collect(),
        targets: spec.targets,
        kind: spec.kind.map(kind).transpose()?,
        count: spec.count,
        interval_nanos: spec.interval.as_ref().map(|span| span_nanos("interval", span)).transpose()?,
        timeout_nanos: spec.timeout.as_ref().map(|span| span_nanos("timeout", span)).transpose()?,
        family: Some(family),
        start_at_nanos: spec.start_at.as_ref().map(nanos),
        every_nanos: spec.every.as_ref().map(|span| span_nanos("every", span)).transpose()?,
        mesh: spec.mesh.as_ref().map(mesh).transpose()?,
    })
}

fn mesh(asked: &v1::Mesh) -> Result<mesh::Asked, Error> {
    let network = network(asked.network)?;
    Ok(mesh::Asked { neighbors: asked.neighbors, network, port: port("port", asked.port)? })
}

fn port(field: &'static str, number: u32) -> Result<u16, Error> {
    let wrong = || Error::invalid(field, format!("{number} is not within 0 and 65535"));
    number.try_into().map_err(|_| wrong())
}

fn network(number: i32) -> Result<HostNetwork, Error> {
    match v1::HostNetwork::try_from(number) {
        Ok(v1::HostNetwork::Underlay) => Ok(HostNetwork::Underlay),
        Ok(v1::HostNetwork::Overlay) => Ok(HostNetwork::Overlay),
        Err(_) => {
            Err(Error::invalid("network", format!("{number} is neither that of hosts nor the overlay")))
        }
    }
}

fn kind(asked: Asked) -> Result<Kind, Error> {
    Ok(match asked {
        Asked::Icmp(icmp) => {
            Kind::Icmp { size: icmp.size.unwrap_or(ICMP_BYTES), dont_fragment: icmp.dont_fragment }
        }
        Asked::Tcp(v1::TcpProbe {}) => Kind::Tcp,
        Asked::Udp(udp) => Kind::Udp { payload: udp.payload.to_vec() },
        Asked::Dns(dns) => Kind::Dns {
            record: match v1::DnsRecordType::try_from(dns.record_type) {
                Ok(v1::DnsRecordType::DnsA | v1::DnsRecordType::DnsRecordUnspecified) => Record::A,
                Ok(v1::DnsRecordType::DnsAaaa) => Record::Aaaa,
                Ok(v1::DnsRecordType::DnsSrv) => Record::Srv,
                Ok(v1::DnsRecordType::DnsPtr) => Record::Ptr,
                Err(_) => {
                    let reason = format!("{} is none of A, AAAA, SRV and PTR", dns.record_type);
                    return Err(Error::invalid("record_type", reason));
                }
            },
            servers: dns.servers,
            search: dns.search,
            tcp: dns.tcp,
        },
        Asked::Http(http) => Kind::Http { ca_pem: http.ca_pem },
        Asked::PathMtu(path) => Kind::PathMtu { max_size: path.max_size },
        Asked::Trace(trace) => {
            Kind::Trace { protocol: protocol(trace.protocol)?, max_hops: trace.max_hops.unwrap_or(MAX_HOPS) }
        }
        Asked::Path(path) => Kind::Path {
            protocol: protocol(path.protocol)?,
            source_port: port("source_port", path.source_port)?,
            sizes: path.sizes,
            dont_fragment: path.dont_fragment,
        },
        Asked::Neighbor(v1::NeighborProbe {}) => Kind::Neighbor,
        Asked::Gateway(v1::GatewayProbe {}) => Kind::Gateway,
        Asked::Table(v1::TableProbe { table }) => {
            let unknown = || Error::invalid("table", format!("{table} is the number of none"));
            Kind::Table { table: NodeTable::from_number(table).ok_or_else(unknown)? }
        }
        Asked::Throughput(asked) => Kind::Throughput(throughput(asked)?),
    })
}

fn throughput(asked: v1::ThroughputProbe) -> Result<Throughput, Error> {
    let to = asked.to.ok_or_else(|| Error::invalid("to", "missing; say who receives"))?;
    let duration = asked.duration.as_ref().map(|span| span_nanos("duration", span)).transpose()?;
    let unknown = || Error::invalid("protocol", format!("{} is neither TCP nor UDP", asked.protocol));
    Ok(Throughput {
        transport: match v1::ThroughputProtocol::try_from(asked.protocol).map_err(|_| unknown())? {
            v1::ThroughputProtocol::ThroughputTcp => Transport::Tcp,
            v1::ThroughputProtocol::ThroughputUdp => Transport::Udp,
        },
        duration_nanos: duration.unwrap_or(DEFAULT_DURATION_NANOS),
        bits_per_second: asked.bits_per_second,
        max_bytes: asked.max_bytes.unwrap_or(THROUGHPUT_BYTES),
        port: port("port", asked.port.unwrap_or_default())?,
        network: network(asked.network)?,
        to: source(to),
        token: Token::default(),
        senders: Vec::new(),
    })
}

pub(super) fn family(number: i32) -> Result<Family, Error> {
    match v1::IpFamily::try_from(number) {
        Ok(v1::IpFamily::Any) => Ok(Family::Any),
        Ok(v1::IpFamily::Ipv4) => Ok(Family::V4),
        Ok(v1::IpFamily::Ipv6) => Ok(Family::V6),
        Err(_) => Err(Error::invalid("family", format!("{number} is neither 0, 4 nor 6"))),
    }
}

pub(super) fn protocol(number: i32) -> Result<TraceProtocol, Error> {
    match v1::TraceProtocol::try_from(number) {
        Ok(v1::TraceProtocol::TraceIcmp | v1::TraceProtocol::Unspecified) => Ok(TraceProtocol::Icmp),
        Ok(v1::TraceProtocol::TraceUdp) => Ok(TraceProtocol::Udp),
        Ok(v1::TraceProtocol::TraceTcp) => Ok(TraceProtocol::Tcp),
        Err(_) => Err(Error::invalid("protocol", format!("{number} is none of ICMP, UDP and TCP"))),
    }
}

pub(super) fn span_nanos(field: &'static str, span: &prost_types::Duration) -> Result<i64, Error> {
    convert::span_nanos(span)
        .ok_or_else(|| Error::invalid(field, format!("{} s is far above the limit", span.seconds)))
}

/// Whence.
pub fn source(message: v1::ProbeSource) -> Source {
    Source { node: message.node, netns: message.netns }
}

/// Whence, as people see it.
pub fn source_message(source: &Source) -> v1::ProbeSource {
    v1::ProbeSource { node: source.node.clone(), netns: source.netns.clone() }
}

fn span_message(nanos: i64) -> prost_types::Duration {
    prost_types::Duration { seconds: nanos / SECOND, nanos: (nanos % SECOND) as i32 }
}

fn spec_message<'a>(
    spec: &Spec,
    sources: impl Iterator<Item = &'a Source>,
    start_nanos: i64,
) -> v1::ProbeSpec {
    let span = span_message;
    v1::ProbeSpec {
        name: spec.name.clone(),
        labels: spec.labels.clone().into_iter().collect(),
        all_nodes: spec.all_nodes,
        sources: sources.map(source_message).collect(),
        targets: spec.targets.clone(),
        kind: Some(kind_message(&spec.kind)),
        count: Some(spec.count),
        interval: Some(span(spec.interval_nanos)),
        timeout: Some(span(spec.timeout_nanos)),
        family: match spec.family {
            Family::Any => v1::IpFamily::Any,
            Family::V4 => v1::IpFamily::Ipv4,
            Family::V6 => v1::IpFamily::Ipv6,
        }
        .into(),
        start_at: Some(timestamp(start_nanos)),
        every: spec.every_nanos.map(span),
        mesh: spec.mesh.as_ref().map(mesh_message),
    }
}

/// As people see it.
fn mesh_message(mesh: &Mesh) -> v1::Mesh {
    let address = |address: IpAddr| address.to_string();
    let members = mesh.members.iter().map(|member| v1::MeshMember {
        source: Some(source_message(&member.source)),
        address: member.address.map(address).unwrap_or_default(),
        targets: Vec::new(),
    });
    v1::Mesh {
        neighbors: Some(mesh.neighbors),
        network: network_message(mesh.network).into(),
        port: mesh.port.into(),
        members: members.collect(),
    }
}

fn network_message(network: HostNetwork) -> v1::HostNetwork {
    match network {
        HostNetwork::Underlay => v1::HostNetwork::Underlay,
        HostNetwork::Overlay => v1::HostNetwork::Overlay,
    }
}

/// A spec as the agent hears it that has these sources: with what it needs for them, and nothing of others.
fn told(spec: &Spec, sources: &[&Source], start_nanos: i64) -> v1::ProbeSpec {
    let mut told = spec_message(spec, sources.iter().copied(), start_nanos);
    if let (Some(message), Some(mesh)) = (&mut told.mesh, &spec.mesh) {
        let own = mesh.members.iter().zip(std::mem::take(&mut message.members));
        let own = own.filter(|(member, _)| sources.contains(&&member.source));
        let own = own.map(|(member, message)| v1::MeshMember { targets: mesh.targets_of(member), ..message });
        message.members = own.collect();
    }
    if let (Some(Asked::Throughput(message)), Kind::Throughput(throughput)) = (&mut told.kind, &spec.kind) {
        message.token = throughput.token.0.clone().into();
        message.senders = throughput.senders.iter().map(ToString::to_string).collect();
    }
    told
}

/// How, as people see it.
pub fn kind_message(kind: &Kind) -> Asked {
    match kind {
        Kind::Icmp { size, dont_fragment } => {
            Asked::Icmp(v1::IcmpProbe { size: Some(*size), dont_fragment: *dont_fragment })
        }
        Kind::Tcp => Asked::Tcp(v1::TcpProbe {}),
        Kind::Udp { payload } => Asked::Udp(v1::UdpProbe { payload: payload.clone().into() }),
        Kind::Dns { servers, record, search, tcp } => {
            let record_type = match record {
                Record::A => v1::DnsRecordType::DnsA,
                Record::Aaaa => v1::DnsRecordType::DnsAaaa,
                Record::Srv => v1::DnsRecordType::DnsSrv,
                Record::Ptr => v1::DnsRecordType::DnsPtr,
            };
            Asked::Dns(v1::DnsProbe {
                servers: servers.clone(),
                record_type: record_type.into(),
                search: search.clone(),
                tcp: *tcp,
            })
        }
        Kind::Http { ca_pem } => Asked::Http(v1::HttpProbe { ca_pem: ca_pem.clone() }),
        Kind::PathMtu { max_size } => Asked::PathMtu(v1::PathMtuProbe { max_size: *max_size }),
        Kind::Trace { protocol, max_hops } => Asked::Trace(v1::TraceProbe {
            protocol: protocol_message(*protocol).into(),
            max_hops: Some(*max_hops),
        }),
        Kind::Path { protocol, sizes, dont_fragment, source_port } => Asked::Path(v1::PathProbe {
            protocol: protocol_message(*protocol).into(),
            sizes: sizes.clone(),
            dont_fragment: *dont_fragment,
            source_port: (*source_port).into(),
        }),
        Kind::Neighbor => Asked::Neighbor(v1::NeighborProbe {}),
        Kind::Gateway => Asked::Gateway(v1::GatewayProbe {}),
        Kind::Table { table } => Asked::Table(v1::TableProbe { table: table.message().into() }),
        Kind::Throughput(throughput) => Asked::Throughput(throughput_message(throughput)),
    }
}

/// As people see it: without the secret.
fn throughput_message(throughput: &Throughput) -> v1::ThroughputProbe {
    let protocol = match throughput.transport {
        Transport::Tcp => v1::ThroughputProtocol::ThroughputTcp,
        Transport::Udp => v1::ThroughputProtocol::ThroughputUdp,
    };
    v1::ThroughputProbe {
        protocol: protocol.into(),
        duration: Some(span_message(throughput.duration_nanos)),
        bits_per_second: throughput.bits_per_second,
        max_bytes: Some(throughput.max_bytes),
        port: Some(throughput.port.into()),
        network: network_message(throughput.network).into(),
        to: Some(source_message(&throughput.to)),
        token: Bytes::new(),
        senders: Vec::new(),
    }
}

fn protocol_message(protocol: TraceProtocol) -> v1::TraceProtocol {
    match protocol {
        TraceProtocol::Icmp => v1::TraceProtocol::TraceIcmp,
        TraceProtocol::Udp => v1::TraceProtocol::TraceUdp,
        TraceProtocol::Tcp => v1::TraceProtocol::TraceTcp,
    }
}

/// A probe as people see it, and what it found.
pub fn message(probe: &Probe, found: &Reports, now_nanos: i64) -> Result<v1::Probe, Error> {
    let decode = |report: &Vec<u8>| {
        let unreadable =
            |error| Error::Internal(format!("a report of probe {} cannot be read: {error}", probe.id));
        v1::ProbeReport::decode(report.as_slice()).map_err(unreadable)
    };
    Ok(v1::Probe {
        id: probe.id.clone(),
        spec: Some(spec_message(&probe.spec, probe.parts.iter().map(|part| &part.source), probe.start_nanos)),
        state: state(probe.state(now_nanos)).into(),
        created_at: Some(timestamp(probe.created_at_nanos)),
        created_by: probe.created_by.clone(),
        start: Some(timestamp(probe.start_nanos)),
        parts: probe.parts.iter().map(part).collect(),
        reports: found.reports.iter().map(decode).collect::<Result<_, _>>()?,
        stopped_by: probe.stopped.clone(),
        reports_omitted: found.is_cut,
    })
}

fn part(part: &Part) -> v1::ProbePart {
    v1::ProbePart {
        source: Some(source_message(&part.source)),
        state: state(part.state).into(),
        reason: part.reason.clone(),
        runs: part.runs,
    }
}

fn state(state: State) -> v1::ProbeState {
    match state {
        State::Pending => v1::ProbeState::ProbePending,
        State::Armed => v1::ProbeState::ProbeArmed,
        State::Running => v1::ProbeState::ProbeRunning,
        State::Completed => v1::ProbeState::ProbeCompleted,
        State::Failed => v1::ProbeState::ProbeFailed,
        State::Stopped => v1::ProbeState::ProbeStopped,
    }
}

/// A command as the agent of `node` hears it.
pub(super) fn command(command: ProbeCommand, node: &str) -> v1::coordinator_message::Kind {
    use v1::coordinator_message::Kind;
    match command {
        ProbeCommand::Arm { probe, start_monotonic_nanos, allowed } => {
            let open =
                || probe.parts.iter().filter(|part| part.source.node == node && !part.state.is_final());
            // What one of them lacks is made again by all of them, and stored once.
            let first_run = open().map(|part| part.last_run.map_or(0, |last| last + 1)).min().unwrap_or(0);
            let sources: Vec<&Source> = open().map(|part| &part.source).collect();
            Kind::ArmProbe(v1::ArmProbe {
                probe_id: probe.id.clone(),
                spec: Some(told(&probe.spec, &sources, probe.start_nanos)),
                start_monotonic_nanos,
                allowed_networks: allowed,
                first_run,
            })
        }
        ProbeCommand::End(probe_id) => Kind::EndProbe(v1::EndProbe { probe_id }),
        ProbeCommand::Stored(reports) => {
            let report = |(probe_id, run, source): (String, u64, Source)| v1::probe_stored::Report {
                probe_id,
                run,
                netns: source.netns,
            };
            Kind::ProbeStored(v1::ProbeStored { reports: reports.into_iter().map(report).collect() })
        }
    }
}
