//! What the box does to frames of the overlay between sender and receiver. All others pass at once.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Deserialize;

use super::retransmission::Progress;
use super::tunnelled::{Data, is_between, is_datagram};
use crate::fault::Cast;

/// Time between the begins of two stretches in which acknowledgments wait.
const HOLD_PERIOD: Duration = Duration::from_millis(420);
/// How long such a stretch is: longer than the shortest retransmission timeout, 200 ms.
const HOLD: Duration = Duration::from_millis(300);

/// A kind of mischief, as a scenario file names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mischief {
    /// A share of the packets waits while others pass.
    Reorder {
        /// Share, 1 to 100.
        percent: u8,
        /// How long they wait, in milliseconds.
        millis: u64,
    },
    /// Every packet waits, one longer than another, and none passes another.
    Delay {
        /// Least wait in milliseconds.
        millis: u64,
        /// Longest wait beyond that, in milliseconds.
        jitter_millis: u64,
    },
    /// Of a share of the packets a copy follows.
    Double {
        /// Share, 1 to 100.
        percent: u8,
        /// How long after the packet, in milliseconds.
        millis: u64,
    },
    /// In a share of the datagrams the last byte is changed, which no part of a packet's identity covers.
    Corrupt {
        /// Share, 1 to 100.
        percent: u8,
        /// Who computes the datagrams' checksums.
        checksum: Checksum,
    },
    /// Acknowledgments wait for longer than the sender does, and what it retransmits is dropped.
    DropRetransmissions,
}

/// Who computes the checksum of what a pod sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checksum {
    /// Nobody: the kernel marks packets as still to be summed, and no receiver on virtual wires verifies them.
    Offloaded,
    /// The kernel, as for an interface without the offload; the receiver verifies it.
    Software,
}

/// What becomes of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decision {
    /// When each copy goes on.
    pub(super) due: [Option<Instant>; 2],
    /// Whether its last byte changes.
    pub(super) is_corrupted: bool,
    /// What to add to the count.
    pub(super) struck: u64,
}

impl Decision {
    fn at(due: Instant, is_struck: bool) -> Self {
        Self { due: [Some(due), None], is_corrupted: false, struck: is_struck.into() }
    }
}

/// Decides over the frames of one direction, in the order they come.
pub(super) trait Rule: Send + fmt::Debug {
    /// What becomes of `frame`, which came `now`.
    fn decide(&mut self, frame: &[u8], now: Instant) -> Decision;
}

impl Mischief {
    /// Whether it loses what it strikes.
    pub(super) fn loses(self) -> bool {
        self == Self::DropRetransmissions
    }

    pub(super) fn on_the_way_there(self, cast: Cast<'_>) -> Box<dyn Rule> {
        let (from, to) = (cast.sender.plan.underlay, cast.receiver.plan.underlay);
        Box::new(There {
            mischief: self,
            between: (from, to),
            random: StdRng::seed_from_u64(cast.lab.plan.seed),
            last_due: None,
            progress: Progress::default(),
        })
    }

    pub(super) fn on_the_way_back(self, cast: Cast<'_>) -> Box<dyn Rule> {
        let between = (cast.receiver.plan.underlay, cast.sender.plan.underlay);
        Box::new(Back { holds: self.loses(), between, began: Instant::now() })
    }
}

#[derive(Debug)]
struct There {
    mischief: Mischief,
    between: (Ipv4Addr, Ipv4Addr),
    random: StdRng,
    last_due: Option<Instant>,
    progress: Progress,
}

fn is_chosen(random: &mut StdRng, percent: u8) -> bool {
    random.random_range(0..100) < percent
}

impl Rule for There {
    fn decide(&mut self, frame: &[u8], now: Instant) -> Decision {
        if !is_between(frame, self.between.0, self.between.1) {
            return Decision::at(now, false);
        }
        match self.mischief {
            Mischief::Reorder { percent, millis } => {
                let is_chosen = is_chosen(&mut self.random, percent);
                Decision::at(if is_chosen { now + Duration::from_millis(millis) } else { now }, is_chosen)
            }
            Mischief::Delay { millis, jitter_millis } => {
                let jitter = Duration::from_micros(self.random.random_range(0..=jitter_millis * 1_000));
                let due = now + Duration::from_millis(millis) + jitter;
                let due = self.last_due.map_or(due, |last| due.max(last));
                self.last_due = Some(due);
                Decision::at(due, true)
            }
            Mischief::Double { percent, millis } if is_chosen(&mut self.random, percent) => {
                let due = [Some(now), Some(now + Duration::from_millis(millis))];
                Decision { due, is_corrupted: false, struck: 1 }
            }
            Mischief::Corrupt { percent, .. }
                if is_datagram(frame) && is_chosen(&mut self.random, percent) =>
            {
                Decision { is_corrupted: true, ..Decision::at(now, true) }
            }
            Mischief::Double { .. } | Mischief::Corrupt { .. } => Decision::at(now, false),
            Mischief::DropRetransmissions => {
                let is_repeated = Data::of(frame).is_some_and(|data| self.progress.is_repeated(data));
                let decision = Decision::at(now, is_repeated);
                if is_repeated { Decision { due: [None; 2], ..decision } } else { decision }
            }
        }
    }
}

#[derive(Debug)]
struct Back {
    holds: bool,
    between: (Ipv4Addr, Ipv4Addr),
    began: Instant,
}

impl Rule for Back {
    fn decide(&mut self, frame: &[u8], now: Instant) -> Decision {
        if !self.holds || !is_between(frame, self.between.0, self.between.1) {
            return Decision::at(now, false);
        }
        let since = now.duration_since(self.began).as_nanos() % HOLD_PERIOD.as_nanos();
        let wait = HOLD.as_nanos().saturating_sub(since);
        Decision::at(now + Duration::from_nanos(wait as u64), false)
    }
}
