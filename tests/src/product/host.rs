//! A namespace with nothing but its loopback, and programs with certificates for it.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use tempfile::TempDir;

use super::binaries::Binaries;
use super::ctl::Ctl;
use super::fleet::PORT;
use super::pki::Pki;
use super::process::Process;
use crate::lab::cleanup;
use crate::lab::netns::Netns;

/// One machine without a network. Everything goes when it is dropped.
#[derive(Debug)]
pub struct Host {
    /// Its namespace.
    pub netns: Netns,
    /// The programs.
    pub binaries: Binaries,
    /// Its authority.
    pub pki: Pki,
    folder: TempDir,
}

impl Host {
    /// Makes the namespace, whose name ends in `name`, and the authority.
    pub fn new(name: &str) -> Result<Self> {
        let prefix = format!("{}{name}-", cleanup::own_prefix());
        let netns = Netns::create(&format!("{prefix}host"))?;
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir()?;
        let binaries = Binaries::locate()?;
        let pki = Pki::create(&binaries.ctl, folder.path())?;
        Ok(Self { netns, binaries, pki, folder })
    }

    /// A path in the host's own folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The coordinator with its identity, still without a data directory.
    pub fn coordinator(&self) -> Result<Command> {
        let identity =
            self.identity("coordinator-coordinator", || self.pki.coordinator(Ipv4Addr::LOCALHOST))?;
        let mut command = Command::new(&self.binaries.coordinator);
        command.arg("--pki-dir").arg(identity);
        Ok(command)
    }

    /// The agent of node `name`, which looks for a coordinator on this host.
    pub fn agent(&self, name: &str) -> Result<Command> {
        let identity = self.identity(&format!("agent-{name}"), || self.pki.issue("agent", name, &[]))?;
        let mut command = Command::new(&self.binaries.node_agent);
        command.args(["--node-name", name, "--coordinator", &format!("127.0.0.1:{PORT}")]);
        command.arg("--pki-dir").arg(identity).arg("--spool-dir").arg(self.path(&format!("spool-{name}")));
        Ok(command)
    }

    /// An operator's `ctl`.
    pub fn ctl(&self) -> Result<Ctl<'_>> {
        Ok(Ctl {
            netns: &self.netns,
            program: self.binaries.ctl.clone(),
            server: format!("127.0.0.1:{PORT}"),
            pki: self.identity("operator-tester", || self.pki.issue("operator", "tester", &[]))?,
        })
    }

    /// Starts a program here; its log is a file of that name.
    pub fn start(&self, command: Command, log: &str) -> Result<Process> {
        Process::start(&self.netns, command, &self.path(log))
    }

    fn identity(&self, name: &str, issue: impl FnOnce() -> Result<PathBuf>) -> Result<PathBuf> {
        let folder = self.path(name);
        if Path::exists(&folder) { Ok(folder) } else { issue() }
    }
}
