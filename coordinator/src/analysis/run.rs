//! Reads every batch back and hands it over. A batch that cannot be used becomes a coverage note.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use lastseen_correlate::{Ablation, BatchError, Correlator, Outcome, ScratchError};
use lastseen_proto::batch::{self, Limits};
use lastseen_proto::{convert, v1};
use lastseen_runtime::scratch::ScratchFile;
use lastseen_runtime::telemetry::TRACE;
use prost::Message;
use tracing::info_span;

use super::job::{Clocks, Points, Prepared};
use crate::error::Error;
use crate::files::{FileError, Files};
use crate::model::Capture;
use crate::store::StoredBatch;

/// Notes of one node about single batches; the rest is counted.
const NOTES: usize = 5;

/// What a run has at its disposal.
#[derive(Clone, Debug)]
pub(super) struct Means {
    /// Bytes of memory for observations.
    pub(super) memory: u64,
    /// Directory for those that memory has no room for.
    pub(super) scratch: PathBuf,
    /// An idea of the method to do without, for measurement.
    pub(super) without: Option<Ablation>,
}

/// Why a batch was not added.
enum Unused {
    /// The run goes on without it.
    Batch(String),
    /// It is stored, but out of reach: the run would find less than there is.
    Away(FileError),
    /// The run is of no use any more.
    Scratch(ScratchError),
}

pub(super) fn run(
    prepared: Prepared,
    capture: &Capture,
    batches: &[StoredBatch],
    files: &Files,
    means: Means,
) -> Result<Outcome, Error> {
    let Prepared { job, points, clocks } = prepared;
    let correlator = Correlator::new(job).map_err(|e| Error::Precondition(format!("{}: {e}", capture.id)))?;
    let memory = usize::try_from(means.memory).unwrap_or(usize::MAX);
    let mut correlator = correlator.within(memory, Box::new(ScratchFile::new(means.scratch)));
    if let Some(idea) = means.without {
        correlator = correlator.without(idea);
    }
    let mut problems: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let reading = info_span!(target: TRACE, "read", batches = batches.len()).entered();
    for (stored, read) in batches.iter().zip(files.reader(&capture.id, batches)) {
        match add(&mut correlator, stored, read, (&points, &clocks)) {
            Ok(()) => {}
            Err(Unused::Away(error)) => return Err(error.into()),
            Err(Unused::Scratch(error)) => return Err(no_scratch(&error)),
            Err(Unused::Batch(reason)) => {
                let (capture, node) = (&capture.id, &stored.node);
                tracing::warn!(capture, node, reason, "batch left out of the correlation");
                problems.entry(node).or_default().push(reason);
            }
        }
    }
    drop(reading);
    let matching = info_span!(target: TRACE, "match");
    let mut outcome = matching.in_scope(|| correlator.finish()).map_err(|error| no_scratch(&error))?;
    for (node, reasons) in problems {
        note(&mut outcome, node, &reasons);
    }
    Ok(outcome)
}

fn add(
    correlator: &mut Correlator,
    stored: &StoredBatch,
    read: Result<Bytes, FileError>,
    (points, clocks): (&Points, &Clocks),
) -> Result<(), Unused> {
    let key = (stored.node.clone(), stored.point.key.clone());
    let &point = points.get(&key).ok_or("its point is not part of the capture")?;
    let clock = clocks.get(&stored.node).ok_or("the node's clock was never measured")?;
    let message = v1::ObservationBatch::decode(read?).map_err(|e| e.to_string())?;
    let columns = batch::decode(&message.columns, &Limits::default()).map_err(|e| e.to_string())?;
    let monotonic = message.slice_start_nanos.saturating_sub(message.realtime_minus_monotonic_nanos);
    let offset = clock.coordinator_minus_monotonic_nanos(monotonic);
    let shift = convert::to_coordinator_nanos(&message, offset);
    let slice = convert::slice(&message, shift);
    correlator.selected_by(slice, convert::threshold(&message));
    correlator.add(point, slice, shift, &columns).map_err(|error| match error {
        BatchError::Scratch(error) => Unused::Scratch(error),
        error => Unused::Batch(error.to_string()),
    })
}

impl From<FileError> for Unused {
    fn from(error: FileError) -> Self {
        if error.is_away() { Self::Away(error) } else { Self::Batch(error.to_string()) }
    }
}

impl From<String> for Unused {
    fn from(reason: String) -> Self {
        Self::Batch(reason)
    }
}

impl From<&str> for Unused {
    fn from(reason: &str) -> Self {
        Self::Batch(reason.to_owned())
    }
}

fn no_scratch(error: &ScratchError) -> Error {
    Error::Exhausted(format!(
        "correlation {error}; make room there, raise --correlation-memory-bytes, or capture again with a shorter window or \
         a narrower filter"
    ))
}

fn note(outcome: &mut Outcome, node: &str, reasons: &[String]) {
    let Some(report) = outcome.report.nodes.iter_mut().find(|report| report.node == node) else { return };
    let shown = reasons.iter().take(NOTES).map(|reason| format!("a batch could not be used: {reason}"));
    report.coverage.extend(shown);
    if reasons.len() > NOTES {
        report.coverage.push(format!("{} more batches could not be used", reasons.len() - NOTES));
    }
}

#[cfg(test)]
mod tests {
    use lastseen_packet::observation::{Columns, FlowKey, Observation};
    use lastseen_proto::batch::Encoder;

    use super::*;
    use crate::analysis::job;
    use crate::model::{CheckedBatch, ClockFix, SECOND, Window};

    fn capture() -> Capture {
        let window = Some(Window { start_nanos: 0, end_nanos: 10 * SECOND });
        let mut capture = Capture { window, ..Capture::sample(&["node-a"]) };
        capture.parts[0].clock_start = Some(ClockFix::sample());
        capture
    }

    /// Stores a batch of a hundred packets.
    async fn stored(capture: &Capture, files: &Files) -> StoredBatch {
        let mut columns = Columns { flows: vec![FlowKey::UNSPECIFIED], ..Columns::default() };
        (0..100).for_each(|time_nanos| columns.push(&Observation { time_nanos, ..Observation::default() }));
        let message = v1::ObservationBatch {
            slice_end_nanos: SECOND,
            rows: 100,
            columns: Encoder::new().unwrap().encode(&columns).unwrap().into(),
            ..v1::ObservationBatch::default()
        };
        let batch = CheckedBatch::sample(&capture.id, 0, &message.encode_to_vec());
        let group = BTreeMap::from([(capture.id.clone(), vec![batch])]);
        StoredBatch::sample(&files.writer().write(group).await.remove(0).placed.unwrap()[0])
    }

    #[tokio::test]
    async fn a_run_without_room_names_the_directory_and_what_to_do_and_leaves_nothing_there() {
        let home = tempfile::tempdir().unwrap();
        let capture = capture();
        let files = Files::in_directory(home.path().to_owned());
        let batches = [stored(&capture, &files).await];
        let run_in = |scratch: PathBuf| {
            let prepared = job::prepare(&capture, &[], &[], &batches, None).unwrap();
            let means = Means { memory: 0, scratch, without: None };
            run(prepared, &capture, &batches, &files, means)
        };
        let before = std::fs::read_dir(home.path()).unwrap().count();
        let outcome = run_in(home.path().to_owned()).unwrap();
        assert_eq!(outcome.flows[0].packet_delta_count, 100);
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), before);
        let Err(Error::Exhausted(reason)) = run_in(home.path().join("gone")) else {
            panic!("there is no room")
        };
        for part in ["cannot write", "/gone: No such file", "--correlation-memory-bytes"] {
            assert!(reason.contains(part), "{reason}");
        }
    }

    /// A report without them would say less than is known, for good.
    #[test]
    fn batches_out_of_reach_end_the_run_and_those_that_are_gone_do_not() {
        let (url, reason) = ("s3://fabric/c-1/1.obs".to_owned(), "Connection refused".to_owned());
        let away = FileError::Object { url: url.clone(), action: "read", reason, advice: "look" };
        assert!(matches!(Unused::from(away), Unused::Away(_)));
        assert!(
            matches!(Unused::from(FileError::Gone { url }), Unused::Batch(note) if note.contains("c-1/1.obs"))
        );
    }
}
