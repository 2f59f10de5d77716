//! A Kubernetes overlay in network namespaces, with faults whose own counters are the ground truth.
//!
//! * [`lab`] builds nodes, pods, a VXLAN overlay, an underlay switch and a management network.
//! * [`traffic`] sends and receives, and logs what was sent and what arrived.
//! * [`fault`] swallows packets at one known place and counts them itself.

pub mod fault;
pub mod lab;
pub mod traffic;
