//! Probes as messages.

mod throughput;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use hickory_proto::rr::{Name, RecordType};
use lastseen_proto::convert::span_nanos;
use lastseen_proto::limits::{
    CAPTURE_ID_BYTES, PROBE_CA_BYTES, PROBE_COUNT, PROBE_EVERY_NANOS, PROBE_HOPS, PROBE_INTERVAL_NANOS,
    PROBE_MTU, PROBE_PACKETS, PROBE_PAYLOAD_BYTES, PROBE_REPORT_BYTES, PROBE_SEARCH, PROBE_SERVERS,
    PROBE_SIZE, PROBE_SIZES, PROBE_TARGETS, PROBE_TIMEOUT_NANOS,
};
use lastseen_proto::place::Place;
use lastseen_proto::table::NodeTable;
use lastseen_proto::target::{Host, Target, TargetError};
use lastseen_proto::url::UrlError;
use lastseen_proto::v1;
use lastseen_proto::v1::probe_spec::Kind as Asked;
use prost::Message as _;

use crate::probe::attempt::{Attempt, Outcome, Timing};
use crate::probe::board::{News, Status};
use crate::probe::report::{
    Certificate, Finding, Found, Method, Names, Neighbor, Page, PathMtu, Report, Table,
};
use crate::probe::spec::{Aim, Allowed, Family, Kind, Marks, Questions, Schedule, Spec, TraceProtocol};

/// What the coordinator adds to a report.
const ROOM_BYTES: usize = 4 << 10;

/// The probe in an `ArmProbe`, or what is wrong with it.
pub(crate) fn spec(message: v1::ArmProbe) -> Result<Spec, String> {
    let v1::ArmProbe { probe_id, spec, start_monotonic_nanos, allowed_networks, first_run } = message;
    if !(1..=CAPTURE_ID_BYTES).contains(&probe_id.len()) || probe_id.chars().any(char::is_control) {
        return Err(format!("probe_id: {probe_id:?} is not 1 to {CAPTURE_ID_BYTES} bytes of text"));
    }
    let asked = spec.ok_or("spec: missing; is the coordinator of another version?")?;
    let schedule = schedule(&asked, start_monotonic_nanos, first_run)?;
    let places =
        asked.sources.iter().map(|source| source.netns.parse()).collect::<Result<Vec<Place>, _>>()?;
    if places.is_empty() {
        return Err("sources: none".to_owned());
    }
    let networks = allowed_networks.iter().map(|network| network.parse()).collect::<Result<_, _>>();
    let family = asked.family();
    let kind = kind(asked.kind, &asked.sources)?;
    let aims = |targets: &[String]| aims(targets, &kind).map_err(|reason| format!("targets: {reason}"));
    let (targets, mesh) = match &asked.mesh {
        Some(mesh) => (Vec::new(), self::mesh(mesh, &places, aims)?),
        None => (aims(&asked.targets)?, BTreeMap::new()),
    };
    Ok(Spec {
        probe: probe_id,
        places,
        targets,
        mesh,
        family: match family {
            v1::IpFamily::Any => Family::Any,
            v1::IpFamily::Ipv4 => Family::V4,
            v1::IpFamily::Ipv6 => Family::V6,
        },
        kind,
        schedule,
        allowed: Allowed::new(networks.map_err(|error| format!("allowed_networks: {error}"))?),
    })
}

/// What each place asks.
fn mesh(
    mesh: &v1::Mesh,
    places: &[Place],
    aims: impl Fn(&[String]) -> Result<Vec<Aim>, String>,
) -> Result<BTreeMap<Place, Vec<Aim>>, String> {
    let netns = |member: &v1::MeshMember| member.source.clone().unwrap_or_default().netns;
    let members: BTreeMap<String, &v1::MeshMember> =
        mesh.members.iter().map(|member| (netns(member), member)).collect();
    let of = |place: &Place| {
        let member = members.get(&place.to_string());
        let member = member.ok_or_else(|| format!("mesh: {:?} has no part in it", place.to_string()))?;
        Ok((place.clone(), aims(&member.targets)?))
    };
    places.iter().map(of).collect()
}

/// What is asked, in the order it was given.
fn aims(targets: &[String], kind: &Kind) -> Result<Vec<Aim>, String> {
    match kind {
        Kind::Gateway => return Ok(vec![Aim::Gateways]),
        Kind::Table(table) => return Ok(vec![Aim::Table(*table)]),
        _ => {}
    }
    if targets.is_empty() || targets.len() > PROBE_TARGETS {
        return Err(format!("{} are not within 1 and {PROBE_TARGETS}", targets.len()));
    }
    let aim = |text: &String| {
        if let Kind::Http { .. } = kind {
            return text.parse().map(Aim::Url).map_err(|error: UrlError| error.to_string());
        }
        let target: Target = text.parse().map_err(|error: TargetError| error.to_string())?;
        let has_port = match kind {
            Kind::Tcp | Kind::Udp { .. } | Kind::Throughput(_) => true,
            Kind::Trace { protocol, .. } | Kind::Path(Marks { protocol, .. }) => {
                *protocol != TraceProtocol::Icmp
            }
            _ => false,
        };
        if has_port && target.port.is_none() {
            return Err(format!("{target} lacks a port"));
        }
        Ok(Aim::Host(target))
    };
    targets.iter().map(aim).collect()
}

fn within(field: &str, given: u32, limits: &RangeInclusive<u32>) -> Result<u32, String> {
    let reason = || format!("{field}: {given} is not within {} and {}", limits.start(), limits.end());
    limits.contains(&given).then_some(given).ok_or_else(reason)
}

fn kind(asked: Option<Asked>, sources: &[v1::ProbeSource]) -> Result<Kind, String> {
    match asked {
        Some(Asked::Icmp(icmp)) => {
            let size = within("size", icmp.size.unwrap_or_default(), &PROBE_SIZE)?;
            Ok(Kind::Icmp { size: size as usize, dont_fragment: icmp.dont_fragment })
        }
        Some(Asked::Tcp(v1::TcpProbe {})) => Ok(Kind::Tcp),
        Some(Asked::Udp(udp)) if udp.payload.len() > PROBE_PAYLOAD_BYTES => {
            Err(format!("payload: {} bytes are above {PROBE_PAYLOAD_BYTES}", udp.payload.len()))
        }
        Some(Asked::Udp(udp)) => {
            Ok(Kind::Udp { payload: Some(udp.payload.to_vec()).filter(|payload| !payload.is_empty()) })
        }
        Some(Asked::Dns(dns)) => Ok(Kind::Dns(questions(&dns)?)),
        Some(Asked::Http(http)) if http.ca_pem.len() > PROBE_CA_BYTES => {
            Err(format!("ca_pem: {} bytes are above {PROBE_CA_BYTES}", http.ca_pem.len()))
        }
        Some(Asked::Http(http)) => Ok(Kind::Http { ca_pem: http.ca_pem }),
        Some(Asked::PathMtu(path)) => {
            let max_size = path.max_size.map(|size| within("max_size", size, &PROBE_MTU)).transpose()?;
            Ok(Kind::PathMtu { max_size: max_size.map(|size| size as u16) })
        }
        Some(Asked::Trace(trace)) => {
            let max_hops = within("max_hops", trace.max_hops.unwrap_or_default(), &PROBE_HOPS)?;
            Ok(Kind::Trace { protocol: protocol(trace.protocol)?, max_hops: max_hops as u8 })
        }
        Some(Asked::Path(path)) => Ok(Kind::Path(marks(&path)?)),
        Some(Asked::Neighbor(v1::NeighborProbe {})) => Ok(Kind::Neighbor),
        Some(Asked::Gateway(v1::GatewayProbe {})) => Ok(Kind::Gateway),
        Some(Asked::Table(v1::TableProbe { table })) => {
            let unknown =
                || format!("table: {table} is not known here; is this agent older than the coordinator?");
            NodeTable::from_number(table).map(Kind::Table).ok_or_else(unknown)
        }
        Some(Asked::Throughput(throughput)) => Ok(Kind::Throughput(throughput::flow(&throughput, sources)?)),
        None => Err("kind: this agent does not know it; is it older than the coordinator?".to_owned()),
    }
}

fn protocol(number: i32) -> Result<TraceProtocol, String> {
    match v1::TraceProtocol::try_from(number) {
        Ok(v1::TraceProtocol::TraceUdp) => Ok(TraceProtocol::Udp),
        Ok(v1::TraceProtocol::TraceTcp) => Ok(TraceProtocol::Tcp),
        Ok(v1::TraceProtocol::TraceIcmp | v1::TraceProtocol::Unspecified) => Ok(TraceProtocol::Icmp),
        Err(_) => {
            Err(format!("protocol: {number} is not known here; is this agent older than the coordinator?"))
        }
    }
}

fn marks(asked: &v1::PathProbe) -> Result<Marks, String> {
    if !(1..=PROBE_SIZES).contains(&asked.sizes.len()) {
        return Err(format!("sizes: {} are not within 1 and {PROBE_SIZES}", asked.sizes.len()));
    }
    let sizes = asked.sizes.iter().map(|size| within("sizes", *size, &PROBE_MTU).map(|size| size as u16));
    Ok(Marks {
        protocol: protocol(asked.protocol)?,
        sizes: sizes.collect::<Result<_, _>>()?,
        dont_fragment: asked.dont_fragment,
        source_port: within("source_port", asked.source_port, &(0..=u16::MAX.into()))? as u16,
    })
}

fn questions(asked: &v1::DnsProbe) -> Result<Questions, String> {
    /// RFC 1035 §4.2.
    const PORT: u16 = 53;
    if asked.servers.len() > PROBE_SERVERS || asked.search.len() > PROBE_SEARCH {
        return Err(format!("servers, search: at most {PROBE_SERVERS} and {PROBE_SEARCH}"));
    }
    let server = |text: &String| {
        let target: Target = text.parse().map_err(|error| format!("servers: {error}"))?;
        match target.host {
            Host::Address(address) => Ok(SocketAddr::new(address, target.port.unwrap_or(PORT))),
            Host::Name(name) => Err(format!("servers: {name} is no address")),
        }
    };
    let domain =
        |text: &String| Name::from_str_relaxed(text).map_err(|error| format!("search: {text:?}: {error}"));
    Ok(Questions {
        servers: asked.servers.iter().map(server).collect::<Result<_, String>>()?,
        record_type: match v1::DnsRecordType::try_from(asked.record_type) {
            Ok(v1::DnsRecordType::DnsA | v1::DnsRecordType::DnsRecordUnspecified) => RecordType::A,
            Ok(v1::DnsRecordType::DnsAaaa) => RecordType::AAAA,
            Ok(v1::DnsRecordType::DnsSrv) => RecordType::SRV,
            Ok(v1::DnsRecordType::DnsPtr) => RecordType::PTR,
            Err(_) => return Err(format!("record_type: {} is not known here", asked.record_type)),
        },
        search: asked.search.iter().map(domain).collect::<Result<_, String>>()?,
        tcp: asked.tcp,
    })
}

fn span(
    field: &str,
    asked: Option<&prost_types::Duration>,
    limits: &RangeInclusive<i64>,
) -> Result<Duration, String> {
    let nanos = asked.map_or(0, |asked| span_nanos(asked).unwrap_or(i64::MAX));
    let wrong = || format!("{field}: {nanos} ns are not within {} and {}", limits.start(), limits.end());
    limits.contains(&nanos).then(|| Duration::from_nanos(nanos as u64)).ok_or_else(wrong)
}

fn schedule(asked: &v1::ProbeSpec, start: i64, first_run: u64) -> Result<Schedule, String> {
    let counts = match asked.kind {
        Some(Asked::Path(_)) => PROBE_PACKETS,
        Some(Asked::Table(_)) => 1..=1,
        _ => PROBE_COUNT,
    };
    let count = within("count", asked.count.unwrap_or_default(), &counts)?;
    let every = asked.every.as_ref();
    Ok(Schedule {
        start,
        first_run,
        count: count as u16,
        interval: span("interval", asked.interval.as_ref(), &PROBE_INTERVAL_NANOS)?,
        timeout: span("timeout", asked.timeout.as_ref(), &PROBE_TIMEOUT_NANOS)?,
        every: every.map(|every| span("every", Some(every), &PROBE_EVERY_NANOS)).transpose()?,
    })
}

/// Something to tell.
pub(crate) fn news(news: &News) -> v1::agent_message::Kind {
    match news {
        News::Status(status) => v1::agent_message::Kind::ProbeStatus(self::status(status)),
        News::Report(report) => v1::agent_message::Kind::ProbeFound(found(report)),
    }
}

fn status(status: &Status) -> v1::ProbeStatus {
    let Status { probe, place, failure } = status;
    let state = if failure.is_some() { v1::ProbeState::ProbeFailed } else { v1::ProbeState::ProbeArmed };
    v1::ProbeStatus {
        probe_id: probe.clone(),
        netns: place.to_string(),
        state: state.into(),
        reason: failure.clone().unwrap_or_default(),
    }
}

/// Of what others say, so much is told at most.
const TEXT_BYTES: usize = 240;
/// Texts of one kind in a result.
const TEXTS: usize = 16;

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_BYTES));
    text
}

fn all(texts: Vec<String>) -> Vec<String> {
    texts.into_iter().take(TEXTS).map(cut).collect()
}

/// A report that the coordinator takes: what makes it too large is left out, the least important first.
fn found(report: &Report) -> v1::ProbeFound {
    const MOST: usize = PROBE_REPORT_BYTES - ROOM_BYTES;
    type Cut = fn(&mut v1::ProbeResult);
    let cuts: [Cut; 3] = [
        |result| result.finding = None,
        |result| result.attempts.iter_mut().for_each(|attempt| attempt.detail.clear()),
        |result| {
            result.attempts.iter_mut().for_each(|attempt| attempt.http = None);
            result.target.truncate(result.target.floor_char_boundary(TEXT_BYTES));
        },
    ];
    let mut found = v1::ProbeFound {
        probe_id: report.probe.clone(),
        run: report.run,
        netns: report.place.to_string(),
        start_unix_nanos: report.start,
        results: report.results.iter().map(result).collect(),
        is_cut: false,
    };
    // Rows that are left out are counted with the others, so this makes no report a cut one.
    let excess = found.encoded_len().saturating_sub(MOST);
    found.results.iter_mut().fold(excess, |excess, result| excess - cut_rows(result, excess));
    for cut in cuts {
        if found.encoded_len() <= MOST {
            break;
        }
        found.results.iter_mut().for_each(cut);
        found.is_cut = true;
    }
    found
}

fn result(found: &Found) -> v1::ProbeResult {
    v1::ProbeResult {
        target: found.target.clone(),
        address: found.address.map(|address| address.to_string()).unwrap_or_default(),
        reason: cut(found.reason.clone()),
        attempts: found.attempts.iter().map(attempt).collect(),
        server: found.server.map(|server| server.to_string()).unwrap_or_default(),
        source_address: found.source.map(|address| address.to_string()).unwrap_or_default(),
        finding: found.finding.as_ref().map(finding),
    }
}

fn finding(finding: &Finding) -> v1::probe_result::Finding {
    use v1::probe_result::Finding as Message;
    match finding.clone() {
        Finding::Dns(Names { name, code, records, tcp, questions }) => {
            Message::Dns(v1::DnsFinding { name: cut(name), code, records: all(records), tcp, questions })
        }
        Finding::Http(Page { status, version, body_bytes, certificate, tls_version, location }) => {
            Message::Http(v1::HttpFinding {
                status: status.into(),
                version,
                body_bytes,
                certificate: certificate.map(self::certificate),
                tls_version,
                location: cut(location),
            })
        }
        Finding::PathMtu(PathMtu { mtu, method, limited_by, interface_mtu }) => {
            let method = match method {
                Method::Interface => v1::PathMtuMethod::PathMtuInterface,
                Method::Icmp => v1::PathMtuMethod::PathMtuIcmp,
                Method::Probing => v1::PathMtuMethod::PathMtuProbing,
                Method::Asked => v1::PathMtuMethod::PathMtuAsked,
            };
            Message::PathMtu(v1::PathMtuFinding {
                mtu: mtu.unwrap_or_default().into(),
                method: method.into(),
                limited_by: limited_by.map(|address| address.to_string()).unwrap_or_default(),
                interface_mtu,
            })
        }
        Finding::Neighbor(Neighbor {
            interface,
            kernel_state,
            kernel_link_address,
            link_addresses,
            is_own,
        }) => Message::Neighbor(v1::NeighborFinding {
            interface,
            kernel_state,
            kernel_link_address,
            link_addresses: all(link_addresses),
            is_own,
        }),
        Finding::Table(Table { table, columns, rows, total, notes }) => Message::Table(v1::TableFinding {
            table: table.message().into(),
            columns: columns.iter().map(ToString::to_string).collect(),
            rows: rows.into_iter().map(|cells| v1::TableRow { cells }).collect(),
            rows_total: total,
            notes: all(notes),
        }),
        Finding::Throughput(seen) => Message::Throughput(throughput::seen(&seen)),
    }
}

/// Takes rows from the end until so many bytes are gone, or no row is left. The bytes that are gone, at most that many.
fn cut_rows(result: &mut v1::ProbeResult, excess: usize) -> usize {
    let Some(v1::probe_result::Finding::Table(table)) = &mut result.finding else { return 0 };
    let mut gone = 0;
    while gone < excess {
        // Without the tag and the length before it, which take more.
        let Some(row) = table.rows.pop() else { break };
        gone += row.encoded_len();
    }
    gone.min(excess)
}

fn certificate(certificate: Certificate) -> v1::ProbeCertificate {
    v1::ProbeCertificate {
        subject: cut(certificate.subject),
        issuer: cut(certificate.issuer),
        names: all(certificate.names),
        not_before: Some(certificate.not_before.into()),
        not_after: Some(certificate.not_after.into()),
        fault: certificate.fault,
    }
}

fn timing(timing: Timing) -> v1::HttpTiming {
    let nanos = |step: Option<Duration>| step.map(|step| step.as_nanos() as u64);
    v1::HttpTiming {
        connected_nanos: nanos(timing.connected),
        secured_nanos: nanos(timing.secured),
        first_byte_nanos: nanos(timing.first_byte),
    }
}

fn attempt(attempt: &Attempt) -> v1::ProbeAttempt {
    let outcome = match attempt.outcome {
        Outcome::Answered => v1::ProbeOutcome::ProbeAnswered,
        Outcome::Refused => v1::ProbeOutcome::ProbeRefused,
        Outcome::Unreachable => v1::ProbeOutcome::ProbeUnreachable,
        Outcome::Silent => v1::ProbeOutcome::ProbeSilent,
        Outcome::NotSent => v1::ProbeOutcome::ProbeNotSent,
        Outcome::Expired => v1::ProbeOutcome::ProbeExpired,
    };
    v1::ProbeAttempt {
        sent_unix_nanos: attempt.sent,
        outcome: outcome.into(),
        delay_nanos: attempt.delay.map(|delay| delay.as_nanos() as u64),
        responder: attempt.responder.map(|address| address.to_string()).unwrap_or_default(),
        detail: cut(attempt.detail.clone()),
        size: attempt.size.unwrap_or_default().into(),
        hop_limit: attempt.hop_limit.unwrap_or_default().into(),
        http: attempt.timing.map(timing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_is_cut_and_a_report_fits_whatever_it_found() {
        let long = "ä".repeat(TEXT_BYTES);
        let names = Names { name: long.clone(), records: vec![long.clone(); TEXTS + 1], ..Names::default() };
        let attempt = Attempt { detail: long.clone(), ..Attempt::silent(i64::MAX) };
        let of = |results: usize, attempts: usize| Report {
            probe: "p-1".into(),
            run: 0,
            place: Place::Host,
            start: 0,
            results: vec![
                Found {
                    attempts: vec![attempt.clone(); attempts],
                    finding: Some(Finding::Dns(names.clone())),
                    ..Found::nothing("x".repeat(2_000), long.clone())
                };
                results
            ],
        };
        let small = found(&of(1, 1));
        assert!(!small.is_cut);
        let v1::probe_result::Finding::Dns(dns) = small.results[0].finding.clone().unwrap() else { panic!() };
        assert_eq!(
            (dns.records.len(), dns.records[0].len(), dns.name.len()),
            (TEXTS, TEXT_BYTES, TEXT_BYTES)
        );
        assert!(small.results[0].attempts[0].detail.len() <= TEXT_BYTES);
        let table = Table {
            table: NodeTable::Conntrack,
            columns: &["a", "b"],
            rows: (0..10_000).map(|n| vec!["x".repeat(100), n.to_string()]).collect(),
            total: 12_345,
            notes: vec![long.clone(); TEXTS + 1],
        };
        let mut large = of(1, 1);
        large.results[0].finding = Some(Finding::Table(table));
        let large = found(&large);
        assert!(!large.is_cut && large.encoded_len() <= PROBE_REPORT_BYTES, "{}", large.encoded_len());
        let Some(v1::probe_result::Finding::Table(table)) = &large.results[0].finding else { panic!() };
        assert!(table.rows.len() > 2_000 && table.rows_total == 12_345, "{}", table.rows.len());
        let last = table.rows.len() - 1;
        assert_eq!(table.rows[last].cells[1], last.to_string(), "they go from the end");
        assert_eq!(table.notes.len(), TEXTS);
        for (results, attempts) in [(64, 15), (512, 1), (1, 1_000)] {
            let found = found(&of(results, attempts));
            assert!(
                found.is_cut && found.encoded_len() <= PROBE_REPORT_BYTES,
                "{results}: {}",
                found.encoded_len()
            );
            assert_eq!(
                found.results.iter().map(|result| result.attempts.len()).sum::<usize>(),
                results * attempts
            );
        }
    }
}
