//! The report, in both directions: it is stored as a message and filtered as a domain value.

use lastseen_correlate::input::Window;
use lastseen_correlate::report::{
    Cause, DropReason, FlowRecord, Hop, Loss, LostPacket, NodeReport, OverlayReport, PathReport, Pattern,
    PointName, Report, SegmentTotals, Translation,
};

use super::{ConvertError, enums, nanos, timestamp};
use crate::v1;

/// `From` in both directions between two structs whose named fields have the same names and convertible types.
macro_rules! same_fields {
    ($wire:ident, $domain:ident, $($field:ident),+ $(,)?) => {
        impl From<$domain> for v1::$wire {
            fn from(value: $domain) -> Self {
                Self { $($field: value.$field.into(),)+ }
            }
        }

        impl From<v1::$wire> for $domain {
            fn from(value: v1::$wire) -> Self {
                Self { $($field: value.$field.into(),)+ }
            }
        }
    };
}

same_fields!(
    SegmentTotals,
    SegmentTotals,
    segments,
    delivered,
    lost,
    not_observable,
    ambiguous,
    in_flight,
    transformed,
    duplicated,
    bypassed
);
same_fields!(PointName, PointName, node, interface);
same_fields!(Translation, Translation, source, destination);
same_fields!(DropReason, DropReason, code, source, location);
same_fields!(Pattern, Pattern, kind, text);
same_fields!(Cause, Cause, code, text, evidence);

fn each<A, B: From<A>>(list: Vec<A>) -> Vec<B> {
    list.into_iter().map(B::from).collect()
}

fn try_each<A, B: TryFrom<A>>(list: Vec<A>) -> Result<Vec<B>, B::Error> {
    list.into_iter().map(B::try_from).collect()
}

impl From<Report> for v1::DiffReport {
    fn from(report: Report) -> Self {
        Self {
            capture_id: report.capture_id,
            name: report.name,
            window: Some(v1::Window {
                start: Some(timestamp(report.window.start_nanos)),
                end: Some(timestamp(report.window.end_nanos)),
            }),
            verdict: v1::diff_report::Verdict::from(report.verdict).into(),
            notes: report.notes,
            partial: report.partial,
            totals: Some(report.totals.into()),
            nodes: each(report.nodes),
            paths: each(report.paths),
            filter: report.filter,
            omitted_paths: report.omitted_paths,
        }
    }
}

impl TryFrom<v1::DiffReport> for Report {
    type Error = ConvertError;

    fn try_from(message: v1::DiffReport) -> Result<Self, ConvertError> {
        let window = message.window.unwrap_or_default();
        Ok(Self {
            verdict: message.verdict().into(),
            capture_id: message.capture_id,
            name: message.name,
            filter: message.filter,
            window: Window {
                start_nanos: window.start.as_ref().map_or(0, nanos),
                end_nanos: window.end.as_ref().map_or(0, nanos),
            },
            partial: message.partial,
            notes: message.notes,
            totals: message.totals.unwrap_or_default().into(),
            nodes: each(message.nodes),
            paths: try_each(message.paths)?,
            omitted_paths: message.omitted_paths,
        })
    }
}

impl From<NodeReport> for v1::NodeReport {
    fn from(node: NodeReport) -> Self {
        Self {
            node: node.node,
            state: v1::CaptureState::from(node.state).into(),
            reason: node.reason,
            clock_offset_nanos: node.clock_offset_nanos,
            clock_error_nanos: node.clock_error_nanos,
            packets: node.packets,
            kernel_drops: node.kernel_drops,
            agent_drops: node.agent_drops,
            coverage: node.coverage,
        }
    }
}

impl From<v1::NodeReport> for NodeReport {
    fn from(message: v1::NodeReport) -> Self {
        Self {
            state: message.state().into(),
            node: message.node,
            reason: message.reason,
            clock_offset_nanos: message.clock_offset_nanos,
            clock_error_nanos: message.clock_error_nanos,
            packets: message.packets,
            kernel_drops: message.kernel_drops,
            agent_drops: message.agent_drops,
            coverage: message.coverage,
        }
    }
}

impl From<OverlayReport> for v1::OverlayReport {
    fn from(overlay: OverlayReport) -> Self {
        Self { kind: v1::OverlayKind::from(overlay.kind).into(), id: overlay.id }
    }
}

impl From<v1::OverlayReport> for OverlayReport {
    fn from(message: v1::OverlayReport) -> Self {
        Self { kind: message.kind().into(), id: message.id }
    }
}

impl From<PathReport> for v1::PathReport {
    fn from(path: PathReport) -> Self {
        Self {
            source: path.source,
            destination: path.destination,
            protocol: path.protocol,
            overlay: path.overlay.map(Into::into),
            translations: each(path.translations),
            totals: Some(path.totals.into()),
            hops: each(path.hops),
            losses: each(path.losses),
        }
    }
}

impl TryFrom<v1::PathReport> for PathReport {
    type Error = ConvertError;

    fn try_from(message: v1::PathReport) -> Result<Self, ConvertError> {
        Ok(Self {
            source: message.source,
            destination: message.destination,
            protocol: message.protocol,
            overlay: message.overlay.map(Into::into),
            translations: each(message.translations),
            totals: message.totals.unwrap_or_default().into(),
            hops: try_each(message.hops)?,
            losses: try_each(message.losses)?,
        })
    }
}

impl From<Hop> for v1::Hop {
    fn from(hop: Hop) -> Self {
        Self {
            node: hop.node,
            interface: hop.interface,
            kind: v1::InterfaceKind::from(hop.kind).into(),
            direction: v1::Direction::from(hop.direction).into(),
            view: hop.view,
            seen: hop.seen,
            missing_after: hop.missing_after,
            blind_ratio: hop.blind_ratio,
            delay_p50_nanos: hop.delay_p50_nanos,
            delay_p99_nanos: hop.delay_p99_nanos,
            bypassed: hop.bypassed,
        }
    }
}

impl TryFrom<v1::Hop> for Hop {
    type Error = ConvertError;

    fn try_from(message: v1::Hop) -> Result<Self, ConvertError> {
        Ok(Self {
            kind: message.kind().into(),
            direction: enums::direction(message.direction)
                .ok_or_else(|| ConvertError::new("hop.direction", &message.direction, "IN or OUT"))?,
            node: message.node,
            interface: message.interface,
            view: message.view,
            seen: message.seen,
            missing_after: message.missing_after,
            blind_ratio: message.blind_ratio,
            delay_p50_nanos: message.delay_p50_nanos,
            delay_p99_nanos: message.delay_p99_nanos,
            bypassed: message.bypassed,
        })
    }
}

impl From<Loss> for v1::Loss {
    fn from(loss: Loss) -> Self {
        Self {
            from: Some(loss.from.into()),
            to: loss.to.map(Into::into),
            count: loss.count,
            total: loss.total,
            confidence: loss.confidence,
            reason: loss.reason.map(Into::into),
            pattern: loss.pattern.map(Into::into),
            cause: loss.cause.map(Into::into),
            examples: loss.examples.into_iter().map(lost_packet).collect(),
        }
    }
}

impl TryFrom<v1::Loss> for Loss {
    type Error = ConvertError;

    fn try_from(message: v1::Loss) -> Result<Self, ConvertError> {
        Ok(Self {
            from: message.from.ok_or_else(|| ConvertError::new("loss.from", "", "present"))?.into(),
            to: message.to.map(Into::into),
            count: message.count,
            total: message.total,
            confidence: message.confidence,
            reason: message.reason.map(Into::into),
            pattern: message.pattern.map(Into::into),
            cause: message.cause.map(Into::into),
            examples: try_each(message.examples)?,
        })
    }
}

/// A lost segment for the wire.
pub fn lost_packet(lost: LostPacket) -> v1::LostPacket {
    v1::LostPacket {
        first_seen: Some(timestamp(lost.first_seen_nanos)),
        source: lost.source,
        destination: lost.destination,
        protocol: lost.protocol,
        ip_id: lost.ip_id.map(Into::into),
        tcp_seq: lost.tcp_seq,
        tcp_flags: lost.tcp_flags.map(Into::into),
        payload_length: lost.payload_length,
        last_seen: Some(lost.last_seen.into()),
        missing_at: lost.missing_at.map(Into::into),
        trajectory: each(lost.trajectory),
        ip_length: lost.ip_length,
    }
}

impl TryFrom<v1::LostPacket> for LostPacket {
    type Error = ConvertError;

    fn try_from(message: v1::LostPacket) -> Result<Self, ConvertError> {
        let narrow = |field, value: u32| ConvertError::new(field, &value, "in range");
        Ok(Self {
            first_seen_nanos: message.first_seen.as_ref().map_or(0, nanos),
            source: message.source,
            destination: message.destination,
            protocol: message.protocol,
            ip_id: message.ip_id.map(|id| id.try_into().map_err(|_| narrow("ip_id", id))).transpose()?,
            tcp_seq: message.tcp_seq,
            tcp_flags: message
                .tcp_flags
                .map(|flags| flags.try_into().map_err(|_| narrow("tcp_flags", flags)))
                .transpose()?,
            ip_length: message.ip_length,
            payload_length: message.payload_length,
            last_seen: message.last_seen.ok_or_else(|| ConvertError::new("last_seen", "", "present"))?.into(),
            missing_at: message.missing_at.map(Into::into),
            trajectory: each(message.trajectory),
        })
    }
}

/// A flow record for the wire.
pub fn flow_record(flow: FlowRecord) -> v1::FlowRecord {
    v1::FlowRecord {
        node: flow.node,
        interface: flow.interface,
        direction: v1::Direction::from(flow.direction).into(),
        source_address: flow.source_address.to_string(),
        destination_address: flow.destination_address.to_string(),
        protocol_identifier: flow.protocol_identifier.into(),
        source_transport_port: flow.source_transport_port.into(),
        destination_transport_port: flow.destination_transport_port.into(),
        overlay: flow.overlay.map(Into::into),
        packet_delta_count: flow.packet_delta_count,
        octet_delta_count: flow.octet_delta_count,
        segments: flow.segments,
        flow_start: Some(timestamp(flow.flow_start_nanos)),
        flow_end: Some(timestamp(flow.flow_end_nanos)),
        tcp_control_bits: flow.tcp_control_bits.into(),
        retransmissions: flow.retransmissions,
        out_of_order: flow.out_of_order,
        minimum_ip_total_length: flow.minimum_ip_total_length,
        maximum_ip_total_length: flow.maximum_ip_total_length,
        minimum_ttl: flow.minimum_ttl.into(),
        maximum_ttl: flow.maximum_ttl.into(),
    }
}

#[cfg(test)]
mod tests {
    use lastseen_correlate::input::CaptureState;
    use lastseen_correlate::report::Verdict;
    use lastseen_correlate::topology::{Direction, InterfaceKind};
    use lastseen_packet::observation::OverlayKind;

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
            direction: Direction::Out,
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
            pattern: Some(Pattern { kind: "size".into(), text: "d".into() }),
            cause: Some(Cause {
                code: "mtu_black_hole".into(),
                text: "e".into(),
                evidence: vec!["f".into()],
            }),
            examples: vec![lost()],
        };
        let path = PathReport {
            source: "s".into(),
            destination: "d".into(),
            protocol: "tcp".into(),
            overlay: Some(OverlayReport { kind: OverlayKind::Vxlan, id: 1 }),
            translations: vec![Translation { source: "x".into(), destination: "y".into() }],
            totals,
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
        assert_eq!(
            Report::try_from(message).unwrap_err().to_string(),
            "hop.direction: \"9\" is not IN or OUT"
        );
    }
}
