//! What an agent may say, on its control stream and of its batches, through the coordinator's conversions and checks:
//! whatever it is, what comes out keeps to the limits.

#![no_main]

#[path = "../../coordinator/src/wire/agent.rs"]
#[allow(dead_code, reason = "the coordinator uses more of it")]
mod agent;
#[path = "../../coordinator/src/wire/batch.rs"]
#[allow(dead_code, reason = "the coordinator uses more of it")]
mod batch;
#[path = "../../coordinator/src/clock.rs"]
#[allow(dead_code, reason = "the coordinator uses more of it")]
mod clock;
mod common;
#[path = "agent_message/coordinator.rs"]
mod coordinator;
#[path = "../../coordinator/src/ingest/check.rs"]
#[allow(dead_code, reason = "the coordinator uses more of it")]
mod ingest;
#[path = "../../coordinator/src/limits.rs"]
#[allow(dead_code, unused_imports, reason = "the coordinator uses more of it")]
mod limits;
#[path = "../../coordinator/src/model.rs"]
#[allow(dead_code, reason = "the coordinator uses more of it")]
mod model;
#[path = "../../coordinator/src/probes/pairs.rs"]
#[allow(dead_code, reason = "the coordinator uses more of it")]
mod pairs;
#[path = "../../coordinator/src/probes/model.rs"]
#[allow(dead_code, reason = "the coordinator uses more of it")]
mod probe_model;
#[path = "../../coordinator/src/wire/text.rs"]
mod text;

use clock::ClockFilter;
use common::{planted, seeds};
use coordinator::{error, jobs};
use lastseen_correlate::input::Translation;
use lastseen_correlate::topology::Topology;
use lastseen_proto::v1::agent_message::Kind;
use lastseen_proto::{PROTOCOL_VERSION, v1};
use libfuzzer_sys::fuzz_target;
use probe_model::{News, What};
use prost::Message;
use text::bounded;

mod probes {
    pub(crate) use super::{pairs, probe_model as model};
}

const NODE: &str = "node-a";

fuzz_target!(init: seeds(messages()), |data: &[u8]| {
    let Some((&what, data)) = data.split_first() else { return };
    if what % 2 == 0 {
        let Ok(message) = v1::AgentMessage::decode(data) else { return };
        heard(message.kind);
    } else {
        let Ok(message) = v1::ObservationBatch::decode(data) else { return };
        arrived(message);
    }
});

fn heard(kind: Option<Kind>) {
    match kind {
        Some(Kind::Register(message)) => {
            let topology = message.topology.clone().unwrap_or_default();
            registered(message);
            network(&topology);
        }
        Some(Kind::CaptureStatus(message)) => status(message),
        Some(Kind::Topology(topology)) => network(&topology),
        Some(Kind::ClockReply(reply)) => {
            let mut clock = ClockFilter::default();
            for received_nanos in [i64::MIN, 0, i64::MAX] {
                clock.add(&agent::exchange(reply, received_nanos, 1));
                let _ = clock.best(received_nanos);
            }
        }
        Some(Kind::Heartbeat(beat)) => {
            let _ = agent::certificate_end(&beat);
        }
        Some(Kind::ProbeStatus(message)) => {
            if let Some(news) = agent::probe_status(message, NODE) {
                probed(&news);
            }
        }
        Some(Kind::ProbeFound(message)) => {
            if let Some(news) = agent::probe_found(message, NODE) {
                probed(&news);
            }
        }
        None => {}
    }
}

fn probed(news: &News) {
    assert!((1..=limits::CAPTURE_ID_BYTES).contains(&news.probe.len()));
    assert!(news.source.node == NODE && news.source.netns.len() <= limits::AGENT_TEXT_BYTES);
    match &news.what {
        What::Armed => {}
        What::Failed(reason) | What::Dropped { reason, .. } => {
            assert!(reason.len() <= limits::AGENT_TEXT_BYTES);
        }
        What::Report { run, content } => {
            assert!(content.len() <= limits::PROBE_REPORT_BYTES);
            let report = v1::ProbeReport::decode(content.as_slice()).expect("what was encoded a moment ago");
            let most = limits::PROBE_TARGETS * limits::PROBE_SERVERS;
            assert!(report.run == *run && report.results.len() <= most);
            let attempts: usize = report.results.iter().map(|result| result.attempts.len()).sum();
            assert!(attempts <= limits::PROBE_ATTEMPTS);
        }
    }
}

fn registered(message: v1::Register) {
    let Ok(came) = agent::register(message, NODE, 0) else { return };
    let texts = [&came.record.agent_version, &came.record.kernel];
    assert!(texts.iter().all(|text| text.len() <= limits::AGENT_TEXT_BYTES));
    assert!(came.works_on.len() <= 2 * limits::CAPTURES_PER_FABRIC);
    assert!(came.record.capabilities.len() <= limits::CAPABILITIES);
    assert!(came.works_on.iter().chain(came.left.keys()).all(|id| id.len() <= limits::CAPTURE_ID_BYTES));
    assert!(came.left.values().map(Vec::len).sum::<usize>() <= limits::SPOOLED_POINTS);
}

fn status(message: v1::CaptureStatus) {
    let Some((_, status)) = agent::status(message, 7) else { return };
    assert!(status.points.len() <= limits::POINTS_PER_NODE);
    assert!(status.points.iter().all(|status| ingest::check_point(&status.point.key).is_ok()));
    assert!(status.coverage.len() <= limits::COVERAGE_NOTES);
    assert!(
        status.coverage.iter().chain([&status.reason]).all(|text| text.len() <= limits::AGENT_TEXT_BYTES)
    );
    let Some(told) = status.translations else { return };
    let told = v1::NodeTranslations::decode(told).expect("what was encoded a moment ago");
    assert!(told.connections.len() <= limits::TRANSLATIONS);
    for connection in &told.connections {
        let _ = Translation::try_from(connection);
    }
}

fn network(topology: &v1::NodeTopology) {
    if let Err(error) = Topology::try_from(topology) {
        assert!(error.to_string().len() < 1_000 + topology.encoded_len());
    }
}

fn arrived(message: v1::ObservationBatch) {
    let length = message.encoded_len();
    let Ok((arrived, _)) = batch::arrived(NODE, message) else { return };
    let (key, rows) = (arrived.key.clone(), arrived.rows);
    match ingest::check(arrived, Some(&coordinator::running())) {
        Ok(batch) => {
            assert_eq!((batch.key, batch.rows, batch.bytes.len()), (key.clone(), rows, length));
            assert!(
                key.capture.len() <= limits::CAPTURE_ID_BYTES && key.sequence < limits::BATCHES_PER_POINT
            );
        }
        Err(error) => {
            assert!(error.to_string().len() < 1_000, "{error}");
            planted(|| matches!(error, ingest::CheckError::Window { .. }));
        }
    }
}

fn point() -> v1::ObservationPoint {
    v1::ObservationPoint { interface: "eth0".into(), index: 2, direction: 1, ..Default::default() }
}

fn messages() -> Vec<(&'static str, Vec<u8>)> {
    let said = |kind| [vec![0], v1::AgentMessage { kind: Some(kind) }.encode_to_vec()].concat();
    let register = || v1::Register {
        node_name: NODE.into(),
        protocol_version: PROTOCOL_VERSION,
        capture_ids: vec!["c-1".into()],
        ..Default::default()
    };
    let left = |capture: &str| v1::SpooledPoint {
        capture_id: capture.into(),
        point: Some(point()),
        incarnation: 1,
        batches: 2,
    };
    let able = v1::Capability { name: "rings".into(), available: true, ..Default::default() };
    let tuple = v1::ConnectionTuple {
        source: vec![10, 1, 0, 2].into(),
        destination: vec![10, 2, 0, 2].into(),
        ..Default::default()
    };
    let connection =
        v1::TranslatedConnection { protocol: 17, original: Some(tuple.clone()), reply: Some(tuple) };
    let interface = v1::Interface {
        name: "eth0".into(),
        index: 2,
        addresses: vec!["10.1.0.2/24".into()],
        ..Default::default()
    };
    let route =
        v1::Route { destination: "0.0.0.0/0".into(), gateway: "10.1.0.1".into(), ..Default::default() };
    let status = v1::CaptureStatus {
        capture_id: "c-1".into(),
        state: v1::CaptureState::Completed.into(),
        coverage: vec!["late".into()],
        points: vec![v1::PointStatus { point: Some(point()), batches: 3, ..Default::default() }],
        translations: Some(v1::NodeTranslations { connections: vec![connection], ..Default::default() }),
        ..Default::default()
    };
    let attempt = v1::ProbeAttempt { outcome: 1, delay_nanos: Some(7), ..Default::default() };
    let result = v1::ProbeResult { target: "10.1.0.2".into(), attempts: vec![attempt], ..Default::default() };
    let found = v1::ProbeFound { probe_id: "p-1".into(), results: vec![result], ..Default::default() };
    let failed = v1::ProbeStatus {
        probe_id: "p-1".into(),
        state: v1::ProbeState::ProbeFailed.into(),
        reason: "why".into(),
        ..Default::default()
    };
    let network = v1::NodeTopology { interfaces: vec![interface], routes: vec![route], ..Default::default() };
    vec![
        ("register", said(Kind::Register(register()))),
        ("register-left", said(Kind::Register(v1::Register { spooled: vec![left("c-1")], ..register() }))),
        ("register-able", said(Kind::Register(v1::Register { capabilities: vec![able], ..register() }))),
        ("status", said(Kind::CaptureStatus(status))),
        ("probe", said(Kind::ProbeFound(found))),
        ("probe-failed", said(Kind::ProbeStatus(failed))),
        ("topology", said(Kind::Topology(network))),
        ("clock", said(Kind::ClockReply(v1::ClockReply { sequence: 1, ..Default::default() }))),
        ("batch", [vec![1], coordinator::batch(point()).encode_to_vec()].concat()),
    ]
}
