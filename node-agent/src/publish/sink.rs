//! From a slice to a batch in the spool.

use std::sync::Arc;

use lastseen_proto::batch::Encoder;
use lastseen_proto::limits::COLUMNS_BYTES;
use lastseen_proto::v1::{BatchKey, ObservationBatch, ObservationPoint};

use crate::capture::counters::Counters;
use crate::capture::slices::{Sink, Slice};
use crate::job::Context;
use crate::job::status::{PointId, Totals};
use crate::metrics::Metrics;
use crate::spool::Spool;
use crate::wire;

/// What a slice may take; asked for before the work of encoding.
const TYPICAL_BYTES: u64 = 64 << 10;

/// Encodes the slices of one point.
pub struct BatchSink {
    spool: Arc<Spool>,
    capture: String,
    point: ObservationPoint,
    sequence: u64,
    encoder: Encoder,
    totals: Arc<Totals>,
    metrics: Arc<Metrics>,
    /// What the metrics have of the slice that goes on, because it was refused.
    counted: Counters,
}

impl BatchSink {
    /// A sink whose batches start at sequence 0. Looks at the spool's disk. The error is a line for the user.
    pub fn new(
        context: &Context,
        capture: &str,
        point: &PointId,
        totals: Arc<Totals>,
    ) -> Result<Self, String> {
        let encoder = Encoder::new().map_err(|e| format!("{}: cannot encode: {e}", point.interface))?;
        context.spool.look();
        Ok(Self {
            spool: context.spool.clone(),
            capture: capture.to_owned(),
            point: wire::capture::point(point),
            sequence: 0,
            encoder,
            totals,
            metrics: context.metrics.clone(),
            counted: Counters::default(),
        })
    }
}

impl Sink for BatchSink {
    fn offer(&mut self, slice: &Slice<'_>) -> bool {
        let taken = self.hand_in(slice);
        if taken {
            self.sequence += 1;
            self.totals.add(slice.counters);
        }
        self.count(slice, taken);
        taken
    }

    fn halvings(&self) -> u32 {
        self.spool.halvings()
    }
}

impl BatchSink {
    fn hand_in(&mut self, slice: &Slice<'_>) -> bool {
        let must = slice.is_last && slice.columns.is_empty();
        if !must && !self.spool.has_room(TYPICAL_BYTES) {
            return false;
        }
        let Some(columns) = self.encode(slice) else { return false };
        self.spool.offer(self.batch(slice, columns), must)
    }

    /// Drops are seen when they happen, not when there is room again.
    fn count(&mut self, slice: &Slice<'_>, taken: bool) {
        let dropped = if taken { 0 } else { slice.columns.len() as u64 };
        let all = Counters { agent_drops: slice.counters.agent_drops + dropped, ..slice.counters };
        self.metrics.count(&(all - self.counted));
        self.counted = if taken { Counters::default() } else { all };
    }

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
                incarnation: self.spool.incarnation(),
                sequence: self.sequence,
            }),
            slice_start_nanos: slice.start_nanos,
            slice_end_nanos: slice.end_nanos,
            realtime_minus_monotonic_nanos: slice.realtime_minus_monotonic,
            counters: Some(wire::capture::counters(&slice.counters)),
            rows: slice.columns.len() as u32,
            columns: columns.into(),
            sampling_threshold: (!slice.threshold.is_all()).then(|| slice.threshold.largest_hash()),
        }
    }
}
