//! Two agents with one certificate push each other out, over and over; an agent that was restarted does so once.

use std::collections::VecDeque;

use crate::limits;

/// When another process took over the live control stream of a node.
#[derive(Debug, Default)]
pub(super) struct Takeovers {
    /// The last ones, at most one more than the limit.
    times_nanos: VecDeque<i64>,
    /// Where the last one came from.
    peer: String,
}

impl Takeovers {
    /// One more, from the address `peer`. Warns when they become too many.
    pub(super) fn add(&mut self, node: &str, peer: &str, now_nanos: i64) {
        let was_contested = self.is_contested(now_nanos);
        if self.times_nanos.len() > limits::TAKEOVERS {
            self.times_nanos.pop_front();
        }
        self.times_nanos.push_back(now_nanos);
        peer.clone_into(&mut self.peer);
        if let Some(reason) = self.note(now_nanos).filter(|_| !was_contested) {
            tracing::warn!(node, reason, "agents push each other out");
        }
    }

    /// What is wrong, while it is.
    pub(super) fn note(&self, now_nanos: i64) -> Option<String> {
        self.is_contested(now_nanos).then(|| {
            format!(
                "more than {} times in a minute another agent connected with this certificate, the last from {}; give \
                 each agent its own",
                limits::TAKEOVERS,
                self.peer
            )
        })
    }

    fn is_contested(&self, now_nanos: i64) -> bool {
        let is_recent = |at: &&i64| now_nanos - **at < limits::TAKEOVER_NANOS;
        self.times_nanos.iter().filter(is_recent).count() > limits::TAKEOVERS
    }
}
