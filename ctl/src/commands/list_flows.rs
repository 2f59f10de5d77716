//! `list-flows`.

use std::io::Write;

use clap::Args;
use lastseen_proto::v1::{FlowRecord, ListFlowsRequest, ListFlowsResponse};

use super::listing::Listing;
use crate::Outcome;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::table::Table;
use crate::output::{self, Format, View, names, units};
use crate::rpc::{self, Fabric};

/// List the flow records of a capture, one per observation point and flow.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ctl list-flows --limit 20       # of the newest capture
  ctl list-flows -o wide          # with retransmissions, flags, lengths, TTL and times
  ctl list-flows c-7f3k -o json | jq '.flows[] | select(.retransmissions != \"0\")'")]
pub struct Arguments {
    #[command(flatten)]
    listing: Listing,
}

pub(super) async fn run(arguments: &Arguments, context: &Context, out: &mut dyn Write) -> Outcome {
    let fabric = Fabric::connect(&context.global).await?;
    let flows = arguments
        .listing
        .limit
        .pages(async |page_size, page_token| {
            let capture_id = arguments.listing.id.clone();
            let request = rpc::analysis_request(ListFlowsRequest { capture_id, page_size, page_token });
            let page =
                fabric.analysis().list_flows(request).await.map_err(|status| fabric.failed(&status))?;
            let page = page.into_inner();
            Ok((page.flows, page.next_page_token))
        })
        .await?;
    output::print(&ListFlowsResponse { flows, next_page_token: String::new() }, context, out)?;
    Ok(Exit::Done)
}

impl View for ListFlowsResponse {
    fn text(&self, context: &Context) -> String {
        if self.flows.is_empty() {
            return "no flows: no packet matched the capture's filter\n".to_owned();
        }
        let wide = context.global.output == Format::Wide;
        let mut headers = vec![
            "NODE",
            "INTERFACE",
            "DIR",
            "SOURCE",
            "DESTINATION",
            "PROTO",
            "OVERLAY",
            ">PACKETS",
            ">SEGMENTS",
            ">OCTETS",
        ];
        headers.extend(if wide { WIDE } else { &[] });
        let mut table = Table::new(&headers);
        for flow in &self.flows {
            table.row(row(flow, wide));
        }
        table.text()
    }

    fn names(&self) -> Vec<String> {
        self.flows.iter().map(|flow| format!("{} → {}", source(flow), destination(flow))).collect()
    }
}

const WIDE: &[&str] = &[">RETRANS", ">OUT OF ORDER", "FLAGS", "LENGTHS", "TTL", "FIRST", "LAST"];

fn row(flow: &FlowRecord, wide: bool) -> Vec<String> {
    let mut cells = vec![
        flow.node.clone(),
        flow.interface.clone(),
        names::direction(flow.direction),
        source(flow),
        destination(flow),
        protocol(flow),
        flow.overlay.as_ref().map_or_else(String::new, names::overlay),
        units::count(flow.packet_delta_count),
        units::count(flow.segments),
        units::count(flow.octet_delta_count),
    ];
    if wide {
        cells.push(units::count(flow.retransmissions));
        cells.push(units::count(flow.out_of_order));
        cells.push(if flow.protocol_identifier == 6 {
            names::tcp_flags(flow.tcp_control_bits)
        } else {
            String::new()
        });
        cells.push(format!("{}-{}", flow.minimum_ip_total_length, flow.maximum_ip_total_length));
        cells.push(format!("{}-{}", flow.minimum_ttl, flow.maximum_ttl));
        cells.push(units::time_of_day(flow.flow_start.as_ref()));
        cells.push(units::time_of_day(flow.flow_end.as_ref()));
    }
    cells
}

/// Flows that share no bit of their source share no protocol either.
fn protocol(flow: &FlowRecord) -> String {
    match &flow.aggregate {
        Some(sum) if sum.source_prefix_length == 0 => "any".to_owned(),
        _ => names::protocol(flow.protocol_identifier),
    }
}

/// `10.1.2.0/24 (812 flows)` of a sum.
fn source(flow: &FlowRecord) -> String {
    if let Some(sum) = &flow.aggregate {
        let flows = units::count(sum.flows);
        return format!("{}/{} ({flows} flows)", flow.source_address, sum.source_prefix_length);
    }
    names::endpoint(&flow.source_address, if has_ports(flow) { flow.source_transport_port } else { 0 })
}

/// For ICMP the destination port holds type and code (IPFIX 32).
fn destination(flow: &FlowRecord) -> String {
    let port = flow.destination_transport_port;
    let prefix = flow.aggregate.as_ref().map(|sum| sum.destination_prefix_length);
    if let Some(length) = prefix.filter(|length| ![32, 128].contains(length)) {
        return format!("{}/{length}", flow.destination_address);
    }
    match flow.protocol_identifier {
        1 | 58 => format!("{} type {} code {}", flow.destination_address, port >> 8 & 0xff, port & 0xff),
        _ => names::endpoint(&flow.destination_address, port),
    }
}

fn has_ports(flow: &FlowRecord) -> bool {
    !matches!(flow.protocol_identifier, 1 | 58)
}
