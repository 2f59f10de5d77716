//! Sightings of one identity become trajectories along a path, and each gets a state: from what points saw, and from
//! what acknowledgments and drop events prove.

pub(crate) mod acks;
pub(crate) mod alike;
pub(crate) mod bypass;
pub(crate) mod cores;
pub(crate) mod drops;
pub(crate) mod judge;
pub(crate) mod outsiders;
pub(crate) mod partitions;
pub(crate) mod plan;
pub(crate) mod run;
pub(crate) mod trajectory;
