//! Between generated types and the domain's: the only place, besides the gRPC modules and ctl's output, that knows both.

mod enums;
mod points;
mod report;
mod times;
mod topology;
mod translation;

pub use points::{point, slice, threshold, to_coordinator_nanos};
pub use report::{flow_record, lost_packet};
pub use times::{nanos, span_nanos, timestamp};
pub use translation::translated_connection;

/// A message that means nothing to the domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {value:?} is not {expected}")]
pub struct ConvertError {
    /// Field of the message.
    pub field: &'static str,
    /// What it held.
    pub value: String,
    /// What it should have held.
    pub expected: &'static str,
}

impl ConvertError {
    fn new(field: &'static str, value: &(impl ToString + ?Sized), expected: &'static str) -> Self {
        Self { field, value: value.to_string(), expected }
    }
}
