//! The last status of every job, kept until the coordinator can no longer ask for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::status::{State, Status};

/// Finished jobs whose status is kept: a coordinator that was away is told again when it is back.
const FINISHED: usize = 32;

/// Statuses by capture id, each with the number of its change.
#[derive(Clone, Debug, Default)]
pub struct Posted {
    changes: u64,
    statuses: BTreeMap<String, (u64, Arc<Status>)>,
}

impl Posted {
    /// What changed after change number `seen`, oldest change first, and the number of the last.
    pub fn since(&self, seen: u64) -> (Vec<Arc<Status>>, u64) {
        let mut new: Vec<_> = self.statuses.values().filter(|(change, _)| *change > seen).collect();
        new.sort_by_key(|(change, _)| *change);
        (new.into_iter().map(|(_, status)| status.clone()).collect(), self.changes)
    }
}

/// Where jobs post. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Board(Arc<watch::Sender<Posted>>);

impl Default for Board {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Posted::default())))
    }
}

impl Board {
    /// Replaces the job's status.
    pub fn post(&self, status: Status) {
        self.0.send_modify(|posted| {
            posted.changes += 1;
            posted.statuses.insert(status.capture.clone(), (posted.changes, Arc::new(status)));
            let finished = || posted.statuses.values().filter(|(_, status)| status.state.is_final());
            if finished().count() > FINISHED
                && let Some(oldest) =
                    finished().min_by_key(|(change, _)| *change).map(|(_, s)| s.capture.clone())
            {
                posted.statuses.remove(&oldest);
            }
        });
    }

    /// Forgets a job.
    pub fn remove(&self, capture: &str) {
        self.0.send_modify(|posted| drop(posted.statuses.remove(capture)));
    }

    /// Follows changes.
    pub fn subscribe(&self) -> watch::Receiver<Posted> {
        self.0.subscribe()
    }

    /// Jobs in a state.
    pub fn count(&self, state: State) -> usize {
        self.0.borrow().statuses.values().filter(|(_, status)| status.state == state).count()
    }

    /// Jobs that are not finished.
    pub fn unfinished(&self) -> Vec<String> {
        let posted = self.0.borrow();
        let open = posted.statuses.values().filter(|(_, status)| !status.state.is_final());
        open.map(|(_, status)| status.capture.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(capture: &str, state: State) -> Status {
        Status { state, ..Status::failed(capture.into(), String::new()) }
    }

    #[test]
    fn only_changes_are_told_and_the_last_state_counts() {
        let board = Board::default();
        board.post(status("c-1", State::Armed));
        board.post(status("c-2", State::Armed));
        board.post(status("c-1", State::Running));
        let (new, seen) = board.subscribe().borrow().since(0);
        let told: Vec<_> = new.iter().map(|s| (s.capture.as_str(), s.state)).collect();
        assert_eq!(told, [("c-2", State::Armed), ("c-1", State::Running)]);
        assert_eq!(board.subscribe().borrow().since(seen).0.len(), 0);
    }

    #[test]
    fn finished_jobs_are_kept_up_to_a_bound() {
        let board = Board::default();
        board.post(status("open", State::Running));
        for number in 0..100 {
            board.post(status(&format!("c-{number}"), State::Completed));
        }
        assert_eq!(board.subscribe().borrow().since(0).0.len(), FINISHED + 1);
        assert_eq!(board.unfinished(), ["open"]);
    }
}
