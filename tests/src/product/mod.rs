//! The real `coordinator`, `node-agent` and `ctl`, running inside a lab.

pub mod admin;
pub mod binaries;
pub mod collector;
pub mod ctl;
pub mod exposition;
pub mod fleet;
pub mod host;
pub mod pki;
pub mod process;
pub mod promql;
pub mod relay;
pub mod skew;
pub mod stamped;
