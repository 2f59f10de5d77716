//! The program `node-agent`.

use std::process::ExitCode;

use lastseen_node_agent::config::Config;
use lastseen_node_agent::run;
use lastseen_runtime::{config, telemetry};

fn main() -> ExitCode {
    let config: Config = config::parse();
    telemetry::init(config.log_format, "info");
    match run::until_signalled(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
