//! What a job tells about itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lastseen_proto::v1::InterfaceKind;

use crate::capture::backend::Direction;
use crate::capture::counters::Counters;
use crate::conntrack::Told;

/// Where a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Ready, waits for its window.
    Armed,
    /// The window is known; it may lie ahead.
    Running,
    /// The window is over, the guard time runs.
    Draining,
    /// Every batch is handed over.
    Completed,
    /// Could not be done.
    Failed,
    /// Stopped before it had a window, or forgotten.
    Cancelled,
}

impl State {
    /// Nothing follows.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// An observation point: an interface and a direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointId {
    /// Interface name.
    pub interface: String,
    /// Interface index.
    pub index: u32,
    /// Which packets.
    pub direction: Direction,
    /// What the interface is.
    pub kind: InterfaceKind,
    /// Its MTU in bytes when the capture was armed.
    pub mtu: u32,
    /// Whether super-packets carry their segment size here.
    pub gso_known: bool,
}

/// What a point has delivered so far.
#[derive(Debug, Default)]
pub struct Totals {
    counters: Mutex<Counters>,
    batches: AtomicU64,
}

impl Totals {
    /// Adds a batch.
    pub fn add(&self, counters: Counters) {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner) += counters;
        self.batches.fetch_add(1, Ordering::Release);
    }

    /// Counters and number of batches.
    pub fn read(&self) -> (Counters, u64) {
        // Batches first: a count that is too low is corrected by the next status, one too high would be waited for.
        let batches = self.batches.load(Ordering::Acquire);
        (*self.counters.lock().unwrap_or_else(PoisonError::into_inner), batches)
    }
}

/// A point with what it delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointStatus {
    /// Which.
    pub point: PointId,
    /// So far.
    pub counters: Counters,
    /// Batches made so far.
    pub batches: u64,
}

/// A job as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Capture id.
    pub capture: String,
    /// Where it is.
    pub state: State,
    /// Why it failed or stopped early.
    pub reason: String,
    /// Its points.
    pub points: Vec<PointStatus>,
    /// What was not covered and why.
    pub coverage: Vec<String>,
    /// What the node translated, once the job has completed.
    pub translations: Option<Arc<Told>>,
}

impl Status {
    /// Of a job that cannot be done.
    pub fn failed(capture: String, reason: String) -> Self {
        let (points, coverage) = (Vec::new(), Vec::new());
        Self { capture, state: State::Failed, reason, points, coverage, translations: None }
    }
}
