//! Scenarios: a fault, traffic, and what the report must say, judged against the ground truth.

pub mod ablation;
mod blame;
pub mod casting;
pub mod check;
mod delay;
pub mod edges;
pub mod file;
pub mod finding;
mod late;
pub mod legs;
pub mod packets;
pub mod report;
pub mod results;
pub mod route;
pub mod run;
pub mod sample;
mod streams;
pub mod summary;
pub mod truth;
