//! `check-host`.

use std::io::Write;

use clap::Args;
use lastseen_proto::v1::HostCheck;
use lastseen_proto::v1::check_spec::What;

use super::Options;
use crate::context::Context;
use crate::{Outcome, probe};

/// Look at the usual things from nodes or pods, and say what is well and what is not.
///
/// Gateways, neighbours, table of connections, forwarding and reverse path filters of each; path MTU and tunnels from each
/// host to each other; and what is named: names, endpoints, the API server, addresses outside. Exits with 0 if all is well,
/// with 1 if anything is not, with 3 if something could not be told.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ctl check-host                                         # every node that is ready
  ctl check-host --nodes node-a,node-b --name web.default.svc.cluster.local --nameserver 10.96.0.10
  ctl check-host --from node-a:cni-1f2e --external 1.1.1.1,1.1.1.1:443
  ctl check-host -o json | jq '.results[].verdict'")]
pub struct Arguments {
    /// Every node that is ready, as without any of these.
    #[arg(long, conflicts_with_all = ["nodes", "from"])]
    all_nodes: bool,
    /// These nodes.
    #[arg(long, value_delimiter = ',', value_name = "NODE", conflicts_with = "from")]
    nodes: Vec<String>,
    /// These places: nodes, network namespaces of nodes, or the addresses of pods.
    #[arg(long, value_delimiter = ',', value_name = "NODE[:NETNS]|ADDRESS")]
    from: Vec<String>,
    #[command(flatten)]
    options: Options,
}

pub(crate) async fn run(arguments: Arguments, context: &Context, out: &mut dyn Write) -> Outcome {
    let Arguments { nodes, from, options, .. } = arguments;
    let sources: Vec<_> = nodes.iter().chain(&from).map(|place| probe::source_of(place)).collect();
    let what = What::Host(HostCheck { all_nodes: sources.is_empty(), sources });
    super::run(what, options, context, out).await
}
