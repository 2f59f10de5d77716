//! `list-lost`.

use std::io::Write;

use clap::Args;
use lastseen_proto::v1::{ListLostPacketsRequest, ListLostPacketsResponse, LostPacket, PointName};

use super::listing::Listing;
use crate::Outcome;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::table::Table;
use crate::output::{self, Format, View, names, units};
use crate::rpc::{self, Fabric};

/// List lost packets one by one, with the points that saw each.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ctl list-lost --limit 20            # of the newest capture
  ctl list-lost -o wide               # with what finds each in a capture file
  ctl list-lost c-7f3k -o name | sort | uniq -c")]
pub struct Arguments {
    #[command(flatten)]
    listing: Listing,
}

pub(super) async fn run(arguments: &Arguments, context: &Context, out: &mut dyn Write) -> Outcome {
    let fabric = Fabric::connect(&context.global).await?;
    let packets = arguments
        .listing
        .limit
        .pages(async |page_size, page_token| {
            let capture_id = arguments.listing.id.clone();
            let request = rpc::analysis_request(ListLostPacketsRequest { capture_id, page_size, page_token });
            let page = fabric
                .analysis()
                .list_lost_packets(request)
                .await
                .map_err(|status| fabric.failed(&status))?;
            let page = page.into_inner();
            Ok((page.packets, page.next_page_token))
        })
        .await?;
    output::print(&ListLostPacketsResponse { packets, next_page_token: String::new() }, context, out)?;
    Ok(Exit::Done)
}

impl View for ListLostPacketsResponse {
    fn text(&self, context: &Context) -> String {
        if self.packets.is_empty() {
            return "no packet is known to be lost; `ctl diff-nodes` says what could not be observed\n"
                .to_owned();
        }
        let wide = context.global.output == Format::Wide;
        let mut headers = vec!["FIRST SEEN", "SOURCE", "DESTINATION", "PROTO", ">LENGTH", "FLAGS"];
        headers.extend(if wide { WIDE } else { &[] });
        headers.extend(["LOST BETWEEN", "SEEN AT"]);
        let mut table = Table::new(&headers);
        for packet in &self.packets {
            table.row(row(packet, wide));
        }
        table.text()
    }

    fn names(&self) -> Vec<String> {
        self.packets.iter().map(leg).collect()
    }
}

/// What tells the packet from others in a capture file.
const WIDE: &[&str] = &[">IP-ID", ">SEQ", ">PAYLOAD"];

fn row(packet: &LostPacket, wide: bool) -> Vec<String> {
    let number = |field: Option<u32>| field.map_or_else(String::new, |number| number.to_string());
    let mut cells = vec![
        units::time_of_day_micros(packet.first_seen.as_ref()),
        packet.source.clone(),
        packet.destination.clone(),
        packet.protocol.clone(),
        packet.ip_length.to_string(),
        packet.tcp_flags.map_or_else(String::new, names::tcp_flags),
    ];
    if wide {
        cells.push(number(packet.ip_id));
        cells.push(number(packet.tcp_seq));
        cells.push(packet.payload_length.to_string());
    }
    cells.push(leg(packet));
    cells.push(trajectory(&packet.trajectory));
    cells
}

/// Each node once, with its interfaces in order: `node-a veth1, cni0, eth0; node-b eth0`.
fn trajectory(points: &[PointName]) -> String {
    let nodes = points.chunk_by(|one, next| one.node == next.node).map(|points| {
        let interfaces: Vec<&str> = points.iter().map(|point| point.interface.as_str()).collect();
        format!("{} {}", points[0].node, interfaces.join(", "))
    });
    nodes.collect::<Vec<_>>().join("; ")
}

/// `node-a eth0 → node-b eth0`.
fn leg(packet: &LostPacket) -> String {
    let name = |point: Option<&_>| point.map_or_else(|| "unknown".to_owned(), names::point);
    format!("{} → {}", name(packet.last_seen.as_ref()), name(packet.missing_at.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trajectory_names_each_node_once() {
        let point = |(node, interface): &(&str, &str)| PointName {
            node: (*node).to_owned(),
            interface: (*interface).to_owned(),
        };
        let points = [("a", "veth1"), ("a", "eth0"), ("b", "eth0"), ("a", "eth0")];
        let points: Vec<PointName> = points.iter().map(point).collect();
        assert_eq!(trajectory(&points), "a veth1, eth0; b eth0; a eth0");
        assert_eq!(trajectory(&[]), "");
    }
}
