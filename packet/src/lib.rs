//! Bytes to facts: what a captured frame is, what makes it the same packet at the next hop, and the segments
//! that are matched. Pure: no I/O, no clock.

pub mod observation;
