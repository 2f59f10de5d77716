//! Node agents on nodes that are made up, one or many in this process, as `LASTSEEN_SCRIPT` says.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use lastseen_node_agent::config::Config;
use lastseen_node_agent::{clock, run};
use lastseen_runtime::{config, shutdown, telemetry};
use lastseen_tests::scripted::clock::{self as steps, Steppable};
use lastseen_tests::scripted::host::ScriptedHost;
use lastseen_tests::scripted::script::{self, Script};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

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
    let script = serde_json::from_str(&std::env::var(script::VARIABLE).context(script::VARIABLE)?)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(run_all(config, script));
    runtime.shutdown_background();
    ended
}

async fn run_all(config: Config, script: Script) -> Result<()> {
    if let Ok(step) = std::env::var(steps::VARIABLE) {
        install(Steppable::new(step.parse().context(steps::VARIABLE)?))?;
    }
    let shutdown = shutdown::signalled()?;
    let mut agents = JoinSet::new();
    for (node, config) in configs(config)? {
        agents.spawn(run_one(ScriptedHost { script, node }, config, shutdown.clone()));
    }
    while let Some(ended) = agents.join_next().await {
        ended??;
    }
    Ok(())
}

async fn run_one(host: ScriptedHost, config: Config, shutdown: CancellationToken) -> Result<()> {
    run::run_on(Arc::new(host), config, shutdown).await.with_context(|| script::name(host.node))
}

/// The nodes of this process and the settings of their agents.
fn configs(config: Config) -> Result<Vec<(usize, Config)>> {
    let first =
        config.node_name.as_deref().and_then(script::number).context("--node-name: not a scripted node")?;
    let Ok(count) = std::env::var(script::COUNT_VARIABLE) else { return Ok(vec![(first, config)]) };
    let count: usize = count.parse().context(script::COUNT_VARIABLE)?;
    let of = |node| {
        let name = script::name(node);
        let (pki_dir, spool_dir) = (config.pki_dir.join(&name), config.spool_dir.join(&name));
        (node, Config { node_name: Some(name), pki_dir, spool_dir, ..config.clone() })
    };
    Ok((first..first + count).map(of).collect())
}

/// Has the clock of this process set when the signal comes.
fn install(clock: Steppable) -> Result<()> {
    let mut signals = signal(SignalKind::user_defined1())?;
    if !clock::install(Box::new(clock.clone())) {
        bail!("a clock is installed already");
    }
    tokio::spawn(async move {
        while signals.recv().await.is_some() {
            clock.set();
        }
    });
    Ok(())
}
