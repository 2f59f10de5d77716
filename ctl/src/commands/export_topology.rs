//! `export-topology`.

use std::io::Write;

use clap::Args;
use lastseen_proto::v1::{FabricTopology, GetTopologyRequest};

use crate::Outcome;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{self, Format, View};
use crate::rpc::{self, Fabric};

/// Print the network of a capture's nodes, for `ctl diff-files --topology`.
///
/// It is what the report of that capture rests on: interfaces, routes, neighbours and forwarding entries of every node
/// as they were when the capture was armed. JSON unless -o says otherwise: the message `FabricTopology`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ctl export-topology > fabric.json             # of the newest capture
  ctl export-topology c-7f3k -o name            # the nodes in it")]
pub struct Arguments {
    /// Capture id; the newest capture without it.
    #[arg(default_value = "", hide_default_value = true)]
    id: String,
}

pub(super) async fn run(arguments: Arguments, context: &Context, out: &mut dyn Write) -> Outcome {
    let fabric = Fabric::connect(&context.global).await?;
    let request = rpc::request(GetTopologyRequest { capture_id: arguments.id });
    let topology = fabric.analysis().get_topology(request).await.map_err(|status| fabric.failed(&status))?;
    let mut context = context.clone();
    if matches!(context.global.output, Format::Table | Format::Wide) {
        context.global.output = Format::Json;
    }
    output::print(topology.get_ref(), &context, out)?;
    Ok(Exit::Done)
}

impl View for FabricTopology {
    fn text(&self, _: &Context) -> String {
        self.names().iter().map(|name| format!("{}\n", output::escape::line(name))).collect()
    }

    fn names(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.node.clone()).collect()
    }
}
