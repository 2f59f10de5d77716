//! Between generated messages and the coordinator's own words. Bounds on what peers send are enforced here.

pub mod agent;
pub mod batch;
pub mod capture;
pub mod check;
pub mod command;
pub mod node;
pub mod path_trace;
pub mod probe;
pub mod storage;
mod text;

pub use text::bounded;
