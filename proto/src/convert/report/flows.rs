//! Flow records, which only go out.

use lastseen_correlate::report::FlowRecord;

use crate::convert::timestamp;
use crate::v1;

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
        aggregate: flow.aggregate.map(|aggregate| v1::FlowAggregate {
            flows: aggregate.flows,
            source_prefix_length: aggregate.source_prefix_length.into(),
            destination_prefix_length: aggregate.destination_prefix_length.into(),
        }),
    }
}
