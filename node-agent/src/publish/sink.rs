//! From a slice to a batch in the outbox.

use std::sync::Arc;

use lastseen_proto::batch::Encoder;
use lastseen_proto::limits::COLUMNS_BYTES;
use lastseen_proto::v1::{BatchKey, ObservationBatch, ObservationPoint};

use super::outbox::Outbox;
use crate::capture::slices::{Sink, Slice};
use crate::job::Context;
use crate::job::status::{PointId, Totals};
use crate::metrics::Metrics;
use crate::wire;

/// What a slice may take; asked for before the work of encoding.
const TYPICAL_BYTES: usize = 64 << 10;

/// Encodes the slices of one point.
pub struct BatchSink {
    outbox: Arc<Outbox>,
    capture: String,
    point: ObservationPoint,
    sequence: u64,
    encoder: Encoder,
    totals: Arc<Totals>,
    metrics: Arc<Metrics>,
}

impl BatchSink {
    /// A sink whose batches start at sequence 0. The error is a line for the user.
    pub fn new(
        context: &Context,
        capture: &str,
        point: &PointId,
        totals: Arc<Totals>,
    ) -> Result<Self, String> {
        let encoder = Encoder::new().map_err(|e| format!("{}: cannot encode: {e}", point.interface))?;
        Ok(Self {
            outbox: context.outbox.clone(),
            capture: capture.to_owned(),
            point: wire::point(point),
            sequence: 0,
            encoder,
            totals,
            metrics: context.metrics.clone(),
        })
    }
}

impl Sink for BatchSink {
    fn offer(&mut self, slice: &Slice<'_>) -> bool {
        let must = slice.is_last && slice.columns.is_empty();
        if !must && !self.outbox.has_room(TYPICAL_BYTES) {
            return false;
        }
        let Some(columns) = self.encode(slice) else { return false };
        let taken = self.outbox.offer(self.batch(slice, columns), must);
        if taken {
            self.sequence += 1;
            self.totals.add(slice.counters);
            self.metrics.count(&slice.counters);
        }
        taken
    }
}

impl BatchSink {
    /// Absent if a batch cannot carry them, which the log then says.
    fn encode(&mut self, slice: &Slice<'_>) -> Option<Vec<u8>> {
        match self.encoder.encode(slice.columns) {
            Ok(columns) if columns.len() <= COLUMNS_BYTES => return Some(columns),
            Ok(columns) => tracing::error!(
                bytes = columns.len(),
                "a slice is larger than a batch may be; its rows are dropped"
            ),
            Err(error) => tracing::error!(%error, "a slice cannot be encoded; its rows are dropped"),
        }
        None
    }

    fn batch(&self, slice: &Slice<'_>, columns: Vec<u8>) -> ObservationBatch {
        ObservationBatch {
            key: Some(BatchKey {
                capture_id: self.capture.clone(),
                point: Some(self.point.clone()),
                incarnation: self.outbox.incarnation(),
                sequence: self.sequence,
            }),
            slice_start_nanos: slice.start_nanos,
            slice_end_nanos: slice.end_nanos,
            realtime_minus_monotonic_nanos: slice.realtime_minus_monotonic,
            counters: Some(wire::counters(&slice.counters)),
            rows: slice.columns.len() as u32,
            columns: columns.into(),
            sampling_threshold: (!slice.threshold.is_all()).then(|| slice.threshold.largest_hash()),
        }
    }
}
