//! Agents that other coordinators have.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Entry, Fleet, Link, NodeView, aged};
use crate::model::{ClockFix, NodeRecord};

/// An agent of another coordinator, as that one told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Number of its control stream.
    pub session: u64,
    /// When that began.
    pub connected_at_nanos: i64,
    /// The rest.
    pub detail: Detail,
}

/// What a coordinator tells the others of an agent that it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detail {
    /// Process of the agent.
    pub incarnation: u64,
    /// Its clock at the best exchange.
    pub clock: ClockFix,
    /// Smallest round trip of its control stream.
    pub round_trip_nanos: Option<i64>,
    /// Captures that it works on, by what it said when it registered.
    pub works_on: BTreeSet<String>,
}

impl Remote {
    pub(super) fn link(&self, capture: &str, now_nanos: i64) -> Link {
        Link {
            session: self.session,
            incarnation: self.detail.incarnation,
            clock: aged(self.detail.clock, now_nanos),
            works_on_it: self.detail.works_on.contains(capture),
        }
    }

    pub(super) fn view(&self, record: &NodeRecord, now_nanos: i64) -> NodeView {
        NodeView {
            record: NodeRecord { last_seen_nanos: now_nanos, ..record.clone() },
            is_ready: true,
            clock: Some(aged(self.detail.clock, now_nanos)),
            round_trip_nanos: self.detail.round_trip_nanos,
            resident_bytes: None,
            notes: Vec::new(),
        }
    }
}

impl Entry {
    /// The agent where it connected last, if that is another coordinator.
    pub(super) fn elsewhere(&self) -> Option<&Remote> {
        let here = self.live.as_ref().map_or(i64::MIN, |live| live.connected_at_nanos);
        self.remote.as_ref().filter(|remote| remote.connected_at_nanos > here)
    }
}

impl Fleet {
    /// Agents that are ready here, with what the others are to know of them.
    pub fn local(&self, now_nanos: i64) -> BTreeMap<String, Remote> {
        let state = self.lock();
        let told = state.nodes.iter().filter_map(|(name, entry)| {
            let live = entry.live.as_ref()?;
            let detail = Detail {
                incarnation: entry.record.incarnation,
                clock: entry.clock.basis(now_nanos)?,
                round_trip_nanos: entry.clock.round_trip_nanos(),
                works_on: live.works_on.clone(),
            };
            let (session, connected_at_nanos) = (live.session, live.connected_at_nanos);
            Some((name.clone(), Remote { session, connected_at_nanos, detail }))
        });
        told.collect()
    }

    /// These agents are at other coordinators, and no more. Returns whether some are of processes that nothing is known
    /// of: then [`Fleet::learn`] is due.
    pub fn merge(&self, mut remotes: BTreeMap<String, Remote>, now_nanos: i64) -> bool {
        let mut moved = Vec::new();
        let mut is_unknown = false;
        {
            let mut state = self.lock();
            for (name, entry) in &mut state.nodes {
                let remote = remotes.remove(name);
                let session = |remote: &Option<Remote>| remote.as_ref().map(|remote| remote.session);
                if session(&entry.remote) != session(&remote) {
                    moved.push(name.clone());
                }
                let is_known = |remote: &Remote| remote.detail.incarnation == entry.record.incarnation;
                is_unknown |= remote.as_ref().is_some_and(|remote| !is_known(remote)) && entry.live.is_none();
                if entry.remote.is_some() && remote.is_none() {
                    entry.record.last_seen_nanos = entry.record.last_seen_nanos.max(now_nanos);
                }
                entry.remote = remote;
            }
        }
        for name in &moved {
            self.relinked(name);
        }
        is_unknown || !remotes.is_empty()
    }

    /// What is stored of nodes, for those that are not connected here.
    pub fn learn(&self, records: Vec<NodeRecord>) {
        let mut state = self.lock();
        for record in records {
            match state.nodes.get_mut(&record.name) {
                Some(entry) if entry.live.is_some() => {}
                Some(entry) => entry.record = record,
                None => drop(state.nodes.insert(record.name.clone(), Entry::new(record))),
            }
        }
    }

    /// The control stream of an agent that is to be reached through another coordinator.
    pub fn session_elsewhere(&self, name: &str) -> Option<u64> {
        self.lock().nodes.get(name)?.elsewhere().map(|remote| remote.session)
    }

    /// When the last control stream of an agent began that is here, or was.
    pub fn connected_at(&self, name: &str) -> Option<i64> {
        Some(self.lock().nodes.get(name)?.connected_at_nanos)
    }

    /// Whether this is the stream of an agent that is here.
    pub fn has_session(&self, name: &str, session: u64) -> bool {
        self.lock().current(name, session).is_some()
    }

    /// The network of a node, as its agent told it elsewhere.
    pub fn network_elsewhere(&self, name: &str, topology: Bytes) {
        if let Some(entry) = self.lock().nodes.get_mut(name).filter(|entry| entry.live.is_none()) {
            entry.record.topology = topology;
        }
    }
}
