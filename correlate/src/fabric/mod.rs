//! The network of a capture: what its nodes' tables and the packets themselves say of it.

pub(crate) mod domain;
pub(crate) mod locate;
pub(crate) mod network;
pub(crate) mod own;
pub(crate) mod prefix_table;
pub(crate) mod seen;
pub(crate) mod tables;
pub(crate) mod tenants;
pub mod topology;
pub(crate) mod tunnels;
