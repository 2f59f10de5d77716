//! A coordinator of a fleet, with a gate and a witness before it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::gate::Gate;
use super::pki::Authority;
use super::tap::{Identities, Log, Tap};
use crate::product::process::Process;

/// Where it serves, whether or not it is up, and how agents and callers come there.
pub struct Coordinator {
    /// Absent while it is down.
    pub process: Option<Process>,
    /// Where it listens, behind the gate.
    pub address: SocketAddr,
    /// Sees every batch and every acknowledgement.
    pub tap: Tap,
    /// Before it, also for the witness.
    pub gate: Gate,
    log: PathBuf,
}

impl Coordinator {
    /// The ways to a coordinator that is yet to be [started](Self::start).
    pub async fn at(
        address: SocketAddr,
        authority: &Authority,
        agents: Identities,
        seen: Arc<Log>,
        log: PathBuf,
    ) -> Result<Self> {
        let gate = Gate::start(address).await?;
        let tap = Tap::start(authority.coordinator(), agents, gate.address, seen).await?;
        Ok(Self { process: None, address, tap, gate, log })
    }

    /// Starts the program; `command` lacks where it listens.
    pub fn start(&mut self, mut command: Command) -> Result<()> {
        command.args(["--listen", &self.address.to_string()]);
        command.args(["--admin-listen", &SocketAddr::new(self.address.ip(), 7481).to_string()]);
        self.process = Some(Process::start_here(command, &self.log)?);
        Ok(())
    }

    /// `SIGKILL`.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.as_ref().context("the coordinator is down")?.signal(signal)
    }
}
