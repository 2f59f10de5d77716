//! Scenarios: a fault, traffic, and what the report must say, judged against the ground truth.

pub mod casting;
pub mod check;
pub mod edges;
pub mod file;
mod late;
pub mod report;
pub mod results;
pub mod run;
pub mod truth;
