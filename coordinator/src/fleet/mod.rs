//! The nodes: what each agent said of itself, how to reach it now, and how its clock stands to ours.

#[cfg(test)]
pub(crate) mod fixtures;
mod keeper;
mod remote;
mod takeovers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
pub use keeper::Keeper;
pub use remote::{Detail, Remote};
use takeovers::Takeovers;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::clock::{ClockFilter, Exchange, aged};
use crate::limits;
use crate::model::{Capture, ClockFix, NodeRecord};
use crate::probes::model::{Probe, Source};

/// What the coordinator tells an agent about a job.
#[derive(Clone, Debug)]
pub enum Command {
    /// Get ready.
    Arm(Arc<Capture>),
    /// The window in the agent's monotonic clock.
    Commit {
        /// Capture id.
        capture: String,
        /// Start on the agent's `CLOCK_MONOTONIC`.
        start_monotonic_nanos: i64,
        /// End on the agent's `CLOCK_MONOTONIC`.
        end_monotonic_nanos: i64,
        /// Start on the coordinator's clock.
        start_nanos: i64,
    },
    /// Stop early, or forget.
    End {
        /// Capture id.
        capture: String,
        /// New end on the agent's `CLOCK_MONOTONIC`; absent: drop everything.
        end_monotonic_nanos: Option<i64>,
    },
}

/// What the coordinator tells an agent about a probe.
#[derive(Clone, Debug)]
pub enum ProbeCommand {
    /// Have it.
    Arm {
        /// Which.
        probe: Arc<Probe>,
        /// Begin of its first run on the agent's `CLOCK_MONOTONIC`.
        start_monotonic_nanos: i64,
        /// Networks that it may go to; none: the agent's own rule.
        allowed: Vec<String>,
    },
    /// It is over.
    End(String),
    /// Reports are stored, or never will be: probe, run and source of each.
    Stored(Vec<(String, u64, Source)>),
}

/// What an agent is told.
#[derive(Clone, Debug)]
pub enum Order {
    /// About a capture.
    Capture(Command),
    /// About a probe.
    Probe(ProbeCommand),
}

impl From<Command> for Order {
    fn from(command: Command) -> Self {
        Self::Capture(command)
    }
}

impl From<ProbeCommand> for Order {
    fn from(command: ProbeCommand) -> Self {
        Self::Probe(command)
    }
}

/// A connected agent, as a job sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Number of the control stream; a new stream has a new one.
    pub session: u64,
    /// Process of the agent.
    pub incarnation: u64,
    /// Its clock.
    pub clock: ClockFix,
    /// It said at registration that it still works on the capture.
    pub works_on_it: bool,
}

/// A node as people see it.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// What it said of itself.
    pub record: NodeRecord,
    /// Connected, and its clock is measured.
    pub is_ready: bool,
    /// Its clock.
    pub clock: Option<ClockFix>,
    /// Smallest round trip of its control stream.
    pub round_trip_nanos: Option<i64>,
    /// Memory of the agent's process.
    pub resident_bytes: Option<u64>,
    /// What is wrong with it, a line each.
    pub notes: Vec<String>,
}

/// Nodes by state, and the worst clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Connected, and their clocks are measured.
    pub ready: usize,
    /// Connected.
    pub connecting: usize,
    /// Ready at another coordinator.
    pub elsewhere: usize,
    /// Known from before.
    pub offline: usize,
    /// Offline for so long that captures on all nodes do without them.
    pub gone: usize,
    /// Largest bound of a ready node's clock error; 0 without one.
    pub clock_error_nanos: i64,
}

/// Silent for so long that it has probably left the fabric.
pub fn is_gone(node: &NodeRecord, now_nanos: i64) -> bool {
    now_nanos.saturating_sub(node.last_seen_nanos) >= limits::MISSED_NANOS
}

/// Why a control stream is cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CutOff {
    /// The node connected again, from this address.
    Replaced(String),
    /// The agent does not take its commands.
    Stuck,
}

/// The agent's end of a new control stream.
#[derive(Debug)]
pub struct Session {
    /// Its number.
    pub id: u64,
    /// What to tell the agent.
    pub commands: mpsc::Receiver<Order>,
    /// Resolves when the stream is to end.
    pub cut_off: oneshot::Receiver<CutOff>,
}

#[derive(Debug)]
struct Live {
    session: u64,
    commands: mpsc::Sender<Order>,
    /// Absent once used.
    cut_off: Option<oneshot::Sender<CutOff>>,
    works_on: BTreeSet<String>,
    connected_at_nanos: i64,
}

#[derive(Debug)]
struct Entry {
    record: NodeRecord,
    live: Option<Live>,
    /// When the last control stream here began.
    connected_at_nanos: i64,
    /// At another coordinator.
    remote: Option<Remote>,
    clock: ClockFilter,
    resident_bytes: Option<u64>,
    takeovers: Takeovers,
}

#[derive(Debug, Default)]
struct State {
    nodes: BTreeMap<String, Entry>,
    sessions: u64,
}

/// Every node that ever registered.
#[derive(Debug)]
pub struct Fleet {
    state: Mutex<State>,
    changes: broadcast::Sender<String>,
    links: broadcast::Sender<String>,
}

impl Fleet {
    /// With the nodes of earlier runs, all of them offline.
    pub fn new(records: Vec<NodeRecord>) -> Self {
        let entry = |record: NodeRecord| {
            let name = record.name.clone();
            (name, Entry::new(record))
        };
        let nodes = records.into_iter().map(entry).collect();
        // Numbers of streams are told apart over all coordinators.
        let sessions = u64::from(rand::random::<u32>()) << 31;
        let (changes, _) = broadcast::channel(limits::WATCH_QUEUE);
        let (links, _) = broadcast::channel(limits::WATCH_QUEUE);
        Self { state: Mutex::new(State { nodes, sessions }), changes, links }
    }

    /// Names of nodes that changed in any way, from now on.
    pub fn changes(&self) -> broadcast::Receiver<String> {
        self.changes.subscribe()
    }

    /// Names of nodes whose [`Link`] came or went, from now on.
    pub fn links(&self) -> broadcast::Receiver<String> {
        self.links.subscribe()
    }

    /// An agent registered from the address `peer`. An older stream of the node is cut off. A new process starts a new
    /// clock, because the machine may have been started anew.
    pub fn connect(&self, record: NodeRecord, works_on: BTreeSet<String>, peer: &str) -> Session {
        let (sender, commands) = mpsc::channel(limits::AGENT_QUEUE);
        let (end, cut_off) = oneshot::channel();
        let name = record.name.clone();
        let mut state = self.lock();
        state.sessions += 1;
        let id = state.sessions;
        let mut entry = Entry::new(record);
        if let Some(old) = state.nodes.remove(&name) {
            entry.follow(old, peer);
        }
        let connected_at_nanos = entry.record.last_seen_nanos;
        entry.connected_at_nanos = connected_at_nanos;
        entry.live =
            Some(Live { session: id, commands: sender, cut_off: Some(end), works_on, connected_at_nanos });
        state.nodes.insert(name.clone(), entry);
        drop(state);
        self.relinked(&name);
        Session { id, commands, cut_off }
    }

    /// A control stream ended. False if a newer stream took over.
    pub fn disconnect(&self, name: &str, session: u64) -> bool {
        match self.lock().current(name, session) {
            Some(entry) => entry.live = None,
            None => return false,
        }
        self.relinked(name);
        true
    }

    /// The agent said something.
    pub fn heard(&self, name: &str, session: u64, now_nanos: i64) {
        if let Some(entry) = self.lock().current(name, session) {
            entry.record.last_seen_nanos = now_nanos;
        }
    }

    /// The agent's process uses this much memory.
    pub fn heartbeat(&self, name: &str, session: u64, resident_bytes: u64) {
        if let Some(entry) = self.lock().current(name, session) {
            entry.resident_bytes = Some(resident_bytes);
        }
        self.changed(name);
    }

    /// A clock exchange came to its end.
    pub fn measured(&self, name: &str, session: u64, exchange: &Exchange) {
        let first = {
            let mut state = self.lock();
            let Some(entry) = state.current(name, session) else { return };
            let was_ready = entry.clock.round_trip_nanos().is_some();
            if !entry.clock.add(exchange) {
                tracing::warn!(node = name, "clock reply dropped: its times contradict each other");
            }
            !was_ready
        };
        if first {
            self.relinked(name);
        }
    }

    /// The node's network changed. Jobs see it at once; the others hear of it with [`Fleet::settled`].
    pub fn network(&self, name: &str, session: u64, topology: Bytes) {
        if let Some(entry) = self.lock().current(name, session) {
            entry.record.topology = topology;
        }
    }

    /// Tells of the node's network. Returns what is to be remembered.
    pub fn settled(&self, name: &str) -> Option<NodeRecord> {
        let record = self.lock().nodes.get(name)?.record.clone();
        self.changed(name);
        Some(record)
    }

    /// Hands a command to the agent. False when it is not connected, or so far behind that its stream was cut off.
    pub fn send(&self, name: &str, command: impl Into<Order>) -> bool {
        let mut state = self.lock();
        let Some(live) = state.nodes.get_mut(name).and_then(|entry| entry.live.as_mut()) else {
            return false;
        };
        let sent = live.commands.try_send(command.into()).is_ok();
        if !sent {
            tracing::warn!(
                node = name,
                "the agent does not take its commands; its control stream is cut off"
            );
            live.cut_off(CutOff::Stuck);
        }
        sent
    }

    /// The agent, if it is ready.
    pub fn link(&self, name: &str, capture: &str, now_nanos: i64) -> Option<Link> {
        let state = self.lock();
        let entry = state.nodes.get(name)?;
        if let Some(remote) = entry.elsewhere() {
            return Some(remote.link(capture, now_nanos));
        }
        let live = entry.live.as_ref()?;
        Some(Link {
            session: live.session,
            incarnation: entry.record.incarnation,
            clock: entry.clock.best(now_nanos)?,
            works_on_it: live.works_on.contains(capture),
        })
    }

    /// One node.
    pub fn node(&self, name: &str, now_nanos: i64) -> Option<NodeView> {
        self.lock().nodes.get(name).map(|entry| entry.view(now_nanos))
    }

    /// How many there are in which state.
    pub fn census(&self, now_nanos: i64) -> Census {
        let mut census = Census::default();
        for entry in self.lock().nodes.values() {
            match (&entry.live, entry.clock.best(now_nanos)) {
                _ if entry.elsewhere().is_some() => census.elsewhere += 1,
                (Some(_), Some(clock)) => {
                    census.ready += 1;
                    census.clock_error_nanos = census.clock_error_nanos.max(clock.error_nanos);
                }
                (Some(_), None) => census.connecting += 1,
                (None, _) if is_gone(&entry.record, now_nanos) => census.gone += 1,
                (None, _) => census.offline += 1,
            }
        }
        census
    }

    /// Every node, by name.
    pub fn nodes(&self, now_nanos: i64) -> Vec<NodeView> {
        self.lock().nodes.values().map(|entry| entry.view(now_nanos)).collect()
    }

    fn relinked(&self, name: &str) {
        let _ = self.links.send(name.to_owned());
        self.changed(name);
    }

    fn changed(&self, name: &str) {
        // Without a watcher there is no one to tell.
        let _ = self.changes.send(name.to_owned());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The node, if `session` is its newest stream.
    fn current(&mut self, name: &str, session: u64) -> Option<&mut Entry> {
        self.nodes
            .get_mut(name)
            .filter(|entry| entry.live.as_ref().is_some_and(|live| live.session == session))
    }
}

impl Live {
    fn cut_off(&mut self, why: CutOff) {
        if let Some(end) = self.cut_off.take() {
            // It may be about to end by itself.
            let _ = end.send(why);
        }
    }
}

impl Entry {
    fn new(record: NodeRecord) -> Self {
        let (clock, takeovers) = (ClockFilter::default(), Takeovers::default());
        Self {
            record,
            live: None,
            connected_at_nanos: 0,
            remote: None,
            clock,
            resident_bytes: None,
            takeovers,
        }
    }

    /// Takes the place of `old`: its stream is cut off, and what is still true is kept.
    fn follow(&mut self, old: Self, peer: &str) {
        let is_same_process = old.record.incarnation == self.record.incarnation;
        self.takeovers = old.takeovers;
        self.remote = old.remote;
        if let Some(mut live) = old.live {
            live.cut_off(CutOff::Replaced(peer.to_owned()));
            if !is_same_process {
                self.takeovers.add(&self.record.name, peer, self.record.last_seen_nanos);
            }
        }
        if is_same_process {
            self.clock = old.clock;
        }
    }

    fn view(&self, now_nanos: i64) -> NodeView {
        if let Some(remote) = self.elsewhere() {
            return remote.view(&self.record, now_nanos);
        }
        let clock = self.clock.best(now_nanos);
        NodeView {
            record: self.record.clone(),
            is_ready: self.live.is_some() && clock.is_some(),
            clock,
            round_trip_nanos: self.clock.round_trip_nanos(),
            resident_bytes: self.resident_bytes.filter(|_| self.live.is_some()),
            notes: self.takeovers.note(now_nanos).into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests;
