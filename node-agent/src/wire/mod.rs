//! Between the agent's own types and the messages of `lastseen.v1`.

pub(crate) mod capture;
pub(crate) mod probe;
