//! Netlink without a daemon's connection: one question, all of its answer, on the calling thread.

pub(crate) mod attributes;
pub(crate) mod dump;
