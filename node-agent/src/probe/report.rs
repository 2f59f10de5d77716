//! What one source found in one run.

use std::net::IpAddr;

use lastseen_proto::place::Place;

use super::attempt::Attempt;

/// All targets of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Probe id.
    pub probe: String,
    /// Number of the run.
    pub run: u64,
    /// Whence.
    pub place: Place,
    /// When it began, nanoseconds since 1970 on this node's clock.
    pub start: i64,
    /// In the order of the targets.
    pub results: Vec<Found>,
}

impl Report {
    /// How many there are.
    pub fn attempts(&self) -> usize {
        self.results.iter().map(|found| found.attempts.len()).sum()
    }
}

/// All attempts at one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// As it was given.
    pub target: String,
    /// What was probed; absent: nothing.
    pub address: Option<IpAddr>,
    /// Why nothing was sent.
    pub reason: String,
    /// In their order.
    pub attempts: Vec<Attempt>,
}
