//! Observations to trajectories, verdicts and a report. Pure: no clock, no I/O.
//!
//! [`Correlator`] takes the batches of a capture in any order and [`Correlator::finish`] says where packets
//! disappeared. Same input, same bytes out, whatever the order of batches.
//!
//! The way of an observation: a row is expanded into canonical segments, each kept as a 32-byte sighting; the flows
//! name the conversations (5-tuple within a tenant); topology, and the tunnels packets were seen in, give each
//! conversation a path of captured points; packets that were seen on two nodes correct the clocks; the sightings of one
//! identity become trajectories along the path; each trajectory gets a state; the states are summed, losses get a
//! pattern and a cause, and the whole becomes a report.

mod ablation;
mod clock;
mod correlator;
mod evidence;
mod fabric;
mod infer;
pub mod input;
mod losses;
mod matching;
mod path;
mod pattern;
pub mod report;
mod segments;
mod translation;
mod trial;

#[doc(hidden)]
pub use ablation::Ablation;
pub use clock::{offsets, steps};
pub use correlator::Correlator;
pub use evidence::scratch::{Scratch, ScratchError};
pub use fabric::locate::{nodes_claiming, nodes_with};
pub use fabric::own::{HostNetwork, host_address, host_addresses};
pub use fabric::topology;
pub use input::{
    BatchError, DropError, DropEvent, GUARD_NANOS, Job, JobError, LEAD_NANOS, Node, Point, Slice,
    SliceCounters, Translation, Window,
};
pub use losses::confidence::LEAST_CONFIDENCE;
pub use report::assemble::PATH_LIMIT;
pub use report::view::ViewOptions;
pub use report::{Outcome, Report};
pub use segments::segmentation;

/// Most flow records of a run. Of more flows the smallest are summed by prefix.
pub const FLOW_ROWS: usize = 100_000;

/// Most lost packets that are listed one by one: the earliest.
pub const LOST_LIMIT: usize = 10_000;
