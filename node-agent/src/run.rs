//! The agent as a whole.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lastseen_runtime::identity::Role;
use lastseen_runtime::tls::{Pki, TlsError};
use lastseen_runtime::{admin, expiry, shutdown};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::capture::budget::Budget;
use crate::config::Config;
use crate::control::{Control, Pace};
use crate::host::{Host, Kernel};
use crate::interfaces::NetlinkError;
use crate::interfaces::watch::Network;
use crate::job::Context;
use crate::job::board::Board;
use crate::metrics::{self, Metrics};
use crate::spool::{Settings, Spool, SpoolError};
use crate::{privileges, probe};

/// Why the agent does not start. One line each, with the next step.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The key material.
    #[error(transparent)]
    Pki(#[from] TlsError),
    /// The certificate is no agent's.
    #[error(
        "pki-dir: the certificate is for {identity}, not for an agent; make one with `ctl pki issue DIR agent {node}`"
    )]
    Role {
        /// What it says.
        identity: String,
        /// What it should say.
        node: String,
    },
    /// The certificate is another node's.
    #[error(
        "node-name: {node} is not the node of the certificate, {certificate}; set --node-name {certificate} or issue a certificate for {node}"
    )]
    Node {
        /// As configured.
        node: String,
        /// As certified.
        certificate: String,
    },
    /// A coordinator that is no address.
    #[error("coordinator: {0:?} is not HOST:PORT; give for example coordinator.lastseen:7443")]
    Coordinator(String),
    /// The admin port.
    #[error(
        "admin-listen: cannot listen on {address}: {source}; is another agent running? Choose another port"
    )]
    Admin {
        /// As configured.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The network cannot be looked at.
    #[error(transparent)]
    Network(#[from] NetlinkError),
}

/// Runs the agent on a runtime of its own until a signal ends it. All of a program that is an agent but its flags.
pub fn until_signalled(config: Config) -> Result<(), Box<dyn Error + Send + Sync>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async { Ok(run(config, shutdown::signalled()?).await?) });
    // A name server that does not answer holds a thread of the runtime; it must not hold the process.
    runtime.shutdown_background();
    ended
}

/// Runs until `shutdown`. An error means that it did not start.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), StartError> {
    run_on(Arc::new(Kernel), config, shutdown).await
}

/// As [`run`], with the network and the packets of `host`.
pub async fn run_on(
    host: Arc<dyn Host>,
    config: Config,
    shutdown: CancellationToken,
) -> Result<(), StartError> {
    let node = node_name(&config);
    let pki = Pki::open(&config.pki_dir)?;
    check_identity(&pki, &node)?;
    check_coordinators(&config.coordinator)?;
    let address = config.admin_listen;
    let listener =
        TcpListener::bind(address).await.map_err(|source| StartError::Admin { address, source })?;
    let (metrics, mut registry) = Metrics::registered();
    let own = pki.clone();
    expiry::register(&mut registry, move || vec![(own.identity(), own.not_after())]);
    let spool = open_spool(&config, metrics.clone()).await?;
    let (board, probes) = (Board::default(), probe::board::Board::default());
    metrics::sample(&mut registry, &spool, &board, &probes);
    let network = Network::of(host).await?;
    privileges::log(&privileges::report());

    let connected = Arc::new(AtomicBool::new(false));
    let is_ready = {
        let (connected, spool, coordinators) =
            (connected.clone(), spool.clone(), config.coordinator.join(","));
        move || {
            let (connected, spool) = (connected.load(Ordering::Relaxed), spool.clone());
            readiness(connected, spool, coordinators.clone())
        }
    };
    let background = CancellationToken::new();
    tokio::spawn(admin::serve(listener, Arc::new(registry), is_ready, background.clone()));
    tokio::spawn(network.clone().follow(background.clone()));

    let context = Context {
        node: node.into(),
        backend: config.backend,
        ring_bytes: config.ring_bytes as usize,
        rings: Budget::new(config.ring_max_bytes as usize),
        network,
        spool: spool.clone(),
        board,
        probes,
        metrics,
    };
    let pace = Pace::default();
    Control { context, pki, coordinators: config.coordinator, connected, pace }.run(shutdown).await;
    background.cancel();
    let _ = tokio::task::spawn_blocking(move || spool.sync_all()).await;
    Ok(())
}

/// Ready, or why not and what to do: one line.
async fn readiness(connected: bool, spool: Arc<Spool>, coordinators: String) -> Result<(), String> {
    if !connected {
        return Err(format!(
            "not connected to a coordinator ({coordinators}); the log says why, and --coordinator where to"
        ));
    }
    match tokio::task::spawn_blocking(move || spool.trouble()).await {
        Ok(None) => Ok(()),
        Ok(Some(reason)) => {
            Err(format!("spool-dir: {reason}; observations are dropped until there is room in it"))
        }
        Err(error) => Err(format!("spool-dir: looking at it broke off: {error}; see the log")),
    }
}

/// Takes the spool with what an earlier process left in it.
async fn open_spool(config: &Config, metrics: Arc<Metrics>) -> Result<Arc<Spool>, StartError> {
    let directory = config.spool_dir.clone();
    let settings = Settings {
        directory: directory.clone(),
        max_bytes: config.spool_max_bytes,
        fsync: config.spool_fsync,
    };
    let opened = tokio::task::spawn_blocking(move || Spool::open(settings, rand::random(), metrics)).await;
    let opened =
        opened.unwrap_or_else(|error| Err(SpoolError::Directory { directory, source: error.into() }));
    Ok(Arc::new(opened?))
}

fn node_name(config: &Config) -> String {
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    config.node_name.clone().unwrap_or_else(host)
}

fn check_identity(pki: &Pki, node: &str) -> Result<(), StartError> {
    let identity = pki.identity();
    if identity.role != Role::Agent {
        return Err(StartError::Role { identity: identity.to_string(), node: node.to_owned() });
    }
    if identity.name != node {
        return Err(StartError::Node { node: node.to_owned(), certificate: identity.name });
    }
    Ok(())
}

fn check_coordinators(coordinators: &[String]) -> Result<(), StartError> {
    let is_address = |text: &String| {
        text.rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0))
    };
    match coordinators.iter().find(|text| !is_address(text)) {
        Some(text) => Err(StartError::Coordinator(text.clone())),
        None => Ok(()),
    }
}
