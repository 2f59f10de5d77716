//! The agent on real interfaces and against a coordinator of the tests, as one program.

mod agent;
mod capture;
mod common;
mod conntrack;
mod control;
#[path = "common/coordinator.rs"]
mod coordinator;
mod drop_times;
mod interfaces;
#[path = "common/pki.rs"]
mod pki;
mod probes;
#[path = "common/program.rs"]
mod program;
#[path = "common/recording.rs"]
mod recording;
mod refusals;
#[path = "common/scripted.rs"]
mod scripted;
mod spool;
#[path = "probes/support.rs"]
mod support;
mod vanishing;
