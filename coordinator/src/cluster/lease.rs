//! Captures that this process leads, and how long it may act on that without asking.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use crate::limits;
use crate::store::Fence;

/// The lead of one capture. A process that was frozen finds it run out before it does anything, because the monotonic
/// clock went on.
#[derive(Clone, Debug)]
pub struct Lease(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Absent where there is nobody to share with.
    fence: Option<Fence>,
    until: Mutex<Instant>,
    over: CancellationToken,
}

impl Lease {
    /// Of a coordinator that is alone, or of a capture that is not stored. It ends with the process, at `stopping`.
    pub fn unshared(stopping: &CancellationToken) -> Self {
        Self(Arc::new(Inner { fence: None, until: Mutex::new(Instant::now()), over: stopping.child_token() }))
    }

    /// Of a capture that was claimed by a call made at `asked`.
    pub fn shared(fence: Fence, asked: Instant, stopping: &CancellationToken) -> Self {
        let until = Mutex::new(asked + limits::LEASE);
        Self(Arc::new(Inner { fence: Some(fence), until, over: stopping.child_token() }))
    }

    /// What writes rest on.
    pub fn fence(&self) -> Option<&Fence> {
        self.0.fence.as_ref()
    }

    /// Whether nobody else can have taken over yet.
    pub fn is_held(&self) -> bool {
        self.0.fence.is_none() || Instant::now() < *self.until()
    }

    /// Cancelled when the capture is led elsewhere, or the process stops.
    pub fn over(&self) -> &CancellationToken {
        &self.0.over
    }

    /// Somebody else leads.
    pub fn lose(&self) {
        self.0.over.cancel();
    }

    fn until(&self) -> MutexGuard<'_, Instant> {
        self.0.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The shared leases of this process, by capture.
#[derive(Clone, Debug, Default)]
pub struct Leases(Arc<Mutex<BTreeMap<String, Lease>>>);

impl Leases {
    /// One more to renew.
    pub fn insert(&self, lease: &Lease) {
        if let Some(fence) = lease.fence() {
            self.lock().insert(fence.capture.clone(), lease.clone());
        }
    }

    /// One less, unless another has taken its place.
    pub fn remove(&self, lease: &Lease) {
        let Some(fence) = lease.fence() else { return };
        let mut leases = self.lock();
        if leases.get(&fence.capture).is_some_and(|held| held.fence() == Some(fence)) {
            leases.remove(&fence.capture);
        }
    }

    /// Those to renew.
    pub fn fences(&self) -> Vec<Fence> {
        self.lock().values().filter_map(|lease| lease.fence().cloned()).collect()
    }

    /// Renewed by a call made at `asked`.
    pub fn extend(&self, capture: &str, asked: Instant) {
        if let Some(lease) = self.lock().get(capture) {
            *lease.until() = asked + limits::LEASE;
        }
    }

    /// Gone.
    pub fn lose(&self, fence: &Fence) {
        if let Some(lease) = self.lock().get(&fence.capture).filter(|lease| lease.fence() == Some(fence)) {
            lease.lose();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Lease>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_runs_out_by_itself_and_only_its_own_loss_ends_it() {
        let (stopping, now) = (CancellationToken::new(), Instant::now());
        let fence = |token| Fence { capture: "c-1".into(), token };
        let late = now.checked_sub(limits::LEASE).unwrap();
        let lease = Lease::shared(fence(2), late, &stopping);
        let leases = Leases::default();
        leases.insert(&lease);
        assert!(!lease.is_held());
        leases.extend("c-1", now);
        assert!(lease.is_held());
        leases.lose(&fence(1));
        assert!(!lease.over().is_cancelled());
        leases.lose(&fence(2));
        assert!(lease.over().is_cancelled() && !stopping.is_cancelled());
        leases.remove(&Lease::shared(fence(1), now, &stopping));
        assert_eq!(leases.fences(), [fence(2)]);
        leases.remove(&lease);
        assert!(leases.fences().is_empty());
    }
}
