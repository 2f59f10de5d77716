//! Things to store. No two numbers alike, so that a mixed-up column shows.

use std::collections::BTreeMap;

use bytes::Bytes;
use lastseen_coordinator::model::{
    BatchKey, Capability, Capture, CheckedBatch, ClockFix, Counters, IdentityKey, NodeRecord, Part, Point,
    PointKey, PointStatus, Spec, State, Window,
};
use lastseen_coordinator::store::{Location, Placed};
use lastseen_correlate::report::{Aggregate, FlowRecord, OverlayReport};
use lastseen_correlate::topology::Direction;
use lastseen_packet::observation::OverlayKind;

pub(crate) fn spec() -> Spec {
    Spec {
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        name: "mtu".into(),
        labels: BTreeMap::from([("team".into(), "net".into())]),
        all_nodes: false,
        nodes: vec!["node-a".into()],
        filter: "tcp port 80".into(),
        interfaces: vec!["eth0".into()],
        duration_nanos: 30,
        max_packets: Some(u64::MAX),
        max_bytes: None,
        snap_length: 192,
        start_at_nanos: Some(5),
        sampling_interval: 4,
    }
}

pub(crate) fn point(interface: &str) -> Point {
    let key = PointKey { netns: String::new(), interface: interface.into(), index: 2, direction: 1 };
    Point { key, kind: 5, mtu: 1500, gso_known: true }
}

pub(crate) fn capture(id: &str, created_at_nanos: i64) -> Capture {
    let fix = ClockFix {
        at_nanos: 1,
        coordinator_minus_monotonic_nanos: -2,
        realtime_minus_monotonic_nanos: 3,
        error_nanos: 4,
        round_trip_nanos: 5,
    };
    let counters = Counters {
        received: u64::MAX,
        kernel_drops: 1,
        agent_drops: 2,
        filtered: 3,
        own_connections: 4,
        undecoded: 5,
        bytes: 6,
        unreadable: 7,
        sampled_out: 8,
    };
    let part = Part {
        state: State::Armed,
        reason: "slow".into(),
        armed_at_nanos: Some(9),
        incarnation: Some(u64::MAX),
        clock_start: Some(fix),
        clock_end: None,
        points: vec![PointStatus { point: point("eth0"), counters, batches: 3 }],
        coverage: vec!["eth1 vanished".into()],
        ..Part::new("node-a")
    };
    Capture {
        id: id.into(),
        spec: spec(),
        state: State::Running,
        reason: String::new(),
        created_at_nanos,
        created_by: "spiffe://lastseen/operator/eve".into(),
        window: Some(Window { start_nanos: 10, end_nanos: 40 }),
        parts: vec![part],
        identity_key: IdentityKey([9; 16]),
    }
}

pub(crate) fn placed(capture: &str, interface: &str, sequence: u64) -> Placed {
    let point = point(interface);
    let key = BatchKey {
        capture: capture.into(),
        node: "node-a".into(),
        point: point.key.clone(),
        incarnation: u64::MAX,
        sequence,
    };
    let batch = CheckedBatch {
        key,
        point,
        bytes: Bytes::from_static(b"x"),
        checksum: u32::MAX,
        rows: 1,
        slice_nanos: [0; 2],
    };
    let location =
        Location { file: "000000.obs".into(), position: 8 + sequence, length: 1, checksum: u32::MAX };
    Placed { batch, location }
}

pub(crate) fn flow(n: u8) -> FlowRecord {
    let overlay = n.is_multiple_of(2).then_some(OverlayReport { kind: OverlayKind::VxlanGpe, id: 1 << 23 });
    FlowRecord {
        node: "node-a".into(),
        interface: "eth0".into(),
        direction: if n.is_multiple_of(2) { Direction::In } else { Direction::Out },
        source_address: "10.244.1.2".parse().unwrap(),
        destination_address: "2001:db8::1".parse().unwrap(),
        protocol_identifier: n,
        source_transport_port: 65_535,
        destination_transport_port: 80,
        overlay,
        packet_delta_count: u64::MAX,
        octet_delta_count: 11,
        segments: 12,
        flow_start_nanos: -13,
        flow_end_nanos: i64::MAX,
        tcp_control_bits: 0xff,
        retransmissions: 14,
        out_of_order: 15,
        minimum_ip_total_length: 16,
        maximum_ip_total_length: u32::MAX,
        minimum_ttl: 17,
        maximum_ttl: 255,
        aggregate: n.is_multiple_of(3).then_some(Aggregate {
            flows: u64::MAX,
            source_prefix_length: 24,
            destination_prefix_length: 128,
        }),
    }
}

pub(crate) fn node(name: &str) -> NodeRecord {
    NodeRecord {
        name: name.into(),
        agent_version: "0.1.0".into(),
        kernel: "6.1".into(),
        incarnation: u64::MAX,
        last_seen_nanos: 5,
        capabilities: vec![Capability { name: "capture".into(), available: true, reason: String::new() }],
        topology: Bytes::from_static(b"net"),
    }
}
