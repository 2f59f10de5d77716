//! Segments that a point saw only in fragments, or merged with others.

pub(crate) mod fragments;
pub(crate) mod intervals;
pub(crate) mod pieces;
pub mod segmentation;
