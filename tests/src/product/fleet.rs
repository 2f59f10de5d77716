//! A coordinator on the management network and an agent on every node.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::binaries::Binaries;
use super::ctl::Ctl;
use super::pki::Pki;
use super::process::Process;
use super::relay;
use super::skew::{self, Skew};
use crate::lab::Lab;
use crate::lab::node::Node;

/// The coordinator's port.
pub const PORT: u16 = 7443;

/// How long a started fleet may take until every agent is ready.
const READY: Duration = Duration::from_secs(30);

/// How long a daemon may take to stop: the promised ten seconds and a little.
pub const STOP: Duration = Duration::from_secs(12);

/// The product running in a lab; everything stops when it is dropped.
#[derive(Debug)]
pub struct Fleet<'lab> {
    /// The lab it runs in.
    pub lab: &'lab Lab,
    /// The certificates' authority.
    pub pki: Pki,
    /// The coordinator, absent while it is down.
    pub coordinator: Option<Process>,
    /// One agent per node, in the lab's order.
    pub agents: Vec<Process>,
    /// A client with an operator's identity.
    pub ctl: Ctl<'lab>,
    /// The programs.
    pub binaries: Binaries,
    folder: TempDir,
}

impl<'lab> Fleet<'lab> {
    /// Issues certificates, starts everything and waits until all agents are ready.
    pub fn start(lab: &'lab Lab) -> Result<Self> {
        let binaries = Binaries::locate()?;
        let folder = tempfile::Builder::new().prefix(&lab.plan.prefix).tempdir()?;
        let pki = Pki::create(&binaries.ctl, folder.path())?;
        let ctl = Ctl {
            netns: &lab.management,
            program: binaries.ctl.clone(),
            server: format!("{}:{PORT}", lab.plan.coordinator),
            pki: pki.issue("operator", "tester", &[])?,
        };
        pki.coordinator(lab.plan.coordinator)?;
        let mut fleet = Self { lab, pki, coordinator: None, agents: Vec::new(), ctl, binaries, folder };
        fleet.start_coordinator()?;
        for node in &lab.nodes {
            fleet.pki.issue("agent", &node.plan.name, &[])?;
            fleet.agents.push(fleet.agent(node, &[])?);
        }
        fleet.wait_until_ready()?;
        Ok(fleet)
    }

    /// Starts the coordinator on its data folder, which outlives it.
    pub fn start_coordinator(&mut self) -> Result<()> {
        let mut command = Command::new(&self.binaries.coordinator);
        command
            .args(["--listen", &self.ctl.server])
            .arg("--data-dir")
            .arg(self.path("data"))
            .arg("--pki-dir")
            .arg(self.path("coordinator-coordinator"));
        self.coordinator =
            Some(Process::start(&self.lab.management, command, &self.path("coordinator.log"))?);
        Ok(())
    }

    /// SIGKILL, as a node failure would look; the data folder stays.
    pub fn kill_coordinator(&mut self) {
        self.coordinator = None;
    }

    /// Replaces a node's agent by one with further flags.
    pub fn restart_agent(&mut self, node: &Node, flags: &[&str]) -> Result<()> {
        let index = self.index_of(node)?;
        self.agents[index].signal(Signal::SIGTERM)?;
        self.agents[index].wait(STOP)?;
        self.start_agent(node, flags)
    }

    /// Replaces a node's agent by one to which everything from the coordinator comes `delay` late.
    pub fn slow_agent(&mut self, node: &Node, delay: Duration) -> Result<()> {
        let to = self.ctl.server.parse().context("the coordinator's address")?;
        let relay = relay::start(&node.netns, to, delay)?;
        self.restart_agent(node, &["--coordinator", &relay.to_string()])
    }

    /// Replaces a node's agent by one whose clocks are off.
    pub fn skew_agent(&mut self, node: &Node, skew: Skew) -> Result<()> {
        let program = Binaries::skewed_agent()?;
        let index = self.index_of(node)?;
        self.agents[index].signal(Signal::SIGTERM)?;
        self.agents[index].wait(STOP)?;
        let before = self.incarnation(node)?;
        let mut command = Command::new(program);
        command.env(skew::VARIABLE, skew.to_string());
        self.agents[index] = self.run_agent(command, node, &[])?;
        self.wait_until_replaced(node, &before)
    }

    /// SIGKILL for a node's agent, and a new one at once.
    pub fn kill_agent(&mut self, node: &Node) -> Result<()> {
        let index = self.index_of(node)?;
        self.agents[index].signal(Signal::SIGKILL)?;
        self.agents[index].wait(STOP)?;
        self.agents[index] = self.agent(node, &[])?;
        Ok(())
    }

    /// Starts a node's agent again after it has left, and waits until the new process is ready.
    pub fn start_agent(&mut self, node: &Node, flags: &[&str]) -> Result<()> {
        let index = self.index_of(node)?;
        let before = self.incarnation(node)?;
        self.agents[index] = self.agent(node, flags)?;
        self.wait_until_replaced(node, &before)
    }

    fn wait_until_replaced(&self, node: &Node, before: &Value) -> Result<()> {
        let replaced = |reply: &Value| {
            let found = find(reply, node)?;
            (found["state"] == "READY" && found["incarnation"] != *before).then_some(())
        };
        self.ctl
            .wait_for("the new agent ready", READY, &["list-nodes"], replaced)
            .with_context(|| self.logs())
    }

    /// What tells one process of a node's agent from the next.
    fn incarnation(&self, node: &Node) -> Result<Value> {
        let nodes = self.ctl.json(&["list-nodes"])?;
        Ok(find(&nodes, node).context("the agent never registered")?["incarnation"].clone())
    }

    /// What has stopped although nobody stopped it; empty when all runs and every node is ready.
    pub fn casualties(&mut self) -> Vec<String> {
        let mut dead = Vec::new();
        for process in self.coordinator.iter_mut().chain(&mut self.agents) {
            if !process.is_running() {
                dead.push(process.tail());
            }
        }
        dead.extend(self.wait_until_ready().err().map(|error| format!("{error:#}")));
        dead
    }

    /// Stops a node's agent and waits until the coordinator knows.
    pub fn stop_agent(&mut self, node: &Node) -> Result<()> {
        let index = self.index_of(node)?;
        self.agents[index].signal(Signal::SIGTERM)?;
        self.agents[index].wait(STOP)?;
        let offline = |reply: &Value| (find(reply, node)?["state"] == "OFFLINE").then_some(());
        self.ctl.wait_for("the node offline", READY, &["list-nodes"], offline)
    }

    /// The agent of a node.
    pub fn agent_of(&self, node: &Node) -> Result<&Process> {
        Ok(&self.agents[self.index_of(node)?])
    }

    /// Waits until the coordinator lists every node as ready.
    pub fn wait_until_ready(&self) -> Result<()> {
        let wanted = self.lab.nodes.len();
        let ready = |reply: &Value| {
            let nodes = reply["nodes"].as_array()?;
            (nodes.iter().filter(|node| node["state"] == "READY").count() == wanted).then_some(())
        };
        self.ctl.wait_for("every agent ready", READY, &["list-nodes"], ready).with_context(|| self.logs())
    }

    /// The end of every log, for a failure message.
    pub fn logs(&self) -> String {
        let processes = self.coordinator.iter().chain(&self.agents);
        processes.map(Process::tail).collect::<Vec<_>>().join("\n\n")
    }

    /// A path in the fleet's own folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Leaves the fleet's folder behind when the fleet is dropped.
    pub fn keep_folder(&mut self) -> &Path {
        self.folder.disable_cleanup(true);
        self.folder.path()
    }

    fn agent(&self, node: &Node, flags: &[&str]) -> Result<Process> {
        self.run_agent(Command::new(&self.binaries.node_agent), node, flags)
    }

    fn run_agent(&self, mut command: Command, node: &Node, flags: &[&str]) -> Result<Process> {
        let name = &node.plan.name;
        if !flags.contains(&"--coordinator") {
            command.args(["--coordinator", &self.ctl.server]);
        }
        command
            .args(["--node-name", name])
            .arg("--pki-dir")
            .arg(self.path(&format!("agent-{name}")))
            .arg("--spool-dir")
            .arg(self.path(&format!("spool-{name}")))
            .args(flags);
        Process::start(&node.netns, command, &self.path(&format!("{name}.log")))
    }

    fn index_of(&self, node: &Node) -> Result<usize> {
        let found = self.lab.nodes.iter().position(|other| other.plan.name == node.plan.name);
        found.with_context(|| format!("{} is not a node of this lab", node.plan.name))
    }
}

/// A node's entry in the reply of `list-nodes`.
fn find<'reply>(reply: &'reply Value, node: &Node) -> Option<&'reply Value> {
    reply["nodes"].as_array()?.iter().find(|found| found["name"] == *node.plan.name)
}
