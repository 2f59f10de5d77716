//! What was read, handed over to the run.

use lastseen_correlate::input::{Slice, SliceCounters};
use lastseen_correlate::segmentation::SegmentSizes;
use lastseen_correlate::{BatchError, Correlator};
use lastseen_packet::observation::Columns;

use super::super::shelf::no_room;
use super::super::tap::{Batch, KEY, Tap};
use super::Evidence;

impl Evidence {
    /// Hands over every batch and gives its memory back.
    pub(super) fn feed(&mut self, correlator: &mut Correlator) -> anyhow::Result<()> {
        let sizes = self.segment_sizes()?;
        let mut first_point = 0;
        for at in 0..self.taps.len() {
            let batches = std::mem::take(&mut self.taps[at].batches);
            let tap = &self.taps[at];
            for batch in batches {
                let Some(of_tap) = tap.directions.iter().position(|known| *known == batch.direction) else {
                    continue;
                };
                let slice = self.slice(tap, &batch);
                let mut columns = self.shelf.take(batch.columns)?;
                sizes.restore(&mut columns);
                add(correlator, first_point + of_tap, slice, -self.ahead_of(tap), &columns)?;
            }
            if let (Some(span), 1..) = (tap.span, tap.drops) {
                for of_tap in 0..tap.directions.len() {
                    let slice = self.dropping(tap, span);
                    add(correlator, first_point + of_tap, slice, 0, &Columns::default())?;
                }
            }
            first_point += tap.directions.len();
        }
        Ok(())
    }

    fn segment_sizes(&self) -> anyhow::Result<SegmentSizes> {
        let mut sizes = SegmentSizes::new(KEY.0);
        for (at, tap) in self.taps.iter().enumerate() {
            for batch in &tap.batches {
                self.shelf.show(&batch.columns, |columns| sizes.learn(at, columns))?;
            }
        }
        Ok(sizes)
    }

    fn slice(&self, tap: &Tap, batch: &Batch) -> Slice {
        let ahead = self.ahead_of(tap);
        let start_nanos = batch.start_nanos.saturating_sub(ahead);
        let end_nanos = batch.end_nanos.saturating_sub(ahead);
        // Drops of unknown time have a slice of their own, which counts every packet.
        let received = if tap.drops > 0 { 0 } else { batch.received };
        let Batch { unreadable, undecoded, drops, .. } = *batch;
        let counters = SliceCounters {
            received,
            kernel_drops: drops,
            unreadable,
            undecoded,
            ..SliceCounters::default()
        };
        Slice { start_nanos, end_nanos, counters }
    }

    fn dropping(&self, tap: &Tap, (start, end): (i64, i64)) -> Slice {
        let ahead = self.ahead_of(tap);
        let counters =
            SliceCounters { received: tap.packets, kernel_drops: tap.drops, ..SliceCounters::default() };
        Slice { start_nanos: start.saturating_sub(ahead), end_nanos: end.saturating_sub(ahead), counters }
    }
}

fn add(
    correlator: &mut Correlator,
    point: usize,
    slice: Slice,
    to_reference_nanos: i64,
    columns: &Columns,
) -> anyhow::Result<()> {
    correlator.add(point, slice, to_reference_nanos, columns).map_err(|error| match error {
        BatchError::Scratch(error) => no_room(error),
        error => error.into(),
    })
}
