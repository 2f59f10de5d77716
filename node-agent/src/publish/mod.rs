//! Delivering observations: encoded once, kept until the coordinator has them on stable storage.

pub mod outbox;
pub mod sink;
pub mod stream;
