//! The clock of a node that someone sets while it runs.

use std::sync::{Arc, PoisonError, RwLock};

use lastseen_node_agent::capture::backend::Source;
use lastseen_node_agent::clock::{Clock, Kernel};

use crate::product::stamped::Stamped;

/// Environment variable that tells an agent by how many nanoseconds `SIGUSR1` sets its `CLOCK_REALTIME`, forward and back
/// in turn.
pub const VARIABLE: &str = "LASTSEEN_SCRIPT_STEP";

/// A clock that is right until it is [set](Self::set).
#[derive(Debug, Clone)]
pub struct Steppable {
    step_nanos: i64,
    /// When it was set, true nanoseconds since 1970.
    set_at: Arc<RwLock<Vec<i64>>>,
}

impl Steppable {
    /// A clock that will be set by this much.
    pub fn new(step_nanos: i64) -> Self {
        Self { step_nanos, set_at: Arc::default() }
    }

    /// Sets it, now: wrong if it was right, and right if it was wrong.
    pub fn set(&self) {
        self.set_at.write().unwrap_or_else(PoisonError::into_inner).push(Kernel.realtime_nanos());
    }

    /// What it showed at a time, which packets of then bear however late they are read.
    fn shown(&self, true_nanos: i64) -> i64 {
        let set_at = self.set_at.read().unwrap_or_else(PoisonError::into_inner);
        let is_off = set_at.iter().filter(|at| **at <= true_nanos).count() % 2 == 1;
        true_nanos + if is_off { self.step_nanos } else { 0 }
    }
}

impl Clock for Steppable {
    fn monotonic_nanos(&self) -> i64 {
        Kernel.monotonic_nanos()
    }

    fn realtime_nanos(&self) -> i64 {
        self.shown(Kernel.realtime_nanos())
    }

    fn stamp(&self, source: Box<dyn Source>) -> Box<dyn Source> {
        let clock = self.clone();
        Box::new(Stamped::new(source, move |true_nanos| clock.shown(true_nanos)))
    }
}
