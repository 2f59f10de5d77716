//! Segments that a point saw only in fragments, or merged with others, and segment sizes where a capture does not tell
//! them.

pub(crate) mod fragments;
pub(crate) mod intervals;
pub(crate) mod pieces;
pub mod segmentation;
