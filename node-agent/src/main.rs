//! The program `node-agent`.

use std::process::ExitCode;

use lastseen_node_agent::config::Config;
use lastseen_node_agent::run::run;
use lastseen_runtime::{config, shutdown, telemetry};

#[tokio::main]
async fn main() -> ExitCode {
    let config: Config = config::parse();
    telemetry::init(config.log_format, "info");
    let started = async {
        let shutdown = shutdown::signalled()?;
        run(config, shutdown).await?;
        Ok::<_, Box<dyn std::error::Error>>(())
    };
    match started.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
