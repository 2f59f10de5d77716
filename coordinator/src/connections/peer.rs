//! Who is at the other end of a connection, and what it has open.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use lastseen_runtime::certificate::{DenyList, Facts, Serial};
use lastseen_runtime::identity::Identity;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::limits;

/// The other end of a connection.
#[derive(Debug)]
pub struct Peer {
    /// Absent when its certificate names none.
    pub identity: Option<Identity>,
    /// Number of its certificate.
    pub serial: Serial,
    /// Where it comes from.
    pub address: String,
    not_after: Mutex<SystemTime>,
    calls: Mutex<Calls>,
    denial: OnceLock<(String, Instant)>,
    /// Its streams are to end.
    denied: CancellationToken,
    /// Its connection is to be closed.
    closed: CancellationToken,
}

#[derive(Debug)]
struct Calls {
    open: usize,
    /// When the last one ended.
    idle_since: Instant,
}

impl Peer {
    pub(super) fn new(identity: Option<Identity>, facts: Facts, address: Option<SocketAddr>) -> Self {
        Self {
            identity,
            serial: facts.serial,
            not_after: Mutex::new(facts.not_after),
            address: address.map_or_else(|| "an unknown address".to_owned(), |address| address.to_string()),
            calls: Mutex::new(Calls { open: 0, idle_since: Instant::now() }),
            denial: OnceLock::new(),
            denied: CancellationToken::new(),
            closed: CancellationToken::new(),
        }
    }

    /// Its identity as text, or that it has none.
    pub fn name(&self) -> String {
        self.identity.as_ref().map_or_else(|| "no identity".to_owned(), Identity::to_string)
    }

    /// When the certificate ends that it connected with, or the one it says it has in its place by now. Nothing but
    /// warnings may hang on it.
    pub fn not_after(&self) -> SystemTime {
        *lock(&self.not_after)
    }

    /// It says that it has another certificate by now, which ends at `not_after`.
    pub fn renewed(&self, not_after: SystemTime) {
        *lock(&self.not_after) = not_after;
    }

    /// What it is found by on a deny list.
    pub(super) fn on(&self, list: &DenyList) -> Option<String> {
        list.covers(self.identity.as_ref(), &self.serial)
    }

    pub(super) fn deny(&self, found: &str) {
        let name = self.name();
        let reason = if name == found {
            format!("{name} is on the coordinator's deny list; ask who runs the coordinator")
        } else {
            format!("the certificate of {name} is on the coordinator's deny list by {found}; issue a new one")
        };
        if self.denial.set((reason, Instant::now())).is_ok() {
            self.denied.cancel();
        }
    }

    /// What it hears if it is denied.
    pub fn denial(&self) -> Option<Status> {
        self.denial.get().map(|(reason, _)| Status::permission_denied(reason.clone()))
    }

    /// Cancelled when it is denied.
    pub fn denied(&self) -> &CancellationToken {
        &self.denied
    }

    /// Cancelled when its connection is to be closed.
    pub(super) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// Counts a call as open until the result is dropped.
    pub fn call(self: &Arc<Self>) -> OpenCall {
        self.calls().open += 1;
        OpenCall(self.clone())
    }

    /// Why its connection should be closed now.
    pub(super) fn overdue(&self, now: Instant, idle: Duration) -> Option<&'static str> {
        if let Some((_, at)) = self.denial.get() {
            return (now.duration_since(*at) >= limits::DENIED_GRACE).then_some("denied");
        }
        let calls = self.calls();
        (calls.open == 0 && now.duration_since(calls.idle_since) >= idle).then_some("idle")
    }

    /// False if it was told before.
    pub(super) fn close(&self) -> bool {
        let is_first = !self.closed.is_cancelled();
        self.closed.cancel();
        is_first
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        lock(&self.calls)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call that has not ended.
#[derive(Debug)]
pub struct OpenCall(Arc<Peer>);

impl Drop for OpenCall {
    fn drop(&mut self) {
        let mut calls = self.0.calls();
        calls.open -= 1;
        calls.idle_since = Instant::now();
    }
}
