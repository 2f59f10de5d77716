//! From states to losses on legs: what is counted, who testifies, and how sure that is.

pub(crate) mod confidence;
pub(crate) mod delay;
pub(crate) mod doubts;
pub(crate) mod sandwich;
pub(crate) mod tally;
pub(crate) mod testimony;
