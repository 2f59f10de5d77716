//! Connections: limited per identity, so that a certificate cannot use up the coordinator's file descriptors, closed when
//! they are of no use, and cut when their identity is denied.

mod peer;
mod stream;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use lastseen_runtime::certificate::{DenyList, Facts};
use lastseen_runtime::identity::{Identity, Role};
pub use peer::{OpenCall, Peer};
pub use stream::{Arrival, Counted};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;
use tokio_stream::{Stream, StreamExt as _};

use crate::limits;
use crate::metrics::Metrics;
use crate::quota::Quota;

type Tls = TlsStream<TcpStream>;

/// The connections that are open. Clones share them.
#[derive(Clone, Debug)]
pub struct Connections {
    state: Arc<Mutex<State>>,
    quota: Quota,
    metrics: Metrics,
    idle: Duration,
}

#[derive(Debug, Default)]
struct State {
    denied: DenyList,
    open: BTreeMap<u64, Arc<Peer>>,
    last: u64,
}

impl Connections {
    /// None yet. One that has had no call for `idle` is closed by [`Connections::sweep`].
    pub fn new(metrics: Metrics, idle: Duration) -> Self {
        Self { state: Arc::default(), quota: Quota::default(), metrics, idle }
    }

    /// Lets through the connections that are within the limit of their identity, and closes the others.
    pub fn limited(
        &self,
        incoming: impl Stream<Item = io::Result<Tls>>,
    ) -> impl Stream<Item = io::Result<Counted<Tls>>> {
        let connections = self.clone();
        incoming.filter_map(move |accepted| match accepted {
            Ok(stream) => connections.admit_tls(stream).map(Ok),
            Err(error) => Some(Err(error)),
        })
    }

    fn admit_tls(&self, stream: Tls) -> Option<Counted<Tls>> {
        let (socket, session) = stream.get_ref();
        let address = socket.peer_addr().ok();
        let leaf = session.peer_certificates().and_then(|chain| chain.first());
        // The handshake has read it already.
        let facts = leaf.and_then(|leaf| Facts::read(leaf).ok())?;
        let identity = leaf.and_then(|leaf| Identity::from_certificate(leaf).ok());
        self.admit(stream, identity, facts, address)
    }

    /// Takes `stream` up, unless its identity has too many connections already.
    pub(crate) fn admit<S>(
        &self,
        stream: S,
        identity: Option<Identity>,
        facts: Facts,
        address: Option<SocketAddr>,
    ) -> Option<Counted<S>> {
        // Without an identity every call is refused with the reason; such connections share one quota.
        let is_agent = identity.as_ref().is_some_and(|identity| identity.role == Role::Agent);
        let most = if is_agent { limits::CONNECTIONS_PER_AGENT } else { limits::CONNECTIONS_PER_PERSON };
        let holder = identity.as_ref().map_or_else(String::new, Identity::to_string);
        let peer = Arc::new(Peer::new(identity, facts, address));
        let Some(place) = self.quota.take(&holder, most) else {
            self.metrics.refused_connections.inc();
            tracing::warn!(
                identity = holder,
                peer = peer.address,
                limit = most,
                "connection closed: its identity has too many"
            );
            return None;
        };
        let mut state = self.lock();
        state.last += 1;
        let number = state.last;
        state.open.insert(number, peer.clone());
        // It may have been denied since its handshake.
        if let Some(found) = peer.on(&state.denied) {
            peer.deny(&found);
        }
        drop(state);
        Some(Counted::new(stream, peer, place, Entry { connections: self.clone(), number }))
    }

    /// From now on these are refused. Ends the streams of those that are connected, and returns them with what on the
    /// list they were found by.
    pub fn deny(&self, list: DenyList) -> Vec<(Arc<Peer>, String)> {
        let mut state = self.lock();
        state.denied = list;
        let found = state.open.values().filter(|peer| peer.denial().is_none());
        let found: Vec<_> = found.filter_map(|peer| Some((peer.clone(), peer.on(&state.denied)?))).collect();
        for (peer, why) in &found {
            peer.deny(why);
        }
        found
    }

    /// Closes what was denied a moment ago and what nobody has used for long.
    pub fn sweep(&self, now: Instant) {
        let peers: Vec<_> = self.lock().open.values().cloned().collect();
        for peer in peers {
            if let Some(reason) = peer.overdue(now, self.idle)
                && peer.close()
            {
                self.metrics.closed_connection(reason);
                tracing::info!(identity = peer.name(), peer = peer.address, reason, "connection closed");
            }
        }
    }

    /// The last end of the certificates that a node's agent has.
    pub fn end_of(&self, node: &str) -> Option<SystemTime> {
        let is_its = |identity: &Identity| identity.role == Role::Agent && identity.name == node;
        let state = self.lock();
        let its = state.open.values().filter(|peer| peer.identity.as_ref().is_some_and(is_its));
        its.map(|peer| peer.not_after()).max()
    }

    /// The certificates of the agents that are connected, of each the one that ends last.
    pub fn agents(&self) -> Vec<(Identity, SystemTime)> {
        let mut ends: BTreeMap<String, (Identity, SystemTime)> = BTreeMap::new();
        for peer in self.lock().open.values() {
            let Some(identity) = peer.identity.as_ref().filter(|identity| identity.role == Role::Agent)
            else {
                continue;
            };
            let end =
                ends.entry(identity.name.clone()).or_insert_with(|| (identity.clone(), peer.not_after()));
            end.1 = end.1.max(peer.not_after());
        }
        ends.into_values().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's entry among the open ones, which goes with it.
#[derive(Debug)]
pub(crate) struct Entry {
    connections: Connections,
    number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.connections.lock().open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests;
