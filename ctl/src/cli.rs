//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser};

use crate::commands::Command;
use crate::output::Format;

/// Finds where packets vanish between the hops of an overlay network.
#[derive(Debug, Parser)]
#[command(
    name = "ctl",
    version,
    after_help = "\
Examples:
  ctl start-capture --all-nodes --filter 'host 10.244.2.10 and tcp port 80' --duration 30s
  ctl diff-nodes
  ctl doctor

Exit codes:
  0  done, and nothing lost above the threshold
  1  loss above the threshold
  2  usage or operation failed
  3  no loss above the threshold, but too much could not be observed"
)]
pub struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Coordinator to ask; of several that share a database, the first that answers.
    #[arg(
        long,
        global = true,
        env = "LASTSEEN_SERVER",
        value_name = "HOST:PORT[,HOST:PORT]",
        default_value = "127.0.0.1:7443"
    )]
    pub server: String,
    /// Directory with ca.crt, tls.crt and tls.key of an operator or viewer.
    #[arg(long, global = true, env = "LASTSEEN_PKI_DIR", value_name = "DIR")]
    pub pki_dir: Option<PathBuf>,
    /// Form of the output.
    #[arg(short, long, global = true, env = "LASTSEEN_OUTPUT", value_name = "FORM", default_value = "table")]
    pub output: Format,
    /// Print results and errors only.
    #[arg(short, long, global = true, env = "LASTSEEN_QUIET")]
    pub quiet: bool,
    /// Say on standard error what is done; `RUST_LOG` has the last word.
    #[arg(short, long, global = true, env = "LASTSEEN_VERBOSE")]
    pub verbose: bool,
    /// OpenTelemetry collector that traces go to, OTLP over gRPC, for example `http://127.0.0.1:4317`.
    #[arg(long, global = true, env = "LASTSEEN_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// TOML file with values for server, pki-dir, output, quiet, verbose and otlp-endpoint.
    #[arg(long, global = true, env = "LASTSEEN_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl Global {
    /// What is logged unless `RUST_LOG` says otherwise.
    pub(crate) fn log_directive(&self) -> &'static str {
        if self.verbose { "lastseen=debug,lastseen_runtime=debug,lastseen_ctl=debug" } else { "error" }
    }
}

/// Parses this process's arguments, or prints what is wrong with them and exits with 2.
pub fn parse() -> Cli {
    lastseen_runtime::config::parse::<WithEnvironment>().0
}

/// As [`parse`], from given arguments, the first of which is the program's name.
pub fn resolve(args: Vec<OsString>) -> Result<Cli, clap::Error> {
    lastseen_runtime::config::resolve::<WithEnvironment>(args).map(|parsed| parsed.0)
}

/// The whole command line, in which every flag has an environment variable.
pub fn command() -> clap::Command {
    WithEnvironment::command()
}

struct WithEnvironment(Cli);

impl CommandFactory for WithEnvironment {
    fn command() -> clap::Command {
        with_environment(Cli::command())
    }

    fn command_for_update() -> clap::Command {
        Self::command()
    }
}

impl FromArgMatches for WithEnvironment {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Cli::from_arg_matches(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}

/// Gives each flag that has none the variable `LASTSEEN_<FLAG>`. The help does not repeat what its name tells.
fn with_environment(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| match arg.get_long() {
        Some(long) if arg.get_env().is_none() && !["help", "version"].contains(&long) => {
            let variable = format!("LASTSEEN_{}", long.to_ascii_uppercase().replace('-', "_"));
            arg.env(clap::builder::OsStr::from(variable)).hide_env(true)
        }
        _ => arg,
    });
    command.mut_subcommands(with_environment)
}
