//! The real `coordinator`, `node-agent` and `ctl`, running inside a lab.

pub mod binaries;
pub mod ctl;
pub mod fleet;
pub mod pki;
pub mod process;
pub mod relay;
pub mod skew;
