//! Reads every batch back and hands it over. A batch that cannot be used becomes a coverage note.

use std::collections::BTreeMap;
use std::path::Path;

use lastseen_correlate::{Ablation, Correlator, Outcome};
use lastseen_proto::batch::{self, Limits};
use lastseen_proto::{convert, v1};
use prost::Message;

use super::job::Prepared;
use crate::error::Error;
use crate::files::Reader;
use crate::model::Capture;
use crate::store::StoredBatch;

/// Notes of one node about single batches; the rest is counted.
const NOTES: usize = 5;

pub(super) fn run(
    prepared: Prepared,
    capture: &Capture,
    batches: &[StoredBatch],
    directory: &Path,
    without: Option<Ablation>,
) -> Result<Outcome, Error> {
    let Prepared { job, points, clocks } = prepared;
    let mut correlator =
        Correlator::new(job).map_err(|e| Error::Precondition(format!("{}: {e}", capture.id)))?;
    if let Some(idea) = without {
        correlator = correlator.without(idea);
    }
    let mut reader = Reader::new(directory, &capture.id);
    let mut problems: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for stored in batches {
        let key = (stored.node.clone(), stored.point.key.clone());
        let added = points
            .get(&key)
            .ok_or_else(|| "its point is not part of the capture".to_owned())
            .and_then(|&point| {
                let clock = clocks.get(&stored.node).ok_or("the node's clock was never measured")?;
                let message = read(&mut reader, stored)?;
                let columns =
                    batch::decode(&message.columns, &Limits::default()).map_err(|e| e.to_string())?;
                let monotonic =
                    message.slice_start_nanos.saturating_sub(message.realtime_minus_monotonic_nanos);
                let offset = clock.coordinator_minus_monotonic_nanos(monotonic);
                let shift = convert::to_coordinator_nanos(&message, offset);
                let slice = convert::slice(&message, shift);
                correlator.selected_by(slice, convert::threshold(&message));
                correlator.add(point, slice, shift, &columns).map_err(|e| e.to_string())
            });
        if let Err(reason) = added {
            tracing::warn!(
                capture = capture.id,
                node = stored.node,
                reason,
                "batch left out of the correlation"
            );
            problems.entry(&stored.node).or_default().push(reason);
        }
    }
    let mut outcome = correlator.finish();
    for (node, reasons) in problems {
        note(&mut outcome, node, &reasons);
    }
    Ok(outcome)
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
