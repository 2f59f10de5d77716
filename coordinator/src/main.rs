//! The coordinator's program.

use std::process::ExitCode;
use std::time::Duration;

use lastseen_coordinator::config::Config;
use lastseen_coordinator::server::Coordinator;
use lastseen_runtime::{config, shutdown, telemetry};
use nix::sys::stat::Mode;

/// At the end a correlation run may still be under way on a thread that nobody waits for: the next process repeats it.
const ABANDON: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let config: Config = config::parse();
    match start(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn start(config: &Config) -> anyhow::Result<()> {
    // What was observed is for this process alone; others ask it and are on record.
    nix::sys::stat::umask(Mode::S_IRWXG | Mode::S_IRWXO);
    let endpoint = config.otlp_endpoint.as_deref();
    let _telemetry = telemetry::init("coordinator", config.log_format, "info", endpoint)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(run(config));
    runtime.shutdown_timeout(ABANDON);
    result
}

async fn run(config: &Config) -> anyhow::Result<()> {
    let stopping = shutdown::signalled()?;
    Coordinator::open(config, stopping).await?.serve().await
}
