//! What earlier processes left.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use lastseen_proto::limits::SPOOLED_POINTS;
use lastseen_proto::v1::{BatchKey, SpooledPoint};

use super::index::{Index, Place, Series};
use super::{record, segment};
use crate::metrics::Metrics;

/// What earlier processes left of each point.
pub(super) type Left = HashMap<Series, SpooledPoint>;

/// Fills `index` with every sound record of a directory. Returns what they are, and the number of the next segment. A
/// file that cannot be read is left alone: it is counted as damage and against the limit, and the log says so.
pub(super) fn load(directory: &Path, index: &mut Index, metrics: &Metrics) -> io::Result<(Left, u64)> {
    let numbers = segment::list(directory)?;
    let mut left = Left::new();
    for &number in &numbers {
        if let Err(error) = load_segment(directory, number, index, &mut left, metrics) {
            let file = segment::path(directory, number);
            metrics.spool_damaged_records.inc();
            index.add_foreign(file.symlink_metadata().map_or(0, |of| of.len()));
            tracing::error!(file = %file.display(), %error, "a segment of the spool cannot be read; it is left alone");
        }
    }
    let batches = index.waiting();
    metrics.spool_recovered_batches.inc_by(batches as u64);
    if batches > 0 {
        tracing::info!(
            batches,
            bytes = index.disk_bytes(),
            "batches of an earlier process wait in the spool"
        );
    }
    Ok((left, numbers.last().map_or(1, |last| last.saturating_add(1))))
}

fn load_segment(
    directory: &Path,
    number: u64,
    index: &mut Index,
    left: &mut Left,
    metrics: &Metrics,
) -> io::Result<()> {
    let (bytes, length) = segment::read(directory, number)?;
    if !segment::is_ours(&bytes) && !segment::is_begun(&bytes) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it is not of this version of the agent; remove it, or run the version that made it",
        ));
    }
    let written = std::fs::metadata(segment::path(directory, number))?.modified()?;
    index.add_segment(number, "", length, None);
    let (mut sound, mut useless) = (0, Vec::new());
    record::scan(&bytes, &mut |offset, length, batch| {
        let offset = offset as u64;
        let series = batch.and_then(|batch| {
            let key = batch.key.ok_or("it has no key")?;
            Ok((Series::of(&key).ok_or("it has no point")?, key))
        });
        match series {
            Ok((series, key)) => {
                sound += 1;
                let sequence = key.sequence;
                note(left, &series, key);
                let place = Place::Disk { segment: number, offset, length: length as u32 };
                useless.extend(index.add_found(series, sequence, place, written));
            }
            Err(reason) => damaged(directory, number, offset, reason, metrics),
        }
    });
    if length > bytes.len() as u64 {
        damaged(directory, number, bytes.len() as u64, "no segment is that long", metrics);
    }
    useless.extend(if sound == 0 { index.discard(number) } else { None });
    for number in useless {
        unlink(directory, number);
    }
    Ok(())
}

/// The sequence that follows the last one is how many there were.
fn note(left: &mut Left, series: &Series, key: BatchKey) {
    let batches = key.sequence.saturating_add(1);
    if let Some(known) = left.get_mut(series) {
        known.batches = known.batches.max(batches);
    } else if left.len() < SPOOLED_POINTS {
        let BatchKey { capture_id, point, incarnation, .. } = key;
        left.insert(series.clone(), SpooledPoint { capture_id, incarnation, point, batches });
    }
}

/// Counts a record that is of no use, and says where it is.
pub(super) fn damaged(directory: &Path, number: u64, offset: u64, reason: &str, metrics: &Metrics) {
    metrics.spool_damaged_records.inc();
    let file = segment::path(directory, number);
    tracing::error!(file = %file.display(), offset, reason, "a record of the spool is damaged; it is left out");
}

/// Removes a segment of which nothing waits any more.
pub(super) fn unlink(directory: &Path, number: u64) {
    let path = segment::path(directory, number);
    if let Err(error) = std::fs::remove_file(&path) {
        tracing::warn!(file = %path.display(), %error, "a segment of the spool cannot be removed; remove it by hand");
    }
}
