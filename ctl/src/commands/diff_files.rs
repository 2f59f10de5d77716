//! `diff-files`.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use lastseen_correlate::ViewOptions;
use lastseen_proto::v1::DiffReport;

use super::diff_nodes::show;
use crate::Outcome;
use crate::context::Context;
use crate::diff_files::{self, Named, Room};
use crate::parse;
use crate::show_file;

/// Report where packets disappeared between capture files, offline.
///
/// Takes pcap and pcapng files of any tool, gzipped or not, one for each observation point, and gives the report and the
/// exit codes of diff-nodes. A name is node/interface, with /in or /out where a file holds one direction only. Without
/// a topology the order of points is inferred from the packets, or the report is inconclusive. Clocks may be
/// apart: they are compared by the packets that two nodes saw.
///
/// Exits with 0 if nothing was lost above the threshold, with 1 if something was, with 2 if the report could not be
/// made, and with 3 if too much could not be observed to tell.
///
/// Begin to capture before the traffic and go on for some seconds after it, with a packet through each point at begin
/// and end: a file covers no more than the time from its first to its last packet.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ctl diff-files a/eth0=a-eth0.pcap b/eth0=b-eth0.pcap --topology fabric.json
  ctl diff-files a/veth=a-veth.pcap a/eth0=a-eth0.pcap b/eth0=b-eth0.pcap.gz --min-loss 0.1%
  ctl diff-files a/eth0=a-eth0.pcap b/eth0=b-eth0.pcap --topology fabric.json -o json | jq .verdict
  ctl diff-files a/eth0=a-eth0.pcap b/eth0=b-eth0.pcap --topology fabric.json -o junit > report.xml")]
pub struct Arguments {
    /// An observation point and its file: node/interface[/in|out]=FILE.
    #[arg(required = true, value_name = "NAME=FILE", value_parser = diff_files::parse)]
    files: Vec<Named>,
    /// What `ctl export-topology` wrote.
    #[arg(long, value_name = "FILE")]
    topology: Option<PathBuf>,
    /// Only paths from this node or address.
    #[arg(long, value_name = "NODE|IP")]
    from: Option<String>,
    /// Only paths to this node or address.
    #[arg(long, value_name = "NODE|IP")]
    to: Option<String>,
    /// Share of a path's segments that must be lost to count, such as 0.1%. Any loss counts without it.
    #[arg(long, value_name = "SHARE", value_parser = parse::ratio)]
    min_loss: Option<f64>,
    /// A UDP port that carries VXLAN, besides 4789, 8472 and those of the topology.
    #[arg(long, value_name = "PORT", value_delimiter = ',', value_parser = parse::whole(1_u16, u16::MAX))]
    vxlan_port: Vec<u16>,
    /// A UDP port that carries Geneve, besides 6081 and those of the topology.
    #[arg(long, value_name = "PORT", value_delimiter = ',', value_parser = parse::whole(1_u16, u16::MAX))]
    geneve_port: Vec<u16>,
    /// Memory for observations, in bytes; more than that goes to a file without a name in the directory for temporary
    /// files ($TMPDIR, /tmp) and takes longer.
    #[arg(long, value_name = "BYTES", default_value_t = MEMORY_BYTES, value_parser = memory)]
    correlation_memory_bytes: u64,
}

/// Enough to work with, in bytes or with a suffix.
fn memory(text: &str) -> Result<u64, String> {
    let bytes = parse::bytes(text)?;
    if bytes < LEAST_MEMORY_BYTES { Err("is not 64 KiB or more".to_owned()) } else { Ok(bytes) }
}

const LEAST_MEMORY_BYTES: u64 = 1 << 16;
/// What a coordinator takes, too.
const MEMORY_BYTES: u64 = 1 << 30;

pub(super) fn run(arguments: Arguments, context: &Context, out: &mut dyn Write) -> Outcome {
    let config = show_file::config(&arguments.vxlan_port, &arguments.geneve_port)?;
    let Arguments { files, topology, from, to, min_loss, correlation_memory_bytes, .. } = arguments;
    let memory = usize::try_from(correlation_memory_bytes).unwrap_or(usize::MAX);
    let room = Room { memory, directory: &std::env::temp_dir() };
    let options = ViewOptions { from, to, min_loss_ratio: min_loss };
    let mut report: DiffReport =
        diff_files::diff(&files, topology.as_deref(), &options, config, room)?.into();
    report.window = report.window.filter(|window| window.start != window.end);
    show(&report, min_loss, context, out)
}
