//! The coordinator's program.

use std::process::ExitCode;

use lastseen_coordinator::config::Config;
use lastseen_coordinator::server::Coordinator;
use lastseen_runtime::{config, shutdown, telemetry};

#[tokio::main]
async fn main() -> ExitCode {
    let config: Config = config::parse();
    telemetry::init(config.log_format, "info");
    match run(&config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn run(config: &Config) -> anyhow::Result<()> {
    let stopping = shutdown::signalled()?;
    Coordinator::open(config, stopping).await?.serve().await
}
