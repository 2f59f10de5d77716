//! `list-nodes`.

use std::io::Write;

use clap::Args;
use jiff::Timestamp;
use lastseen_proto::v1::{ListNodesRequest, ListNodesResponse, Node};

use crate::Outcome;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::table::Table;
use crate::output::{self, Format, View, escape, names, units};
use crate::rpc::{self, Fabric};

/// List the nodes whose agents the coordinator knows.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ctl list-nodes
  ctl list-nodes -o wide
  ctl list-nodes -o json | jq -r '.nodes[] | select(.state != \"READY\") | .name'")]
pub struct Arguments {}

pub(super) async fn run(context: &Context, out: &mut dyn Write) -> Outcome {
    let fabric = Fabric::connect(&context.global).await?;
    let answer = fabric.fleet().list_nodes(rpc::request(ListNodesRequest {})).await;
    output::print(answer.map_err(|status| fabric.failed(&status))?.get_ref(), context, out)?;
    Ok(Exit::Done)
}

impl View for ListNodesResponse {
    fn text(&self, context: &Context) -> String {
        if self.nodes.is_empty() {
            return "no node has registered; start node-agent with --coordinator\n".to_owned();
        }
        let wide = context.global.output == Format::Wide;
        let mut headers = vec!["NAME", "STATE", "VERSION", "CLOCK OFFSET", ">LAST SEEN", "MISSING"];
        headers.extend(if wide {
            &["KERNEL", ">ROUND TRIP", ">MEMORY", "CERTIFICATE ENDS"][..]
        } else {
            &[]
        });
        let (mut table, now) = (Table::new(&headers), Timestamp::now());
        for node in &self.nodes {
            let mut cells = vec![
                node.name.clone(),
                names::node_state(node.state),
                node.agent_version.clone(),
                units::clock(node.clock_offset_nanos, node.clock_error_nanos),
                units::age(node.last_seen_at.as_ref(), now),
                missing(node),
            ];
            if wide {
                cells.push(node.kernel.clone());
                cells.push(node.round_trip_nanos.map_or_else(String::new, units::delay));
                cells.push(node.resident_bytes.map_or_else(String::new, units::bytes));
                cells.push(units::second(node.certificate_not_after.as_ref()));
            }
            table.row(cells);
        }
        let mut text = table.text();
        let notes =
            self.nodes.iter().flat_map(|node| node.notes.iter().map(|note| (node.name.as_str(), note)));
        for (whose, note) in self.notes.iter().map(|note| ("coordinator", note)).chain(notes) {
            text += &format!("{}: {}\n", escape::line(whose), escape::line(note));
        }
        text
    }

    fn names(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.name.clone()).collect()
    }
}

/// The capabilities that a node lacks.
fn missing(node: &Node) -> String {
    let lacking = node.capabilities.iter().filter(|capability| !capability.available);
    lacking.map(|capability| capability.name.as_str()).collect::<Vec<_>>().join(",")
}
