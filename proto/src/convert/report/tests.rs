use lastseen_correlate::input::CaptureState;
use lastseen_correlate::report::Verdict;
use lastseen_correlate::topology::{Direction, InterfaceKind};
use lastseen_packet::observation::OverlayKind;

use lastseen_correlate::report::{
    Cause, DropReason, Hop, Loss, LostPacket, NodeReport, OverlayReport, PathReport, Pattern, PatternSupport,
    PieceBytes, PointName, Translation,
};

use super::*;

fn point(interface: &str) -> PointName {
    PointName { node: "node-a".into(), interface: interface.into() }
}

fn lost() -> LostPacket {
    LostPacket {
        first_seen_nanos: 1_790_000_000_000_000_001,
        source: "10.244.1.2:1".into(),
        destination: "10.244.2.2:2".into(),
        protocol: "tcp".into(),
        ip_id: Some(0),
        tcp_seq: Some(u32::MAX),
        tcp_flags: Some(0x18),
        ip_length: 1500,
        payload_length: 1448,
        last_seen: point("eth0"),
        missing_at: None,
        trajectory: vec![point("veth1"), point("eth0")],
        confidence: 0.25,
    }
}

/// No field at its default, so that a forgotten one shows.
fn report() -> Report {
    let totals = SegmentTotals {
        segments: 9,
        delivered: 1,
        lost: 2,
        not_observable: 3,
        ambiguous: 4,
        in_flight: 5,
        transformed: 6,
        duplicated: 7,
        bypassed: 8,
    };
    let hop = Hop {
        node: "node-a".into(),
        interface: "eth0".into(),
        kind: InterfaceKind::Physical,
        direction: Some(Direction::Out),
        view: "vxlan 1".into(),
        seen: 1,
        missing_after: 2,
        blind_ratio: 0.5,
        delay_p50_nanos: Some(-1),
        delay_p99_nanos: Some(0),
        bypassed: true,
    };
    let loss = Loss {
        from: point("eth0"),
        to: Some(point("eth1")),
        count: 1,
        total: 2,
        confidence: 0.5,
        reason: Some(DropReason { code: "a".into(), source: "b".into(), location: "c".into() }),
        pattern: Some(Pattern {
            kind: "size".into(),
            text: "d".into(),
            support: Some(PatternSupport {
                lost_with: 1,
                lost_without: 2,
                passed_with: 3,
                passed_without: 4,
                paths: 5,
                chance: 0.25,
            }),
        }),
        cause: Some(Cause { code: "mtu_black_hole".into(), text: "e".into(), evidence: vec!["f".into()] }),
        examples: vec![lost()],
    };
    let path = PathReport {
        source: "s".into(),
        destination: "d".into(),
        protocol: "tcp".into(),
        overlay: Some(OverlayReport { kind: OverlayKind::Vxlan, id: 1 }),
        translations: vec![Translation {
            source: "x".into(),
            destination: "y".into(),
            node: Some("z".into()),
        }],
        totals,
        in_pieces: Some(PieceBytes { total: 20, lost: 4 }),
        hops: vec![hop],
        losses: vec![loss],
    };
    let node = NodeReport {
        node: "node-a".into(),
        state: CaptureState::Completed,
        reason: "r".into(),
        clock_offset_nanos: Some(-5),
        clock_error_nanos: Some(6),
        packets: 1,
        kernel_drops: 2,
        agent_drops: 3,
        own_connections: 4,
        undecoded: 5,
        unreadable: 6,
        sampled_out: 7,
        coverage: vec!["late".into()],
    };
    Report {
        capture_id: "c-1".into(),
        name: "n".into(),
        filter: "tcp".into(),
        window: Window { start_nanos: 1, end_nanos: 2_000_000_003 },
        partial: true,
        verdict: Verdict::Lost,
        notes: vec!["note".into()],
        totals,
        nodes: vec![node],
        paths: vec![path],
        omitted_paths: 4,
        sampling: Some(Sampling { interval: 4, varied: true }),
    }
}

#[test]
fn a_report_survives_the_wire() {
    let message = v1::DiffReport::from(report());
    assert_eq!(Report::try_from(message), Ok(report()));
}

#[test]
fn a_message_without_its_meaning_is_refused_by_field() {
    let mut message = v1::DiffReport::from(report());
    message.paths[0].hops[0].direction = 9;
    assert_eq!(Report::try_from(message).unwrap_err().to_string(), "hop.direction: \"9\" is not IN or OUT");
}
