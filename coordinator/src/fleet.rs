//! The nodes: what each agent said of itself, how to reach it now, and how its clock stands to ours.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use crate::clock::{ClockFilter, Exchange};
use crate::limits;
use crate::model::{Capture, ClockFix, NodeRecord};

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
}

/// The agent's end of a new control stream.
#[derive(Debug)]
pub struct Session {
    /// Its number.
    pub id: u64,
    /// What to tell the agent.
    pub commands: mpsc::Receiver<Command>,
    /// A newer stream of the same node took over.
    pub replaced: CancellationToken,
}

#[derive(Debug)]
struct Live {
    session: u64,
    commands: mpsc::Sender<Command>,
    replaced: CancellationToken,
    works_on: BTreeSet<String>,
}

#[derive(Debug)]
struct Entry {
    record: NodeRecord,
    live: Option<Live>,
    clock: ClockFilter,
    resident_bytes: Option<u64>,
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
}

impl Fleet {
    /// With the nodes of earlier runs, all of them offline.
    pub fn new(records: Vec<NodeRecord>) -> Self {
        let entry = |record: NodeRecord| {
            let name = record.name.clone();
            (name, Entry { record, live: None, clock: ClockFilter::default(), resident_bytes: None })
        };
        let nodes = records.into_iter().map(entry).collect();
        let (changes, _) = broadcast::channel(limits::WATCH_QUEUE);
        Self { state: Mutex::new(State { nodes, sessions: 0 }), changes }
    }

    /// Names of nodes that changed, from now on.
    pub fn changes(&self) -> broadcast::Receiver<String> {
        self.changes.subscribe()
    }

    /// An agent registered. An older stream of the node is cut off. A new process starts a new clock, because the
    /// machine may have been started anew.
    pub fn connect(&self, record: NodeRecord, works_on: BTreeSet<String>) -> Session {
        let (sender, commands) = mpsc::channel(limits::AGENT_QUEUE);
        let replaced = CancellationToken::new();
        let name = record.name.clone();
        let mut state = self.lock();
        state.sessions += 1;
        let id = state.sessions;
        let live = Live { session: id, commands: sender, replaced: replaced.clone(), works_on };
        let mut clock = ClockFilter::default();
        if let Some(old) = state.nodes.remove(&name) {
            if let Some(live) = old.live {
                live.replaced.cancel();
            }
            if old.record.incarnation == record.incarnation {
                clock = old.clock;
            }
        }
        state.nodes.insert(name.clone(), Entry { record, live: Some(live), clock, resident_bytes: None });
        drop(state);
        self.changed(&name);
        Session { id, commands, replaced }
    }

    /// A control stream ended. Returns what is to be remembered of the node, unless a newer stream took over.
    pub fn disconnect(&self, name: &str, session: u64) -> Option<NodeRecord> {
        let record = {
            let mut state = self.lock();
            let entry = state.current(name, session)?;
            entry.live = None;
            entry.record.clone()
        };
        self.changed(name);
        Some(record)
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
            self.changed(name);
        }
    }

    /// The node's network changed. Returns what is to be remembered.
    pub fn network(&self, name: &str, session: u64, topology: Bytes) -> Option<NodeRecord> {
        let record = {
            let mut state = self.lock();
            let entry = state.current(name, session)?;
            entry.record.topology = topology;
            entry.record.clone()
        };
        self.changed(name);
        Some(record)
    }

    /// Hands a command to the agent. False when it is not connected, or so far behind that its stream was cut off.
    pub fn send(&self, name: &str, command: Command) -> bool {
        let state = self.lock();
        let Some(live) = state.nodes.get(name).and_then(|entry| entry.live.as_ref()) else { return false };
        let sent = live.commands.try_send(command).is_ok();
        if !sent {
            tracing::warn!(
                node = name,
                "the agent does not take its commands; its control stream is cut off"
            );
            live.replaced.cancel();
        }
        sent
    }

    /// The agent, if it is ready.
    pub fn link(&self, name: &str, capture: &str, now_nanos: i64) -> Option<Link> {
        let state = self.lock();
        let entry = state.nodes.get(name)?;
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

    /// Every node, by name.
    pub fn nodes(&self, now_nanos: i64) -> Vec<NodeView> {
        self.lock().nodes.values().map(|entry| entry.view(now_nanos)).collect()
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

impl Entry {
    fn view(&self, now_nanos: i64) -> NodeView {
        let clock = self.clock.best(now_nanos);
        NodeView {
            record: self.record.clone(),
            is_ready: self.live.is_some() && clock.is_some(),
            clock,
            round_trip_nanos: self.clock.round_trip_nanos(),
            resident_bytes: self.resident_bytes.filter(|_| self.live.is_some()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SECOND;

    fn record(incarnation: u64) -> NodeRecord {
        NodeRecord {
            name: "node-a".into(),
            agent_version: "0.1.0".into(),
            kernel: "6.1".into(),
            incarnation,
            last_seen_nanos: 0,
            capabilities: Vec::new(),
            topology: Bytes::new(),
        }
    }

    fn exchange() -> Exchange {
        Exchange {
            sent_nanos: 10 * SECOND,
            node_received_nanos: SECOND,
            node_sent_nanos: SECOND,
            received_nanos: 10 * SECOND + 200,
            realtime_minus_monotonic_nanos: 0,
        }
    }

    #[test]
    fn a_node_is_ready_once_its_clock_is_measured() {
        let fleet = Fleet::new(Vec::new());
        let session = fleet.connect(record(1), BTreeSet::new());
        assert!(fleet.link("node-a", "c-1", 0).is_none());
        fleet.measured("node-a", session.id, &exchange());
        assert_eq!(
            fleet.link("node-a", "c-1", 0).unwrap().clock.coordinator_minus_monotonic_nanos,
            9 * SECOND + 100
        );
        fleet.disconnect("node-a", session.id);
        assert!(!fleet.node("node-a", 0).unwrap().is_ready);
    }

    #[test]
    fn a_newer_stream_replaces_the_older_and_its_end_is_ignored() {
        let fleet = Fleet::new(Vec::new());
        let old = fleet.connect(record(1), BTreeSet::new());
        fleet.measured("node-a", old.id, &exchange());
        let new = fleet.connect(record(1), BTreeSet::from(["c-1".to_owned()]));
        assert!(old.replaced.is_cancelled() && !new.replaced.is_cancelled());
        assert!(fleet.disconnect("node-a", old.id).is_none());
        let link = fleet.link("node-a", "c-1", 0).unwrap();
        assert!(link.works_on_it && link.session == new.id);
        fleet.connect(record(2), BTreeSet::new());
        assert!(fleet.link("node-a", "c-1", 0).is_none(), "a new process has a clock of its own");
    }

    #[test]
    fn an_agent_that_takes_no_commands_is_cut_off() {
        let fleet = Fleet::new(Vec::new());
        let session = fleet.connect(record(1), BTreeSet::new());
        let end = || Command::End { capture: "c-1".into(), end_monotonic_nanos: None };
        assert!((0..limits::AGENT_QUEUE).all(|_| fleet.send("node-a", end())));
        assert!(!fleet.send("node-a", end()) && session.replaced.is_cancelled());
    }
}
