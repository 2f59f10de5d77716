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
mod acks;
mod advice;
mod alike;
mod assemble;
mod bundle;
mod bypass;
mod bytes_seen;
mod cause;
mod class;
mod clock;
mod confidence;
mod cores;
mod correlator;
mod coverage;
mod delay;
mod domain;
mod doubts;
mod drops;
mod flows;
mod fragments;
mod hidden;
mod infer;
pub mod input;
mod intervals;
mod judge;
mod locate;
mod log;
mod losses;
mod network;
mod notes;
pub mod offsets;
mod outsiders;
mod partitions;
mod path;
mod pattern;
mod pieces;
mod plan;
mod prefix_table;
pub mod report;
mod run;
mod sampling;
mod sandwich;
mod scratch;
mod seen;
pub mod segmentation;
mod sighting;
mod sightings;
pub mod steps;
mod tables;
mod tally;
mod tenants;
mod text;
pub mod topology;
mod trajectory;
mod translation;
mod trial;
mod tunnels;
mod vanished;
mod view;

#[doc(hidden)]
pub use ablation::Ablation;
pub use assemble::PATH_LIMIT;
pub use confidence::LEAST_CONFIDENCE;
pub use correlator::Correlator;
pub use input::{
    BatchError, DropError, DropEvent, GUARD_NANOS, Job, JobError, LEAD_NANOS, Node, Point, Slice,
    SliceCounters, Translation, Window,
};
pub use report::{Outcome, Report};
pub use scratch::{Scratch, ScratchError};
pub use view::ViewOptions;

/// Most lost packets that are listed one by one: the earliest.
pub const LOST_LIMIT: usize = 10_000;
