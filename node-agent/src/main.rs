//! The program `node-agent`.

use std::error::Error;
use std::process::ExitCode;

use lastseen_node_agent::config::Config;
use lastseen_node_agent::run::run;
use lastseen_runtime::{config, shutdown, telemetry};

fn main() -> ExitCode {
    let config: Config = config::parse();
    telemetry::init(config.log_format, "info");
    match start(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn start(config: Config) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async { Ok(run(config, shutdown::signalled()?).await?) });
    // A name server that does not answer holds a thread of the runtime; it must not hold the process.
    runtime.shutdown_background();
    ended
}
