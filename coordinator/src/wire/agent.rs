//! The control stream of an agent.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use bytes::Bytes;
use lastseen_proto::limits::{PROBE_CELL_BYTES, PROBE_COLUMNS, THROUGHPUT_SECONDS};
use lastseen_proto::v1::probe_result::Finding;
use lastseen_proto::{PROTOCOL_VERSION, v1};
use prost::Message;

use super::probe::source_message;
use super::{batch, bounded};
use crate::clock::Exchange;
use crate::error::Error;
use crate::ingest::{check_capture_id, check_point};
use crate::jobs::{Left, Status};
use crate::limits;
use crate::model::{Capability, Counters, NodeRecord, PointStatus, State};
use crate::probes::model::{News, Source, What};

/// What an agent says when it comes.
pub struct Introduction {
    /// Who it is.
    pub record: NodeRecord,
    /// Captures it still works on.
    pub works_on: BTreeSet<String>,
    /// What earlier processes left to be sent, by capture.
    pub left: BTreeMap<String, Vec<Left>>,
    /// Probes it has.
    pub probes: Vec<String>,
}

/// An agent's introduction. `node` is the name in its certificate.
pub fn register(message: v1::Register, node: &str, now_nanos: i64) -> Result<Introduction, Error> {
    if message.node_name != node {
        let shown = bounded(message.node_name);
        return Err(Error::Denied(format!(
            "node_name: {shown:?} is not the node of the certificate, {node:?}; start the agent with --node-name {node}"
        )));
    }
    check_version(&message)?;
    let ids = message.capture_ids.into_iter().filter(|id| check_capture_id(id).is_ok());
    let works_on = ids.take(2 * limits::CAPTURES_PER_FABRIC).collect();
    let ids = message.probe_ids.into_iter().filter(|id| check_capture_id(id).is_ok());
    let probes = ids.take(limits::PROBES_PER_NODE).collect();
    let record = NodeRecord {
        name: message.node_name,
        agent_version: bounded(message.agent_version),
        kernel: bounded(message.kernel),
        incarnation: message.incarnation,
        last_seen_nanos: now_nanos,
        capabilities: message.capabilities.into_iter().take(limits::CAPABILITIES).map(capability).collect(),
        topology: message.topology.unwrap_or_default().encode_to_vec().into(),
    };
    Ok(Introduction { record, works_on, left: left(message.spooled), probes })
}

/// When the certificate ends that an agent would connect with now. Absent from older agents.
pub fn certificate_end(beat: &v1::Heartbeat) -> Option<SystemTime> {
    SystemTime::try_from(beat.certificate_not_after?).ok()
}

fn left(spooled: Vec<v1::SpooledPoint>) -> BTreeMap<String, Vec<Left>> {
    let mut left: BTreeMap<String, Vec<Left>> = BTreeMap::new();
    for message in spooled.into_iter().take(limits::SPOOLED_POINTS) {
        let Some(point) = message.point.map(batch::point) else { continue };
        if check_capture_id(&message.capture_id).and_then(|()| check_point(&point.key)).is_err() {
            continue;
        }
        let status = PointStatus { point, counters: Counters::default(), batches: message.batches };
        left.entry(message.capture_id).or_default().push(Left { incarnation: message.incarnation, status });
    }
    left
}

fn check_version(message: &v1::Register) -> Result<(), Error> {
    let (theirs, ours) = (message.protocol_version, PROTOCOL_VERSION);
    if theirs / 1000 == ours / 1000 {
        return Ok(());
    }
    let show = |version: u32| format!("{}.{}", version / 1000, version % 1000);
    Err(Error::Incompatible(format!(
        "protocol_version: the agent ({}) speaks {}, the coordinator ({}) {}; upgrade the older of the two",
        bounded(message.agent_version.clone()),
        show(theirs),
        env!("CARGO_PKG_VERSION"),
        show(ours)
    )))
}

fn capability(message: v1::Capability) -> Capability {
    Capability { name: bounded(message.name), available: message.available, reason: bounded(message.reason) }
}

/// The answer to an introduction.
pub fn registered() -> v1::CoordinatorMessage {
    message(v1::coordinator_message::Kind::Registered(v1::Registered {
        coordinator_version: env!("CARGO_PKG_VERSION").to_owned(),
        heartbeat_interval_millis: limits::HEARTBEAT.as_millis() as u32,
        max_batch_bytes: limits::BATCH_BYTES as u32,
    }))
}

/// A clock ping.
pub fn ping(sequence: u64, sent_unix_nanos: i64) -> v1::CoordinatorMessage {
    message(v1::coordinator_message::Kind::ClockPing(v1::ClockPing { sequence, sent_unix_nanos }))
}

/// A finished clock exchange, by a coordinator's clock with this bound of its error.
pub fn exchange(reply: v1::ClockReply, received_nanos: i64, coordinator_error_nanos: i64) -> Exchange {
    Exchange {
        sent_nanos: reply.ping_unix_nanos,
        node_received_nanos: reply.received_monotonic_nanos,
        node_sent_nanos: reply.sent_monotonic_nanos,
        received_nanos,
        realtime_minus_monotonic_nanos: reply.realtime_minus_monotonic_nanos,
        coordinator_error_nanos,
    }
}

/// What an agent says about its part of a capture. Absent when its state is none that an agent may have.
pub fn status(message: v1::CaptureStatus, incarnation: u64) -> Option<(String, Status)> {
    let state = State::from_number(message.state)?;
    if matches!(state, State::Pending | State::Arming | State::Correlating) {
        return None;
    }
    let points = message.points.into_iter().take(limits::POINTS_PER_NODE).filter_map(batch::point_status);
    let status = Status {
        incarnation,
        state,
        reason: bounded(message.reason),
        points: points.filter(|status| check_point(&status.point.key).is_ok()).collect(),
        coverage: message.coverage.into_iter().take(limits::COVERAGE_NOTES).map(bounded).collect(),
        translations: message.translations.filter(|_| state == State::Completed).map(translations),
    };
    Some((message.capture_id, status))
}

/// What is stored of the connections that a node translated: no more than a node may tell.
fn translations(mut told: v1::NodeTranslations) -> Bytes {
    let excess = told.connections.len().saturating_sub(limits::TRANSLATIONS);
    told.connections.truncate(limits::TRANSLATIONS);
    told.omitted = told.omitted.saturating_add(excess as u64);
    told.encode_to_vec().into()
}

/// What an agent says of its part. None: of no probe that there can be, or a state that no part can be in.
pub fn probe_status(message: v1::ProbeStatus, node: &str) -> Option<News> {
    check_capture_id(&message.probe_id).ok()?;
    let what = match message.state() {
        v1::ProbeState::ProbeArmed => What::Armed,
        v1::ProbeState::ProbeFailed => What::Failed(bounded(message.reason)),
        _ => return None,
    };
    Some(News { probe: message.probe_id, source: own(message.netns, node), what })
}

/// What an agent reports; dropped, if it is more than a probe can come to. None: of no probe that there can be.
pub fn probe_found(message: v1::ProbeFound, node: &str) -> Option<News> {
    check_capture_id(&message.probe_id).ok()?;
    let source = own(message.netns, node);
    let attempts: usize = message.results.iter().map(|result| result.attempts.len()).sum();
    // Each name server has a result of its own.
    let most = limits::PROBE_TARGETS * limits::PROBE_SERVERS;
    let dropped = |reason: String, run, source: Source, probe| {
        Some(News { probe, source, what: What::Dropped { run, reason } })
    };
    if message.results.len() > most || attempts > limits::PROBE_ATTEMPTS {
        let reason =
            format!("{} results and {attempts} attempts are more than a probe has", message.results.len());
        return dropped(reason, message.run, source, message.probe_id);
    }
    let attempt = |attempt: v1::ProbeAttempt| v1::ProbeAttempt {
        responder: bounded(attempt.responder),
        detail: bounded(attempt.detail),
        ..attempt
    };
    let result = |result: v1::ProbeResult| v1::ProbeResult {
        target: bounded(result.target),
        address: bounded(result.address),
        reason: bounded(result.reason),
        attempts: result.attempts.into_iter().map(attempt).collect(),
        source_address: bounded(result.source_address),
        server: bounded(result.server),
        finding: result.finding.map(finding),
    };
    let kept = v1::ProbeReport {
        run: message.run,
        source: Some(source_message(&source)),
        start_unix_nanos: message.start_unix_nanos,
        results: message.results.into_iter().map(result).collect(),
        is_cut: message.is_cut,
    };
    let (content, run) = (kept.encode_to_vec(), message.run);
    if content.len() > limits::PROBE_REPORT_BYTES {
        let most = limits::PROBE_REPORT_BYTES;
        let reason = format!(
            "its report has {} bytes, above the limit of {most}; probe fewer targets at once",
            content.len()
        );
        return dropped(reason, run, source, message.probe_id);
    }
    Some(News { probe: message.probe_id, source, what: What::Report { run, content } })
}

fn finding(finding: Finding) -> Finding {
    let all = |texts: Vec<String>| texts.into_iter().take(limits::PROBE_FOUND).map(bounded).collect();
    match finding {
        Finding::Dns(dns) => Finding::Dns(v1::DnsFinding {
            name: bounded(dns.name),
            code: bounded(dns.code),
            records: all(dns.records),
            ..dns
        }),
        Finding::Http(http) => Finding::Http(v1::HttpFinding {
            version: bounded(http.version),
            tls_version: bounded(http.tls_version),
            location: bounded(http.location),
            certificate: http.certificate.map(|certificate| v1::ProbeCertificate {
                subject: bounded(certificate.subject),
                issuer: bounded(certificate.issuer),
                names: all(certificate.names),
                fault: bounded(certificate.fault),
                ..certificate
            }),
            ..http
        }),
        Finding::PathMtu(path) => {
            Finding::PathMtu(v1::PathMtuFinding { limited_by: bounded(path.limited_by), ..path })
        }
        Finding::Neighbor(neighbor) => Finding::Neighbor(v1::NeighborFinding {
            interface: bounded(neighbor.interface),
            kernel_state: bounded(neighbor.kernel_state),
            kernel_link_address: bounded(neighbor.kernel_link_address),
            link_addresses: all(neighbor.link_addresses),
            is_own: neighbor.is_own,
        }),
        Finding::Table(table) => Finding::Table(self::table(table)),
        Finding::Throughput(mut seen) => {
            seen.intervals.truncate(THROUGHPUT_SECONDS);
            Finding::Throughput(seen)
        }
    }
}

/// A row that has not as many cells as there are columns is none. How many rows there are, the length of a report bounds.
fn table(table: v1::TableFinding) -> v1::TableFinding {
    let columns: Vec<String> = table.columns.into_iter().take(PROBE_COLUMNS).map(cell).collect();
    let row = |row: v1::TableRow| v1::TableRow { cells: row.cells.into_iter().map(cell).collect() };
    let told = table.rows.len() as u64;
    let rows = table.rows.into_iter().filter(|row| row.cells.len() == columns.len());
    v1::TableFinding {
        table: table.table,
        rows: rows.map(row).collect(),
        rows_total: table.rows_total.max(told),
        notes: table.notes.into_iter().take(limits::PROBE_FOUND).map(bounded).collect(),
        columns,
    }
}

fn cell(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(PROBE_CELL_BYTES));
    text
}

/// An agent speaks of its own node only.
fn own(netns: String, node: &str) -> Source {
    Source { node: node.to_owned(), netns: bounded(netns) }
}

fn message(kind: v1::coordinator_message::Kind) -> v1::CoordinatorMessage {
    v1::CoordinatorMessage { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(index: usize) -> v1::ObservationPoint {
        v1::ObservationPoint {
            interface: "eth0".into(),
            index: index as u32,
            direction: 1,
            ..Default::default()
        }
    }

    fn spooled(capture: &str, index: usize) -> v1::SpooledPoint {
        v1::SpooledPoint { capture_id: capture.into(), point: Some(point(index)), ..Default::default() }
    }

    /// What is kept of so many of something.
    type Kept = fn(usize) -> usize;

    fn introduced(message: v1::Register) -> Introduction {
        let message = v1::Register { protocol_version: PROTOCOL_VERSION, ..message };
        register(message, "", 0).unwrap_or_else(|error| panic!("{error}"))
    }

    fn told(message: v1::CaptureStatus) -> Status {
        status(v1::CaptureStatus { state: State::Completed as i32, ..message }, 1).unwrap().1
    }

    #[test]
    fn what_an_agent_says_is_kept_up_to_the_limit_and_cut_beyond_it() {
        let limits: [(&str, usize, Kept); 7] = [
            ("captures", 2 * limits::CAPTURES_PER_FABRIC, |n| {
                let capture_ids = (0..n).map(|n| format!("c-{n}")).collect();
                introduced(v1::Register { capture_ids, ..Default::default() }).works_on.len()
            }),
            ("capabilities", limits::CAPABILITIES, |n| {
                let capabilities = vec![v1::Capability::default(); n];
                introduced(v1::Register { capabilities, ..Default::default() }).record.capabilities.len()
            }),
            ("spooled points", limits::SPOOLED_POINTS, |n| {
                let spooled = (0..n).map(|index| spooled("c-1", index)).collect();
                introduced(v1::Register { spooled, ..Default::default() }).left.values().map(Vec::len).sum()
            }),
            ("text", limits::AGENT_TEXT_BYTES, |n| {
                told(v1::CaptureStatus { reason: "x".repeat(n), ..Default::default() }).reason.len()
            }),
            ("points", limits::POINTS_PER_NODE, |n| {
                let status = |index| v1::PointStatus { point: Some(point(index)), ..Default::default() };
                let points = (0..n).map(status).collect();
                told(v1::CaptureStatus { points, ..Default::default() }).points.len()
            }),
            ("coverage notes", limits::COVERAGE_NOTES, |n| {
                told(v1::CaptureStatus { coverage: vec![String::new(); n], ..Default::default() })
                    .coverage
                    .len()
            }),
            ("translations", limits::TRANSLATIONS, |n| {
                let connections = vec![v1::TranslatedConnection::default(); n];
                let translations = Some(v1::NodeTranslations { connections, ..Default::default() });
                let told =
                    told(v1::CaptureStatus { translations, ..Default::default() }).translations.unwrap();
                let told = v1::NodeTranslations::decode(told).unwrap();
                assert_eq!(told.omitted as usize + told.connections.len(), n, "what is cut is counted");
                told.connections.len()
            }),
        ];
        for (what, limit, kept) in limits {
            assert_eq!([limit - 1, limit, limit + 1].map(kept), [limit - 1, limit, limit], "{what}");
        }
    }

    #[test]
    fn an_id_that_no_capture_has_is_not_kept() {
        let longest = "c".repeat(limits::CAPTURE_ID_BYTES);
        let ids = [&longest, &format!("{longest}c"), "", "c\0"];
        let came = introduced(v1::Register {
            capture_ids: ids.map(str::to_owned).into(),
            spooled: ids.map(|id| spooled(id, 2)).into(),
            ..Default::default()
        });
        assert_eq!(came.works_on.iter().collect::<Vec<_>>(), [&longest]);
        assert_eq!(came.left.keys().collect::<Vec<_>>(), [&longest]);
    }

    #[test]
    fn what_a_result_tells_is_bounded() {
        let (many, long) =
            (vec![String::new(); limits::PROBE_FOUND + 1], "x".repeat(limits::AGENT_TEXT_BYTES + 1));
        let certificate =
            v1::ProbeCertificate { names: many.clone(), subject: long.clone(), ..Default::default() };
        let kept = |told: Finding| {
            let results = vec![v1::ProbeResult { finding: Some(told), ..Default::default() }];
            let message = v1::ProbeFound { probe_id: "p-1".into(), results, ..Default::default() };
            let What::Report { content, .. } = probe_found(message, "node-a").unwrap().what else { panic!() };
            let report = v1::ProbeReport::decode(content.as_slice()).unwrap();
            report.results[0].finding.clone().unwrap()
        };
        let dns = v1::DnsFinding { records: many.clone(), name: long.clone(), ..Default::default() };
        let Finding::Dns(dns) = kept(Finding::Dns(dns)) else { panic!() };
        assert_eq!((dns.records.len(), dns.name.len()), (limits::PROBE_FOUND, limits::AGENT_TEXT_BYTES));
        let page = v1::HttpFinding { certificate: Some(certificate), ..Default::default() };
        let Finding::Http(page) = kept(Finding::Http(page)) else { panic!() };
        let certificate = page.certificate.unwrap();
        assert_eq!(
            (certificate.names.len(), certificate.subject.len()),
            (limits::PROBE_FOUND, limits::AGENT_TEXT_BYTES)
        );
        let neighbor =
            v1::NeighborFinding { link_addresses: many, interface: long.clone(), ..Default::default() };
        let Finding::Neighbor(neighbor) = kept(Finding::Neighbor(neighbor)) else { panic!() };
        assert_eq!(
            (neighbor.link_addresses.len(), neighbor.interface.len()),
            (limits::PROBE_FOUND, limits::AGENT_TEXT_BYTES)
        );
        let cells = |number: usize| v1::TableRow { cells: vec![long.clone(); number] };
        let told = v1::TableFinding {
            columns: vec![long.clone(); PROBE_COLUMNS + 1],
            rows: [PROBE_COLUMNS - 1, PROBE_COLUMNS, PROBE_COLUMNS + 1].map(cells).into(),
            notes: vec![long.clone(); limits::PROBE_FOUND + 1],
            ..Default::default()
        };
        let Finding::Table(table) = kept(Finding::Table(told)) else { panic!() };
        assert_eq!((table.columns.len(), table.notes.len()), (PROBE_COLUMNS, limits::PROBE_FOUND));
        assert_eq!((table.rows.len(), table.rows_total), (1, 3), "what is no row is counted with the others");
        assert_eq!(table.rows[0].cells, vec!["x".repeat(PROBE_CELL_BYTES); PROBE_COLUMNS]);
        assert_eq!(table.notes[0].len(), limits::AGENT_TEXT_BYTES);
        let intervals = vec![v1::throughput_finding::Interval::default(); THROUGHPUT_SECONDS + 1];
        let seen = v1::ThroughputFinding { intervals, ..Default::default() };
        let Finding::Throughput(seen) = kept(Finding::Throughput(seen)) else { panic!() };
        assert_eq!(seen.intervals.len(), THROUGHPUT_SECONDS);
        let path = v1::PathMtuFinding { limited_by: long, ..Default::default() };
        let Finding::PathMtu(path) = kept(Finding::PathMtu(path)) else { panic!() };
        assert_eq!(path.limited_by.len(), limits::AGENT_TEXT_BYTES);
    }
}
