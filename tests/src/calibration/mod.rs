//! How far the confidence of losses can be trusted, over synthetic mixtures of network loss and capture loss.
//!
//! No lab: the ground truth of capture loss is known only where the packets themselves are made up.

#[path = "../../../correlate/tests/lab/mod.rs"]
mod lab;
#[path = "../../../correlate/tests/calibration/mod.rs"]
mod mixtures;

pub use mixtures::{Misses, Row, Sweep, sweep};
