//! Reads every batch back and hands it over. A batch that cannot be used becomes a coverage note.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lastseen_correlate::{Ablation, BatchError, Correlator, Outcome, ScratchError};
use lastseen_proto::batch::{self, Limits};
use lastseen_proto::{convert, v1};
use lastseen_runtime::scratch::ScratchFile;
use prost::Message;

use super::job::{Clocks, Points, Prepared};
use super::scratch::OnDisk;
use crate::error::Error;
use crate::files::Reader;
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
    /// The run is of no use any more.
    Scratch(ScratchError),
}

pub(super) fn run(
    prepared: Prepared,
    capture: &Capture,
    batches: &[StoredBatch],
    directory: &Path,
    means: Means,
) -> Result<Outcome, Error> {
    let Prepared { job, points, clocks } = prepared;
    let correlator = Correlator::new(job).map_err(|e| Error::Precondition(format!("{}: {e}", capture.id)))?;
    let memory = usize::try_from(means.memory).unwrap_or(usize::MAX);
    let mut correlator = correlator.within(memory, Box::new(OnDisk(ScratchFile::new(means.scratch))));
    if let Some(idea) = means.without {
        correlator = correlator.without(idea);
    }
    let mut reader = Reader::new(directory, &capture.id);
    let mut problems: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for stored in batches {
        match add(&mut correlator, stored, &mut reader, (&points, &clocks)) {
            Ok(()) => {}
            Err(Unused::Scratch(error)) => return Err(no_scratch(&error)),
            Err(Unused::Batch(reason)) => {
                let (capture, node) = (&capture.id, &stored.node);
                tracing::warn!(capture, node, reason, "batch left out of the correlation");
                problems.entry(node).or_default().push(reason);
            }
        }
    }
    let mut outcome = correlator.finish().map_err(|error| no_scratch(&error))?;
    for (node, reasons) in problems {
        note(&mut outcome, node, &reasons);
    }
    Ok(outcome)
}

fn add(
    correlator: &mut Correlator,
    stored: &StoredBatch,
    reader: &mut Reader,
    (points, clocks): (&Points, &Clocks),
) -> Result<(), Unused> {
    let key = (stored.node.clone(), stored.point.key.clone());
    let &point = points.get(&key).ok_or("its point is not part of the capture")?;
    let clock = clocks.get(&stored.node).ok_or("the node's clock was never measured")?;
    let message = read(reader, stored)?;
    let columns = batch::decode(&message.columns, &Limits::default()).map_err(|e| e.to_string())?;
    let monotonic = message.slice_start_nanos.saturating_sub(message.realtime_minus_monotonic_nanos);
    let offset = clock.coordinator_minus_monotonic_nanos(monotonic);
    let shift = convert::to_coordinator_nanos(&message, offset);
    let slice = convert::slice(&message, shift);
    correlator.add(point, slice, shift, &columns).map_err(|error| match error {
        BatchError::Scratch(error) => Unused::Scratch(error),
        error => Unused::Batch(error.to_string()),
    })
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

fn read(reader: &mut Reader, stored: &StoredBatch) -> Result<v1::ObservationBatch, String> {
    let bytes = reader.read(&stored.location).map_err(|e| e.to_string())?;
    v1::ObservationBatch::decode(bytes::Bytes::from(bytes)).map_err(|e| e.to_string())
}

fn note(outcome: &mut Outcome, node: &str, reasons: &[String]) {
    let Some(report) = outcome.report.nodes.iter_mut().find(|report| report.node == node) else { return };
    let shown = reasons.iter().take(NOTES).map(|reason| format!("a batch could not be used: {reason}"));
    report.coverage.extend(shown);
    if reasons.len() > NOTES {
        report.coverage.push(format!("{} more batches could not be used", reasons.len() - NOTES));
    }
}
