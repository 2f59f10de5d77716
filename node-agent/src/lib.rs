//! The agent on a node: captures packets at the node's interfaces in windows the coordinator sets, and delivers
//! what it saw.

pub mod capture;
pub mod clock;
pub mod filter;
pub mod interfaces;
