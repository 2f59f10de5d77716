//! What a coordinator may tell an agent, through the agent's conversion: whatever it is, a job that is taken can be named,
//! and one that is refused says why.

#![no_main]

#[path = "../../node-agent/src/probe/attempt.rs"]
#[allow(dead_code, reason = "the agent uses more of it")]
mod attempt;
#[path = "../../node-agent/src/probe/board.rs"]
#[allow(dead_code, reason = "the agent uses more of it")]
mod board;
mod common;
#[path = "../../node-agent/src/capture/counters.rs"]
#[allow(dead_code, reason = "the agent uses more of it")]
mod counters;
#[path = "../../node-agent/src/probe/spec.rs"]
#[allow(dead_code, reason = "the agent uses more of it")]
mod probe_spec;
#[path = "../../node-agent/src/probe/report.rs"]
#[allow(dead_code, reason = "the agent uses more of it")]
mod report;
#[path = "../../node-agent/src/job/spec.rs"]
#[allow(dead_code, reason = "the agent uses more of it")]
mod spec;
#[path = "../../node-agent/src/job/status.rs"]
#[allow(dead_code, reason = "the agent uses more of it")]
mod status;
#[path = "../../node-agent/src/wire/mod.rs"]
#[allow(dead_code, reason = "the agent uses more of it")]
mod wire;

use std::ffi::CString;
use std::net::SocketAddr;

use common::{planted, seeds};
use lastseen_proto::limits::{CAPTURE_ID_BYTES, PROBE_TARGETS, SNAP_LENGTH};
use lastseen_proto::v1;
use lastseen_proto::v1::coordinator_message::Kind;
use libfuzzer_sys::fuzz_target;
use prost::Message;

/// What the conversion names of the agent, without what it is made of: the compiler says when one of them differs.
mod capture {
    pub mod backend {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(dead_code, reason = "only converted")]
        pub enum Direction {
            In,
            Out,
        }
    }
    pub(crate) use super::counters;
}

mod conntrack {
    use lastseen_packet::observation::FlowKey;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Translation {
        pub original: FlowKey,
        pub reply: FlowKey,
    }

    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Told {
        pub translations: Vec<Translation>,
        pub omitted: u64,
    }
}

mod job {
    pub(crate) use super::{spec, status};
}

mod probe {
    pub(crate) use super::{attempt, board, probe_spec as spec, report};
}

/// The coordinator's own address.
const DIALED: &str = "10.0.0.5:7443";

fuzz_target!(init: seeds(messages()), |data: &[u8]| {
    let Ok(message) = v1::CoordinatorMessage::decode(data) else { return };
    match message.kind {
        Some(Kind::ArmCapture(arm)) => told_to_arm(arm),
        Some(Kind::ArmProbe(arm)) => told_to_probe(arm),
        _ => {}
    }
});

fn told_to_arm(arm: v1::ArmCapture) {
    let (length, endpoints) = (arm.encoded_len(), arm.fabric_endpoints.len());
    let dialed: [SocketAddr; 1] = [DIALED.parse().unwrap()];
    let spec = match wire::capture::spec(arm, &dialed) {
        Ok(spec) => spec,
        Err(reason) => {
            assert!(!reason.is_empty() && reason.len() < 200 + 10 * length, "{reason}");
            return;
        }
    };
    assert!((1..=CAPTURE_ID_BYTES).contains(&spec.capture.len()));
    // As threads are named.
    assert!(CString::new(spec.capture.as_str()).is_ok(), "{:?}", spec.capture);
    assert!(SNAP_LENGTH.contains(&spec.snap_length));
    assert!((1..=1 + endpoints).contains(&spec.own_endpoints.len()));
    planted(|| spec.own_endpoints.len() > 2 && !spec.sampling.is_all());
    let failed = status::Status::failed(spec.capture.clone(), String::new());
    assert_eq!(wire::capture::status(&failed).capture_id, spec.capture);
}

fn told_to_probe(arm: v1::ArmProbe) {
    let length = arm.encoded_len();
    let spec = match wire::probe::spec(arm) {
        Ok(spec) => spec,
        Err(reason) => {
            assert!(!reason.is_empty() && reason.len() < 2_000 + 10 * length, "{reason}");
            return;
        }
    };
    assert!(CString::new(spec.probe.as_str()).is_ok(), "{:?}", spec.probe);
    assert!(!spec.places.is_empty());
    for place in &spec.places {
        assert!((1..=PROBE_TARGETS).contains(&spec.targets_of(place).len()), "{place}");
        assert_eq!(place.to_string().parse().as_ref(), Ok(place));
        assert!(!place.to_string().contains('/'), "{place}");
    }
    for run in [0, 1, u64::MAX] {
        let _ =
            (spec.schedule.begin(run), spec.schedule.next(run, i64::MIN), spec.schedule.next(run, i64::MAX));
    }
    assert!(spec.is_like(&spec));
}

fn messages() -> Vec<(&'static str, Vec<u8>)> {
    let told = |kind| v1::CoordinatorMessage { kind: Some(kind) }.encode_to_vec();
    let spec = v1::CaptureSpec {
        filter: "udp port 53".into(),
        interfaces: vec!["eth0".into()],
        snap_length: Some(96),
        sampling_interval: Some(1),
        ..Default::default()
    };
    let arm = |capture: &str, endpoints: &[&str]| {
        told(Kind::ArmCapture(v1::ArmCapture {
            capture_id: capture.into(),
            spec: Some(spec.clone()),
            identity_key: vec![5; 16].into(),
            fabric_endpoints: endpoints.iter().map(|&endpoint| endpoint.into()).collect(),
            ..Default::default()
        }))
    };
    let span = |nanos| prost_types::Duration { seconds: 0, nanos };
    let probe = v1::ArmProbe {
        probe_id: "p-7f3kab".into(),
        spec: Some(v1::ProbeSpec {
            sources: vec![v1::ProbeSource { node: "node-a".into(), netns: "blue".into() }],
            targets: vec!["[fd00::1]:80".into(), "dns:53".into()],
            kind: Some(v1::probe_spec::Kind::Udp(v1::UdpProbe::default())),
            count: Some(3),
            interval: Some(span(10_000_000)),
            timeout: Some(span(20_000_000)),
            every: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
            ..Default::default()
        }),
        start_monotonic_nanos: 5,
        allowed_networks: vec!["10.0.0.0/8".into()],
        first_run: 2,
    };
    let blue = v1::ProbeSource { node: "node-a".into(), netns: "blue".into() };
    let member = v1::MeshMember {
        source: Some(blue.clone()),
        address: "10.0.0.1".into(),
        targets: vec!["10.0.0.2:80".into(), "10.0.0.3:80".into()],
    };
    let mesh = v1::ProbeSpec {
        sources: vec![blue],
        targets: Vec::new(),
        kind: Some(v1::probe_spec::Kind::Tcp(v1::TcpProbe {})),
        mesh: Some(v1::Mesh { neighbors: Some(2), port: 80, members: vec![member], ..Default::default() }),
        ..probe.spec.clone().unwrap()
    };
    let mesh = v1::ArmProbe { spec: Some(mesh), ..probe.clone() };
    let throughput = v1::ThroughputProbe {
        protocol: v1::ThroughputProtocol::ThroughputUdp.into(),
        duration: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
        bits_per_second: Some(10_000_000),
        max_bytes: Some(1_000_000),
        to: Some(v1::ProbeSource { node: "node-a".into(), netns: "blue".into() }),
        token: vec![5; 16].into(),
        senders: vec!["10.0.0.1".into(), "fd00::1".into()],
        ..Default::default()
    };
    let throughput = v1::ProbeSpec {
        targets: vec!["10.0.0.2:20001".into()],
        kind: Some(v1::probe_spec::Kind::Throughput(throughput)),
        ..probe.spec.clone().unwrap()
    };
    let throughput = v1::ArmProbe { spec: Some(throughput), ..probe.clone() };
    let end = v1::EndCapture { capture_id: "c-1".into(), end_monotonic_nanos: Some(7) };
    vec![
        ("arm", arm("c-7f3k", &[])),
        ("arm-beside-others", arm("c-7f3k", &["10.0.0.6:7443", "[fd00::6]:7443"])),
        ("arm-without-a-name", arm("", &[])),
        ("probe", told(Kind::ArmProbe(probe))),
        ("mesh", told(Kind::ArmProbe(mesh))),
        ("throughput", told(Kind::ArmProbe(throughput))),
        ("end", told(Kind::EndCapture(end))),
    ]
}
