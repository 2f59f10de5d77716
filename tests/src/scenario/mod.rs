//! Scenarios: a fault, traffic, and what the report must say, judged against the ground truth.

pub mod casting;
pub mod check;
pub mod file;
pub mod report;
pub mod results;
pub mod route;
pub mod run;
pub mod truth;
