//! Saying that batches are not taken: once, not once per batch.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines about the same trouble.
const PAUSE: Duration = Duration::from_mins(1);

/// What went wrong since it was last said.
#[derive(Default)]
pub(super) struct Complaint(Mutex<State>);

#[derive(Default)]
struct State {
    told: Option<Instant>,
    refused: u64,
    /// The log ends with the trouble, so its end is told too.
    is_open: bool,
}

impl Complaint {
    /// A batch was not taken.
    pub(super) fn refused(&self, reason: &str) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.refused += 1;
        if state.told.is_none_or(|told| told.elapsed() >= PAUSE) {
            let batches = state.refused;
            *state = State { told: Some(Instant::now()), refused: 0, is_open: true };
            drop(state);
            tracing::error!(reason, batches, "observations are dropped and counted until there is room");
        }
    }

    /// One was.
    pub(super) fn taken(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_open {
            state.is_open = false;
            drop(state);
            tracing::info!("observations are spooled again");
        }
    }
}
