//! What probes found, as counts and in words.

mod summary;
mod words;

pub use summary::Summary;
pub use words::of as words;
