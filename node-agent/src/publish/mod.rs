//! Delivering observations: encoded once, spooled until the coordinator has them on stable storage.

mod held;
pub mod sink;
pub mod stream;
