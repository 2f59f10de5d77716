//! `list-lost`.

use std::io::Write;

use clap::Args;
use lastseen_proto::v1::{ListLostPacketsRequest, ListLostPacketsResponse, LostPacket};

use super::listing::Listing;
use crate::Outcome;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::table::Table;
use crate::output::{self, View, names, units};
use crate::rpc::{self, Fabric};

/// List lost packets one by one, with the points that saw each.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ctl list-lost c-7f3k
  ctl list-lost --limit 20        # of the newest capture")]
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
    fn text(&self, _context: &Context) -> String {
        if self.packets.is_empty() {
            return "nothing lost\n".to_owned();
        }
        let headers = [
            "FIRST SEEN",
            "SOURCE",
            "DESTINATION",
            "PROTO",
            ">IP-ID",
            ">SEQ",
            "FLAGS",
            ">LENGTH",
            ">PAYLOAD",
            "LOST BETWEEN",
            "SEEN AT",
        ];
        let mut table = Table::new(&headers);
        for packet in &self.packets {
            table.row(row(packet));
        }
        table.text()
    }

    fn names(&self) -> Vec<String> {
        self.packets.iter().map(leg).collect()
    }
}

fn row(packet: &LostPacket) -> [String; 11] {
    let number = |field: Option<u32>| field.map_or_else(String::new, |number| number.to_string());
    [
        units::time_of_day_micros(packet.first_seen.as_ref()),
        packet.source.clone(),
        packet.destination.clone(),
        packet.protocol.clone(),
        number(packet.ip_id),
        number(packet.tcp_seq),
        packet.tcp_flags.map_or_else(String::new, names::tcp_flags),
        packet.ip_length.to_string(),
        packet.payload_length.to_string(),
        leg(packet),
        packet.trajectory.iter().map(names::point).collect::<Vec<_>>().join(", "),
    ]
}

/// `node-a eth0 → node-b eth0`.
fn leg(packet: &LostPacket) -> String {
    let name = |point: Option<&_>| point.map_or_else(|| "unknown".to_owned(), names::point);
    format!("{} → {}", name(packet.last_seen.as_ref()), name(packet.missing_at.as_ref()))
}
