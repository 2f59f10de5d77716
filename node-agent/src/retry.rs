//! When to connect again, by how the last session went.

use std::time::Duration;

use lastseen_runtime::backoff::Backoff;
use lastseen_runtime::client::explain_status;
use tonic::{Code, Status};

use crate::control::Pace;

/// What to do about it comes with it: the other agent will not go away by itself.
const REPLACED: &str = "the coordinator took another agent in place of this one; run one agent per node, each with a \
                        certificate of its own";

/// No session, or none any more.
pub(crate) enum Trouble {
    /// Try again soon.
    Unreachable(String),
    /// Someone must act first.
    Refused(String),
    /// The coordinator prefers another agent that came as this node.
    Replaced(String),
}

impl From<Status> for Trouble {
    fn from(status: Status) -> Self {
        let reason = explain_status(&status);
        match status.code() {
            Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::InvalidArgument => Self::Refused(reason),
            Code::Aborted => Self::Replaced(reason),
            _ => Self::Unreachable(reason),
        }
    }
}

/// The delays between sessions.
pub(crate) struct Retry {
    pace: Pace,
    /// Between two rounds of all coordinators.
    backoff: Backoff,
    /// Before one that was not tried in this round: what ails the last need not ail it.
    step: Backoff,
    /// Coordinators left in this round, the last one included.
    untried: usize,
    coordinators: usize,
    /// Of two agents with one certificate each replaces the other for ever; saying so once is enough.
    told_replaced: bool,
}

impl Retry {
    /// For so many coordinators, which are tried in turn.
    pub(crate) fn new(pace: Pace, coordinators: usize) -> Self {
        Self {
            pace,
            backoff: Backoff::new(pace.first, pace.longest),
            step: Backoff::new(pace.first, pace.first),
            untried: coordinators,
            coordinators,
            told_replaced: false,
        }
    }

    /// Says what happened and how long to wait before the next try. A session that ended is told by how long it
    /// lasted: a coordinator that takes agents and breaks at once must not be tried without end at the first delay.
    pub(crate) fn delay(&mut self, server: &str, node: &str, outcome: Result<Duration, Trouble>) -> Duration {
        if outcome.as_ref().is_ok_and(|lasted| *lasted >= self.pace.steady) {
            self.told_replaced = false;
            self.backoff.reset();
            self.untried = self.coordinators;
        }
        self.untried = self.untried.saturating_sub(1);
        let next = if self.untried > 0 {
            self.step.next_delay()
        } else {
            self.untried = self.coordinators;
            self.backoff.next_delay()
        };
        match outcome {
            Ok(_) => next,
            Err(Trouble::Unreachable(reason)) => {
                tracing::warn!(server, reason, retry_in = ?next, "not connected");
                next
            }
            Err(Trouble::Refused(reason)) => {
                let delay = self.pace.refused.max(next);
                tracing::error!(server, reason, retry_in = ?delay, "the coordinator refuses this agent");
                delay
            }
            Err(Trouble::Replaced(reason)) => {
                let delay = self.pace.longest.max(next);
                if !self.told_replaced {
                    self.told_replaced = true;
                    tracing::error!(server, node, reason, retry_in = ?delay, "{REPLACED}");
                }
                delay
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        first: Duration::from_millis(100),
        longest: Duration::from_secs(10),
        steady: Duration::from_secs(30),
        refused: Duration::from_secs(15),
        grace: Duration::ZERO,
    };

    fn of(status: Status) -> Result<Duration, Trouble> {
        Err(status.into())
    }

    #[test]
    fn a_replaced_agent_waits_longest_and_says_so_once() {
        let mut retry = Retry::new(PACE, 1);
        let mut delay = |outcome| retry.delay("c:1", "node-a", outcome);
        assert!(delay(of(Status::unavailable("away"))) <= 2 * PACE.first);
        assert!(delay(of(Status::aborted("another came"))) >= PACE.longest);
        assert!(delay(of(Status::aborted("another came"))) >= PACE.longest);
        assert!(delay(of(Status::permission_denied("no"))) >= PACE.refused);
        assert!(delay(Ok(PACE.steady)) <= 2 * PACE.first);
    }

    #[test]
    fn each_coordinator_is_tried_soon_and_a_round_of_all_of_them_ever_more_slowly() {
        let mut retry = Retry::new(PACE, 3);
        let mut delay = || retry.delay("c:1", "node-a", of(Status::unavailable("away")));
        let delays: Vec<_> = (0..36).map(|_| delay()).collect();
        for round in delays.chunks(3) {
            assert!(round[0].max(round[1]) <= 2 * PACE.first, "{delays:?}");
        }
        assert!(delays[35] >= PACE.longest, "{delays:?}");
        let after = |outcome| retry.delay("c:1", "node-a", outcome);
        let after: Vec<_> =
            [Ok(PACE.steady), of(Status::unavailable("away"))].into_iter().map(after).collect();
        assert!(after.iter().all(|delay| *delay <= 2 * PACE.first), "{after:?}");
    }

    #[test]
    fn being_replaced_is_told_again_only_after_a_good_session() {
        let mut retry = Retry::new(PACE, 1);
        let mut told = |outcome| {
            retry.delay("c:1", "node-a", outcome);
            retry.told_replaced
        };
        assert!(!told(of(Status::unavailable("away"))));
        assert!(told(of(Status::aborted("another came"))));
        assert!(told(of(Status::unavailable("away"))));
        assert!(told(Ok(PACE.steady / 2)));
        assert!(!told(Ok(PACE.steady)));
    }

    #[test]
    fn sessions_that_break_at_once_are_tried_ever_more_slowly() {
        let mut retry = Retry::new(PACE, 1);
        let mut delay = |lasted| retry.delay("c:1", "node-a", Ok(lasted));
        let broken: Vec<_> = (0..12).map(|_| delay(PACE.steady / 2)).collect();
        assert!(broken[0] <= 2 * PACE.first && broken[11] >= PACE.longest, "{broken:?}");
        assert!(delay(PACE.steady) <= 2 * PACE.first);
    }
}
