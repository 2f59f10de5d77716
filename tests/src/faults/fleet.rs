//! Coordinators and agents on loopback, with a witness between them: processes that can be killed and frozen, ways that
//! can be cut, disks that can be filled.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use lastseen_coordinator::store::{self, Store};
use lastseen_runtime::tls::Pki;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::client::Client;
use super::coordinator::Coordinator;
use super::disk::SmallDisk;
use super::gate::Gate;
use super::pki::Authority;
use super::postgres::Database;
use super::tap::{Identities, Log};
use crate::product::binaries::Binaries;
use crate::product::process::Process;
use crate::scripted::script::Script;
use crate::scripted::{clock, script};

/// What runs on the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agents {
    /// A process for each, whose packets are made up.
    Scripted,
    /// The same, many in a process.
    Together,
    /// The agent as users have it, on this machine's interfaces.
    Real,
}

/// Agents in a process of [`Agents::Together`].
const TOGETHER: usize = 50;

/// What a fleet is made of.
#[derive(Debug, Clone)]
pub struct Setup {
    /// What happens on the wire.
    pub script: Script,
    /// Nodes, in pairs.
    pub nodes: usize,
    /// What runs on them.
    pub agents: Agents,
    /// Agents reach coordinators through a witness; without one nothing is known of what they send.
    pub witnessed: bool,
    /// Coordinators over one database and one directory; more than one need Postgres.
    pub coordinators: usize,
    /// Keep rows in a Postgres of the fleet's own.
    pub postgres: bool,
    /// Bytes of the file system under the first node's spool; absent: the machine's.
    pub spool_disk: Option<u64>,
    /// Bytes of the file system under the coordinators' data; absent: the machine's.
    pub data_disk: Option<u64>,
    /// Further flags of every agent.
    pub agent_flags: Vec<String>,
    /// By how much the first node's clock is set when it is told to.
    pub step: Option<Duration>,
    /// Put before the coordinators' own command line.
    pub wrapper: Vec<String>,
}

impl Setup {
    /// Two nodes.
    pub fn new(seed: u64) -> Self {
        Self {
            script: Script { seed, flows: 4, every_nanos: 1_000_000, lost_permille: 40 },
            nodes: 2,
            agents: Agents::Scripted,
            witnessed: true,
            coordinators: 1,
            postgres: false,
            spool_disk: None,
            data_disk: None,
            agent_flags: Vec::new(),
            step: None,
            wrapper: Vec::new(),
        }
    }

    /// Two nodes and so many coordinators.
    pub fn of_coordinators(coordinators: usize, seed: u64) -> Self {
        Self { coordinators, postgres: coordinators > 1, ..Self::new(seed) }
    }
}

/// A running fleet; everything stops when it is dropped.
pub struct Fleet {
    /// What it is made of.
    pub setup: Setup,
    /// As many as the setup says, up or not.
    pub coordinators: Vec<Coordinator>,
    /// By node, or as many nodes as are [together](Agents::Together); absent while it is down.
    pub agents: Vec<Option<Process>>,
    /// What the witnesses saw.
    pub seen: Arc<Log>,
    /// From each process of agents to the witness of each coordinator.
    gates: Vec<Vec<Gate>>,
    /// Holds the first node's spool.
    pub spool_disk: Option<SmallDisk>,
    /// Holds the coordinators' data.
    pub data_disk: Option<SmallDisk>,
    /// Where rows are, if not in a file.
    pub database: Option<Database>,
    /// Issues certificates.
    pub authority: Authority,
    /// Of the agents.
    pub identities: Identities,
    operator: Pki,
    coordinator_pki: Pki,
    binaries: Binaries,
    folder: TempDir,
}

impl Fleet {
    /// Starts everything and waits until every agent is ready.
    pub async fn start(setup: Setup) -> Result<Self> {
        // The witness of a large fleet and its agents have many connections.
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
        let folder = super::folder()?;
        let path = folder.path().to_owned();
        let make = |name: &str| std::fs::create_dir_all(path.join(name));
        let first_spool = format!("spools/{}", script::name(0));
        make(&first_spool)?;
        make("data")?;
        let small = |bytes: Option<u64>, name: &str| {
            bytes.map(|bytes| SmallDisk::mount(&folder.path().join(name), bytes))
        };
        let spool_disk = small(setup.spool_disk, &first_spool).transpose()?;
        let data_disk = small(setup.data_disk, "data").transpose()?;
        let database = if setup.postgres { Some(Database::alone().await) } else { None };
        let (authority, identities) = (Authority::new(), Identities::default());
        let seen = Arc::new(Log::default());
        let mut coordinators = Vec::new();
        for number in 0..setup.coordinators {
            let address = SocketAddr::new(own_address().into(), 7443);
            let log = path.join(format!("coordinator-{number}.log"));
            let one = Coordinator::at(address, &authority, identities.clone(), seen.clone(), log);
            coordinators.push(one.await?);
        }
        let coordinator_pki = authority.coordinator();
        let operator = authority.identity("operator", "eve");
        let binaries = Binaries::locate()?;
        let mut fleet = Self {
            coordinators,
            agents: Vec::new(),
            seen,
            gates: Vec::new(),
            setup,
            spool_disk,
            data_disk,
            database,
            authority,
            identities,
            operator,
            coordinator_pki,
            binaries,
            folder,
        };
        fleet.start_coordinators()?;
        make("pki")?;
        (0..fleet.setup.nodes).try_for_each(|node| fleet.issue(node))?;
        for process in 0..fleet.setup.nodes.div_ceil(fleet.in_each()) {
            let mut gates = Vec::new();
            for coordinator in &fleet.coordinators {
                let witness = coordinator.tap.address;
                gates.push(
                    Gate::start(if fleet.setup.witnessed { witness } else { coordinator.address }).await?,
                );
            }
            fleet.gates.push(gates);
            fleet.agents.push(None);
            fleet.start_agent(process)?;
        }
        fleet.ready().await?;
        Ok(fleet)
    }

    /// Agents in each process.
    fn in_each(&self) -> usize {
        if self.setup.agents == Agents::Together { TOGETHER } else { 1 }
    }

    /// A certificate for a node, also where an agent among others looks for it.
    fn issue(&self, node: usize) -> Result<()> {
        let name = script::name(node);
        let pki = self.authority.identity("agent", &name);
        symlink(pki.dir(), self.path("pki").join(&name)).with_context(|| name.clone())?;
        self.identities.lock().unwrap_or_else(PoisonError::into_inner).insert(name, pki);
        Ok(())
    }

    /// A path in the fleet's own folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the coordinators that are down.
    pub fn start_coordinators(&mut self) -> Result<()> {
        let is_down = |number: &usize| self.coordinators[*number].process.is_none();
        let down: Vec<_> = (0..self.coordinators.len()).filter(is_down).collect();
        down.into_iter().try_for_each(|number| self.start_coordinator(number))
    }

    /// Starts a coordinator on its data, which outlives it.
    pub fn start_coordinator(&mut self, number: usize) -> Result<()> {
        let mut words = self.setup.wrapper.clone();
        words.push(self.binaries.coordinator.to_string_lossy().into_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command.arg("--data-dir").arg(self.path("data")).arg("--pki-dir").arg(self.coordinator_pki.dir());
        if let Some(database) = &self.database {
            command.env("LASTSEEN_DATABASE_URL", database.url());
        }
        self.coordinators[number].start(command)
    }

    /// Starts a process of agents on spools that outlive it: a node's, or those of as many nodes as are together.
    pub fn start_agent(&mut self, process: usize) -> Result<()> {
        let first = process * self.in_each();
        let name = script::name(first);
        let is_real = self.setup.agents == Agents::Real;
        let program = if is_real { self.binaries.node_agent.clone() } else { Binaries::scripted_agent()? };
        let mut command = Command::new(program);
        command.env(script::VARIABLE, serde_json::to_string(&self.setup.script)?);
        if let Some(step) = self.setup.step.filter(|_| process == 0) {
            command.env(clock::VARIABLE, step.as_nanos().to_string());
        }
        let (mut pki, mut spools) = (self.path("pki").join(&name), self.path("spools").join(&name));
        if self.setup.agents == Agents::Together {
            (pki, spools) = (self.path("pki"), self.path("spools"));
            let count = self.in_each().min(self.setup.nodes - first);
            command.env(script::COUNT_VARIABLE, count.to_string());
        }
        command.args(["--node-name", &name, "--admin-listen", "127.0.0.1:0"]);
        // Those of odd nodes go to the last coordinator first.
        let mut servers: Vec<_> = self.gates[process].iter().map(|gate| gate.address.to_string()).collect();
        servers.rotate_left(process % self.setup.coordinators);
        command.args(["--coordinator", &servers.join(",")]);
        command.arg("--pki-dir").arg(pki).arg("--spool-dir").arg(spools).args(&self.setup.agent_flags);
        self.agents[process] = Some(Process::start_here(command, &self.path(&format!("{name}.log")))?);
        Ok(())
    }

    /// Key material of a node's agent.
    pub fn identity(&self, node: usize) -> Pki {
        self.identities.lock().unwrap_or_else(PoisonError::into_inner)[&script::name(node)].clone()
    }

    /// `SIGKILL` for a node's agent.
    pub fn kill_agent(&mut self, node: usize) {
        self.agents[node] = None;
    }

    /// Sends a signal to a node's agent.
    pub fn signal_agent(&self, node: usize, signal: Signal) -> Result<()> {
        self.agents[node].as_ref().context("the agent is down")?.signal(signal)
    }

    /// Nothing gets through between a node's agent and any coordinator, until [`Fleet::join`].
    pub fn part(&self, node: usize) {
        self.gates[node].iter().for_each(Gate::die);
    }

    /// Takes back [`Fleet::part`].
    pub fn join(&self, node: usize) {
        self.gates[node].iter().for_each(Gate::live);
    }

    /// Ends the connections of a node's agent.
    pub fn cut(&self, node: usize) {
        self.gates[node].iter().for_each(Gate::cut);
    }

    /// What the programs last said, for a failure message.
    pub fn logs(&self) -> String {
        let coordinators = self.coordinators.iter().filter_map(|one| one.process.as_ref());
        let processes = coordinators.chain(self.agents.iter().flatten());
        processes.map(Process::tail).collect::<Vec<_>>().join("\n\n")
    }

    /// The database and the files of the coordinators, beside them.
    pub async fn store(&self) -> Result<Arc<dyn Store>> {
        let url = self.database.as_ref().map(Database::url);
        Ok(store::open(url.as_deref(), &self.path("data")).await?)
    }

    /// An operator's calls, of any coordinator.
    pub fn client(&self) -> Client {
        let servers: Vec<_> = self.coordinators.iter().map(|one| one.gate.address.to_string()).collect();
        Client::new(servers.join(","), self.operator.clone())
    }

    /// Waits until a coordinator lists every node as ready.
    pub async fn ready(&self) -> Result<()> {
        self.client().ready(self.setup.nodes).await.with_context(|| self.logs())
    }

    /// Where coordinators keep observation files.
    pub fn observations(&self) -> PathBuf {
        self.path("data").join("observations")
    }
}

/// A loopback address that no other program uses: ports of restarted programs stay theirs.
fn own_address() -> Ipv4Addr {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let [.., high, low] = std::process::id().to_be_bytes();
    // The last fleets are long gone when the count begins anew.
    Ipv4Addr::new(127, 64 | high & 63, low, 1 + (COUNT.fetch_add(1, Ordering::Relaxed) % 250) as u8)
}
