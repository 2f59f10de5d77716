//! The node agent on clocks that are off, as `LASTSEEN_LAB_SKEW` says.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use lastseen_node_agent::config::Config;
use lastseen_node_agent::{clock, run};
use lastseen_runtime::{config, telemetry};
use lastseen_tests::product::skew::{self, Skew};

fn main() -> ExitCode {
    let config: Config = config::parse();
    match start(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn start(config: Config) -> Result<()> {
    let _telemetry = telemetry::init("node-agent", config.log_format, "info", None)?;
    let skew: Skew = std::env::var(skew::VARIABLE).context(skew::VARIABLE)?.parse()?;
    if !clock::install(Box::new(skew)) {
        bail!("a clock is installed already");
    }
    run::until_signalled(config).map_err(anyhow::Error::from_boxed)
}
