//! What a run was given, kept compactly: sightings, flow records, and when each point could see.

pub(crate) mod bundle;
pub(crate) mod bytes_seen;
pub(crate) mod class;
pub(crate) mod coverage;
pub(crate) mod flows;
pub(crate) mod log;
pub(crate) mod sampling;
pub(crate) mod scratch;
pub(crate) mod sighting;
pub(crate) mod sightings;
