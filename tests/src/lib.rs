//! A Kubernetes overlay in network namespaces, with faults whose own counters are the ground truth.
//!
//! * [`lab`] builds nodes, pods, a VXLAN overlay, an underlay switch and a management network.
//! * [`traffic`] sends and receives, and logs what was sent and what arrived.
//! * [`fault`] swallows packets at one known place and counts them itself.
//! * [`product`] runs the real `coordinator`, `node-agent` and `ctl` inside the lab.
//! * [`scenario`] joins the four and judges the report against the ground truth.
//! * [`synthetic`] writes captures of what the lab cannot build, and judges the reports on them.
//! * [`calibration`] holds the confidence of losses against synthetic packets whose fate is known.
//! * [`scripted`] runs the agent's code on nodes whose packets are made up.
//! * [`faults`] breaks a fleet of such agents under load and holds batches and reports against the truth.
//! * [`bench`] measures the programs, in the lab and outside of it.

#![allow(clippy::disallowed_methods, reason = "a lab consists of programs it starts")]

pub mod bench;
pub mod calibration;
pub mod fault;
pub mod faults;
pub mod lab;
pub mod probed;
pub mod product;
pub mod scenario;
pub mod scripted;
pub mod served;
pub mod synthetic;
pub mod traced;
pub mod traffic;
