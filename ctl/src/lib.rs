//! The command line tool. Each command is one file in [`commands`]; it asks the coordinator, or works on local
//! files, and hands what it found to [`output`].
#![allow(
    clippy::format_push_string,
    clippy::format_collect,
    reason = "text for people, made once per command: `write!` would only add a result to discard"
)]

mod capture_file;
pub mod check;
pub mod cli;
pub mod commands;
pub mod context;
mod diff_files;
pub mod doctor;
pub mod exit;
pub mod follow;
pub mod output;
pub mod parse;
pub mod path_trace;
pub mod pki;
pub mod probe;
pub mod report;
pub mod rpc;
pub mod show_file;
pub mod steps;

use std::process::ExitCode;

use lastseen_runtime::telemetry::{self, LogFormat, TRACE};
use tracing::field::Empty;
use tracing::{Instrument as _, info_span};

use crate::cli::Cli;
use crate::commands::Command;
use crate::context::Context;
use crate::exit::Exit;

/// Runs one command on this process's standard streams.
pub fn run(cli: Cli) -> ExitCode {
    let (directive, endpoint) = (cli.global.log_directive(), cli.global.otlp_endpoint.as_deref());
    let _telemetry = match telemetry::init("ctl", LogFormat::Text, directive, endpoint) {
        Ok(telemetry) => telemetry,
        Err(error) => return exit::report(Err(error.into())),
    };
    // Only the first installation in a process counts; a second one is the same provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return exit::report(Err(error.into())),
    };
    let (stdout, mut context) = (std::io::stdout(), Context::for_process(cli.global));
    let mut out = std::io::LineWriter::new(stdout.lock());
    context.progress = context.progress && !context.global.quiet;
    let result = runtime.block_on(traced(cli.command, &context, &mut out));
    // A blocked read of a name server must not keep a finished command alive.
    runtime.shutdown_background();
    exit::report(result.and_then(|exit| Ok(std::io::Write::flush(&mut out).map(|()| exit)?)))
}

/// Runs a command in a span of its own, in which its calls to the coordinator are.
async fn traced(command: Command, context: &Context, out: &mut dyn std::io::Write) -> Outcome {
    let span = info_span!(target: TRACE, "ctl", otel.name = %command, otel.kind = "client", otel.status_code = Empty);
    let result = commands::run(command, context, out).instrument(span.clone()).await;
    if result.is_err() {
        span.record("otel.status_code", "ERROR");
    }
    result
}

/// What a command gives back: how the process ends, or the line that says what failed.
pub type Outcome = anyhow::Result<Exit>;
