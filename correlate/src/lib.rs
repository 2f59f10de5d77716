//! Observations to trajectories, verdicts and a report. Pure: no clock, no I/O.
//!
//! [`Correlator`] takes the batches of a capture in any order and [`Correlator::finish`] says where packets
//! disappeared. Same input, same bytes out.

pub mod input;
pub mod report;
pub mod topology;
mod view;

pub use input::{BatchError, Job, JobError, Node, Point, Slice, SliceCounters, Window};
pub use report::{Outcome, Report};
pub use view::ViewOptions;

use lastseen_packet::observation::Columns;

/// Most lost packets that are listed one by one.
pub const LOST_LIMIT: usize = 10_000;

/// A correlation run.
#[derive(Debug)]
pub struct Correlator {
    job: Job,
}

impl Correlator {
    /// A run over the points of `job`.
    pub fn new(job: Job) -> Result<Self, JobError> {
        Ok(Self { job })
    }

    /// Adds a batch of the point at index `point`. Batches come in any order, each once. `to_coordinator_nanos` is
    /// added to the batch's own stamps to have them on the coordinator's clock; `slice` is on that clock already.
    pub fn add(
        &mut self,
        point: usize,
        _slice: Slice,
        _to_coordinator_nanos: i64,
        _columns: &Columns,
    ) -> Result<(), BatchError> {
        if point < self.job.points.len() {
            Ok(())
        } else {
            Err(BatchError::UnknownPoint { point, points: self.job.points.len() })
        }
    }

    /// Judges everything that was added.
    pub fn finish(self) -> Outcome {
        Outcome::default()
    }
}
