//! Delivering observations: encoded once, kept until the coordinator has them on stable storage.

mod held;
pub mod outbox;
pub mod sink;
pub mod stream;
