//! The commands, one file each.

pub mod check;
pub mod completion;
pub mod delete_capture;
pub mod diff_files;
pub mod diff_nodes;
pub mod diff_probes;
pub mod doctor;
pub mod export_topology;
pub mod follow_capture;
pub mod list_audit;
pub mod list_captures;
pub mod list_flows;
pub mod list_lost;
pub mod list_nodes;
pub mod list_probes;
mod listing;
pub mod pki;
pub mod run_probe;
pub mod show_capture;
pub mod show_file;
pub mod show_node;
pub mod show_probe;
pub mod start_capture;
pub mod stop_capture;
pub mod stop_probe;
pub mod trace_path;

use std::fmt;
use std::io::Write;

use anyhow::bail;
use clap::Subcommand;

use crate::Outcome;
use crate::context::Context;
use crate::output::Format;

/// What to do.
#[derive(Debug, Subcommand)]
#[expect(
    missing_docs,
    reason = "clap takes a command's help from its arguments' documentation, a variant's would hide it"
)]
pub enum Command {
    #[command(subcommand)]
    Pki(pki::Command),
    ListNodes(list_nodes::Arguments),
    ShowNode(show_node::Arguments),
    StartCapture(start_capture::Arguments),
    ListCaptures(list_captures::Arguments),
    ShowCapture(show_capture::Arguments),
    FollowCapture(follow_capture::Arguments),
    StopCapture(stop_capture::Arguments),
    DeleteCapture(delete_capture::Arguments),
    DiffNodes(diff_nodes::Arguments),
    DiffFiles(diff_files::Arguments),
    ListFlows(list_flows::Arguments),
    ListLost(list_lost::Arguments),
    RunProbe(run_probe::Arguments),
    ListProbes(list_probes::Arguments),
    ShowProbe(show_probe::Arguments),
    StopProbe(stop_probe::Arguments),
    DiffProbes(diff_probes::Arguments),
    TracePath(trace_path::Arguments),
    CheckHost(check::host::Arguments),
    CheckPath(check::path::Arguments),
    ListAudit(list_audit::Arguments),
    ExportTopology(export_topology::Arguments),
    ShowFile(show_file::Arguments),
    Doctor(doctor::Arguments),
    Completion(completion::Arguments),
}

impl fmt::Display for Command {
    /// Its name on the command line, without its arguments.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Pki(_) => "pki",
            Self::ListNodes(_) => "list-nodes",
            Self::ShowNode(_) => "show-node",
            Self::StartCapture(_) => "start-capture",
            Self::ListCaptures(_) => "list-captures",
            Self::ShowCapture(_) => "show-capture",
            Self::FollowCapture(_) => "follow-capture",
            Self::StopCapture(_) => "stop-capture",
            Self::DeleteCapture(_) => "delete-capture",
            Self::DiffNodes(_) => "diff-nodes",
            Self::DiffFiles(_) => "diff-files",
            Self::ListFlows(_) => "list-flows",
            Self::ListLost(_) => "list-lost",
            Self::RunProbe(_) => "run-probe",
            Self::ListProbes(_) => "list-probes",
            Self::ShowProbe(_) => "show-probe",
            Self::StopProbe(_) => "stop-probe",
            Self::DiffProbes(_) => "diff-probes",
            Self::TracePath(_) => "trace-path",
            Self::CheckHost(_) => "check-host",
            Self::CheckPath(_) => "check-path",
            Self::ListAudit(_) => "list-audit",
            Self::ExportTopology(_) => "export-topology",
            Self::ShowFile(_) => "show-file",
            Self::Doctor(_) => "doctor",
            Self::Completion(_) => "completion",
        })
    }
}

/// Runs a command, which writes its result to `out`.
pub async fn run(command: Command, context: &Context, out: &mut dyn Write) -> Outcome {
    check_output(&command, context)?;
    match command {
        Command::Pki(command) => pki::run(&command, context, out),
        Command::ListNodes(_) => list_nodes::run(context, out).await,
        Command::ShowNode(arguments) => show_node::run(arguments, context, out).await,
        Command::StartCapture(arguments) => start_capture::run(arguments, context, out).await,
        Command::ListCaptures(arguments) => list_captures::run(&arguments, context, out).await,
        Command::ShowCapture(arguments) => show_capture::run(arguments, context, out).await,
        Command::FollowCapture(arguments) => follow_capture::run(arguments, context, out).await,
        Command::StopCapture(arguments) => stop_capture::run(arguments, context, out).await,
        Command::DeleteCapture(arguments) => delete_capture::run(arguments, context, out).await,
        Command::DiffNodes(arguments) => diff_nodes::run(arguments, context, out).await,
        Command::DiffFiles(arguments) => diff_files::run(arguments, context, out),
        Command::ListFlows(arguments) => list_flows::run(&arguments, context, out).await,
        Command::RunProbe(arguments) => run_probe::run(arguments, context, out).await,
        Command::ListProbes(arguments) => list_probes::run(&arguments, context, out).await,
        Command::ShowProbe(arguments) => show_probe::run(arguments, context, out).await,
        Command::StopProbe(arguments) => stop_probe::run(arguments, context, out).await,
        Command::DiffProbes(arguments) => diff_probes::run(arguments, context, out).await,
        Command::TracePath(arguments) => trace_path::run(arguments, context, out).await,
        Command::CheckHost(arguments) => check::host::run(arguments, context, out).await,
        Command::CheckPath(arguments) => check::path::run(arguments, context, out).await,
        Command::ListAudit(arguments) => list_audit::run(&arguments, context, out).await,
        Command::ListLost(arguments) => list_lost::run(&arguments, context, out).await,
        Command::ExportTopology(arguments) => export_topology::run(arguments, context, out).await,
        Command::ShowFile(arguments) => show_file::run(&arguments, context, out),
        Command::Doctor(_) => doctor::run(context, out).await,
        Command::Completion(arguments) => completion::run(&arguments, out),
    }
}

/// Only reports have a form for CI. Refused before anything is done.
fn check_output(command: &Command, context: &Context) -> anyhow::Result<()> {
    let is_report = matches!(command, Command::DiffNodes(_) | Command::DiffFiles(_));
    if context.global.output == Format::Junit && !is_report {
        bail!("output: only diff-nodes and diff-files write junit; use table, wide, json, yaml or name");
    }
    Ok(())
}
