//! The agent on a node: captures packets at the node's interfaces in windows that the coordinator sets, and delivers
//! what it saw.
//!
//! The way of a packet: a [`capture::backend::Source`] hands frames to a [`capture::worker`], whose
//! [`capture::lens::Lens`] makes rows of them; [`capture::slices`] cuts rows into slices of time, [`publish::sink`]
//! encodes a slice into a batch, [`spool`] keeps it until the coordinator has it on stable storage.
//!
//! The way of a job: [`control`] keeps a connection, its session passes commands to [`job::Jobs`], each job lives on
//! its own and posts to the [`job::board`], whose news the session passes back. [`probe::Probes`] take the same way.

pub mod capture;
pub mod clock;
pub mod config;
pub mod conntrack;
pub mod control;
pub mod filter;
pub mod host;
pub mod interfaces;
pub mod job;
pub mod metrics;
mod netlink;
pub mod privileges;
pub mod probe;
pub mod publish;
mod retry;
pub mod run;
mod session;
pub mod spool;
mod tables;
mod wire;
