//! One table of a node's kernel, as it is now.

use std::io::Write;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use lastseen_proto::table::NodeTable;
use lastseen_proto::v1;
use lastseen_proto::v1::probe_spec::Kind;

use crate::commands::run_probe;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{self, Format, escape};
use crate::rpc::Fabric;
use crate::{Outcome, parse, probe};

/// Which table, and how.
#[derive(Args, Debug)]
pub(super) struct Options {
    #[command(flatten)]
    which: Which,
    /// Of this network namespace: a name under /run/netns, or @ADDRESS for the one that has an address.
    #[arg(long, value_name = "NETNS", requires = "which", conflicts_with = "pid")]
    netns: Option<String>,
    /// Of the network namespace of this process, as it is numbered on the node.
    #[arg(long, value_name = "PID", requires = "which", value_parser = parse::positive::<u32>)]
    pid: Option<u32>,
    /// Only rows that contain this text.
    #[arg(long, value_name = "TEXT", requires = "which")]
    grep: Option<String>,
    /// How long the node may read; 10s unless given.
    #[arg(long, value_name = "DURATION", requires = "which", value_parser = parse::duration)]
    timeout: Option<Duration>,
}

/// What the node's kernel has now.
#[derive(Args, Debug)]
#[group(id = "which", multiple = false)]
#[allow(clippy::struct_excessive_bools, reason = "flags of a command line")]
struct Which {
    /// Show the sockets of TCP and UDP that the node has now, and whose they are.
    #[arg(long)]
    sockets: bool,
    /// Show its routes, of all routing tables.
    #[arg(long)]
    routes: bool,
    /// Show its rules that choose a routing table.
    #[arg(long)]
    rules: bool,
    /// Show its neighbours, ARP and NDP.
    #[arg(long)]
    neighbors: bool,
    /// Show its interfaces with their counters.
    #[arg(long)]
    interfaces: bool,
    /// Show the connections that it tracks.
    #[arg(long)]
    conntrack: bool,
    /// Show the forwarding entries of its bridges and VXLAN devices.
    #[arg(long)]
    fdb: bool,
    /// Show its rules of nftables and legacy iptables with their counters.
    #[arg(long)]
    filters: bool,
    /// Show its settings that decide about forwarding.
    #[arg(long)]
    settings: bool,
    /// Show what its kernel counts of each protocol.
    #[arg(long)]
    counters: bool,
}

impl Which {
    fn table(&self) -> Option<NodeTable> {
        let flags = [
            (self.sockets, NodeTable::Sockets),
            (self.routes, NodeTable::Routes),
            (self.rules, NodeTable::Rules),
            (self.neighbors, NodeTable::Neighbors),
            (self.interfaces, NodeTable::Interfaces),
            (self.conntrack, NodeTable::Conntrack),
            (self.fdb, NodeTable::Fdb),
            (self.filters, NodeTable::Filters),
            (self.settings, NodeTable::Settings),
            (self.counters, NodeTable::Counters),
        ];
        flags.into_iter().find(|(is_set, _)| *is_set).map(|(_, table)| table)
    }
}

impl Options {
    /// Absent: none was asked for.
    pub(super) fn table(&self) -> Option<NodeTable> {
        self.which.table()
    }
}

/// Has the node read the table, and prints it.
pub(super) async fn run(
    node: String,
    table: NodeTable,
    arguments: Options,
    context: &Context,
    out: &mut dyn Write,
) -> Outcome {
    let netns = arguments.netns.or_else(|| arguments.pid.map(|pid| pid.to_string())).unwrap_or_default();
    let spec = v1::ProbeSpec {
        sources: vec![v1::ProbeSource { node, netns }],
        kind: Some(Kind::Table(v1::TableProbe { table: table.message().into() })),
        timeout: arguments.timeout.map(parse::proto_duration),
        ..v1::ProbeSpec::default()
    };
    let fabric = Fabric::connect(&context.global).await?;
    let started = run_probe::start(&fabric, spec).await?;
    let mut probe = run_probe::follow(&fabric, &started.id).await?;
    if let Some(wanted) = &arguments.grep {
        probe::table::keep(&mut probe, wanted);
    }
    print(probe, context, out)
}

fn print(probe: v1::Probe, context: &Context, out: &mut dyn Write) -> Outcome {
    let results = || probe.reports.iter().flat_map(|report| &report.results);
    let reasons = probe.parts.iter().map(|part| &part.reason).chain(results().map(|result| &result.reason));
    let reason = reasons.into_iter().find(|reason| !reason.is_empty()).cloned();
    if matches!(context.global.output, Format::Table | Format::Wide) {
        if let Some(reason) = reason {
            bail!("{}", escape::line(&reason));
        }
        let is_wide = context.global.output == Format::Wide;
        let text: String = results().map(|result| probe::table::block(result, is_wide)).collect();
        out.write_all(text.as_bytes())?;
        return Ok(Exit::Done);
    }
    output::print(&v1::RunProbeResponse { probe: Some(probe) }, context, out)?;
    Ok(if reason.is_none() { Exit::Done } else { Exit::Failed })
}
