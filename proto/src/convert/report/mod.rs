//! The report, in both directions: it is stored as a message and filtered as a domain value.

/// `From` in both directions between two structs whose named fields have the same names and convertible types.
macro_rules! same_fields {
    ($wire:ident, $domain:ident, $($field:ident),+ $(,)?) => {
        impl From<$domain> for v1::$wire {
            fn from(value: $domain) -> Self {
                Self { $($field: value.$field.into(),)+ }
            }
        }

        impl From<v1::$wire> for $domain {
            fn from(value: v1::$wire) -> Self {
                Self { $($field: value.$field.into(),)+ }
            }
        }
    };
}

mod flows;
mod losses;
mod nodes;
mod paths;

use lastseen_correlate::input::Window;
use lastseen_correlate::report::{Report, Sampling, SegmentTotals};

pub use flows::flow_record;
pub use losses::lost_packet;

use super::{ConvertError, nanos, timestamp};
use crate::v1;

same_fields!(
    SegmentTotals,
    SegmentTotals,
    segments,
    delivered,
    lost,
    not_observable,
    ambiguous,
    in_flight,
    transformed,
    duplicated,
    bypassed
);

same_fields!(Sampling, Sampling, interval, varied);

fn each<A, B: From<A>>(list: Vec<A>) -> Vec<B> {
    list.into_iter().map(B::from).collect()
}

fn try_each<A, B: TryFrom<A>>(list: Vec<A>) -> Result<Vec<B>, B::Error> {
    list.into_iter().map(B::try_from).collect()
}

impl From<Report> for v1::DiffReport {
    fn from(report: Report) -> Self {
        Self {
            capture_id: report.capture_id,
            name: report.name,
            window: Some(v1::Window {
                start: Some(timestamp(report.window.start_nanos)),
                end: Some(timestamp(report.window.end_nanos)),
            }),
            verdict: v1::diff_report::Verdict::from(report.verdict).into(),
            notes: report.notes,
            partial: report.partial,
            totals: Some(report.totals.into()),
            nodes: each(report.nodes),
            paths: each(report.paths),
            filter: report.filter,
            omitted_paths: report.omitted_paths,
            sampling: report.sampling.map(Into::into),
        }
    }
}

impl TryFrom<v1::DiffReport> for Report {
    type Error = ConvertError;

    fn try_from(message: v1::DiffReport) -> Result<Self, ConvertError> {
        let window = message.window.unwrap_or_default();
        Ok(Self {
            verdict: message.verdict().into(),
            capture_id: message.capture_id,
            name: message.name,
            filter: message.filter,
            window: Window {
                start_nanos: window.start.as_ref().map_or(0, nanos),
                end_nanos: window.end.as_ref().map_or(0, nanos),
            },
            partial: message.partial,
            notes: message.notes,
            totals: message.totals.unwrap_or_default().into(),
            nodes: each(message.nodes),
            paths: try_each(message.paths)?,
            omitted_paths: message.omitted_paths,
            sampling: message.sampling.map(Into::into),
        })
    }
}

#[cfg(test)]
mod tests;
