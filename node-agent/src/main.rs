//! The program `node-agent`.

use std::process::ExitCode;

use lastseen_node_agent::config::Config;
use lastseen_node_agent::run;
use lastseen_runtime::{config, telemetry};

fn main() -> ExitCode {
    let config: Config = config::parse();
    let endpoint = config.otlp_endpoint.clone();
    let ended = telemetry::init("node-agent", config.log_format, "info", endpoint.as_deref())
        .map_err(Into::into)
        .and_then(|_telemetry| run::until_signalled(config));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
