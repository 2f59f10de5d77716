//! What the spool knows without reading its files: which batches wait, and where each lies.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::sync::Arc;
use std::time::SystemTime;

use lastseen_proto::v1::{BatchKey, ObservationBatch};

/// A batch counts at least this many bytes against the limit, so that many small ones do not fill memory with entries.
const LEAST_BYTES: u64 = 1 << 10;

/// A spool with less room than this, which a batch may need, is full.
pub(super) const LEAST_ROOM_BYTES: u64 = 64 << 10;

/// The batches of one point, capture and process, told apart by their sequence.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Series {
    pub(super) capture: String,
    netns: String,
    interface: String,
    index: u32,
    direction: i32,
    incarnation: u64,
}

impl Series {
    /// Absent without a point: such a batch can be neither sent nor acknowledged.
    pub(super) fn of(key: &BatchKey) -> Option<Self> {
        let point = key.point.as_ref()?;
        Some(Self {
            capture: key.capture_id.clone(),
            netns: point.netns.clone(),
            interface: point.interface.clone(),
            index: point.index,
            direction: point.direction,
            incarnation: key.incarnation,
        })
    }
}

/// Where a batch is.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Disk {
        segment: u64,
        offset: u64,
        length: u32,
    },
    /// One that the disk would not take and that must not be dropped.
    Memory(Box<ObservationBatch>),
}

struct Entry {
    series: Arc<Series>,
    sequence: u64,
    place: Place,
    since: SystemTime,
}

/// A file with records.
struct Segment {
    capture: String,
    /// Claimed in the file, its header included.
    bytes: u64,
    /// Records that are not settled, and those that are being written.
    live: u64,
    /// Present while records are added.
    file: Option<Arc<File>>,
}

/// A range of a segment that one thread may write to.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) file: Arc<File>,
}

/// The limit is reached.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

pub(super) struct Index {
    max_bytes: u64,
    segment_bytes: u64,
    last_id: u64,
    entries: BTreeMap<u64, Entry>,
    series: HashMap<Arc<Series>, BTreeMap<u64, u64>>,
    segments: BTreeMap<u64, Segment>,
    /// The segment that each capture's batches go to.
    open: HashMap<String, u64>,
    disk_bytes: u64,
}

impl Index {
    pub(super) fn new(max_bytes: u64, segment_bytes: u64) -> Self {
        Self {
            max_bytes,
            segment_bytes,
            last_id: 0,
            entries: BTreeMap::new(),
            series: HashMap::new(),
            segments: BTreeMap::new(),
            open: HashMap::new(),
            disk_bytes: 0,
        }
    }

    pub(super) fn has_room(&self, bytes: u64) -> bool {
        self.disk_bytes.saturating_add(bytes) <= self.max_bytes
            && (self.entries.len() as u64) < self.max_bytes / LEAST_BYTES
    }

    /// How many of `parts` parts of what there is room for are taken, on a disk with `free` bytes besides.
    pub(super) fn fill(&self, parts: u64, free: u64) -> u64 {
        let of =
            |used: u64, most: u64| (u128::from(used) * u128::from(parts) / u128::from(most.max(1))) as u64;
        let room = self.max_bytes.min(self.disk_bytes.saturating_add(free));
        if room < LEAST_ROOM_BYTES {
            return parts;
        }
        of(self.disk_bytes, room).max(of(self.entries.len() as u64, self.max_bytes / LEAST_BYTES))
    }

    /// Takes a range of the capture's open segment. Absent if it has none, or that one is full.
    pub(super) fn claim(&mut self, capture: &str, length: u64) -> Result<Option<Claim>, NoRoom> {
        if !self.has_room(length) {
            return Err(NoRoom);
        }
        let Some(&number) = self.open.get(capture) else { return Ok(None) };
        let Some(segment) = self.segments.get_mut(&number) else { return Ok(None) };
        let Some(file) = segment.file.clone() else { return Ok(None) };
        let offset = segment.bytes;
        segment.bytes += length;
        segment.live += 1;
        self.disk_bytes += length;
        if segment.bytes >= self.segment_bytes {
            self.close(number);
        }
        Ok(Some(Claim { segment: number, offset, length, file }))
    }

    /// Gives back a range that could not be written. Nothing more goes into that segment. Returns its number if the file
    /// is of no more use.
    pub(super) fn unclaim(&mut self, claim: &Claim) -> Option<u64> {
        self.close(claim.segment);
        if let Some(segment) = self.segments.get_mut(&claim.segment)
            && segment.bytes == claim.offset + claim.length
            && claim.file.set_len(claim.offset).is_ok()
        {
            segment.bytes = claim.offset;
            self.disk_bytes -= claim.length;
        }
        self.release(claim.segment)
    }

    /// A file of `bytes`, to which the batches of `capture` go from now on if it comes with a handle.
    pub(super) fn add_segment(&mut self, number: u64, capture: &str, bytes: u64, file: Option<File>) {
        if file.is_some() {
            self.open.insert(capture.to_owned(), number);
        }
        self.disk_bytes += bytes;
        let (capture, file) = (capture.to_owned(), file.map(Arc::new));
        self.segments.insert(number, Segment { capture, bytes, live: 0, file });
    }

    /// Takes out the segment that was opened for a capture, if nothing came of it.
    pub(super) fn discard_unused(&mut self, capture: &str) -> Option<u64> {
        let number = *self.open.get(capture)?;
        self.segments.get(&number).filter(|segment| segment.live == 0)?;
        self.release(number)
    }

    /// A file of `bytes` that is not ours to read or remove, and takes room all the same.
    pub(super) fn add_foreign(&mut self, bytes: u64) {
        self.disk_bytes = self.disk_bytes.saturating_add(bytes);
    }

    /// Takes out a segment without records.
    pub(super) fn discard(&mut self, number: u64) -> Option<u64> {
        self.release(number)
    }

    /// A record that is in a file since before this process.
    pub(super) fn add_found(
        &mut self,
        series: Series,
        sequence: u64,
        place: Place,
        since: SystemTime,
    ) -> Option<u64> {
        if let Place::Disk { segment, .. } = &place
            && let Some(segment) = self.segments.get_mut(segment)
        {
            segment.live += 1;
        }
        self.add_since(series, sequence, place, since)
    }

    /// A batch waits. Returns the number of a segment that is of no more use: one of the same key took its place.
    pub(super) fn add(&mut self, series: Series, sequence: u64, place: Place) -> Option<u64> {
        self.add_since(series, sequence, place, SystemTime::now())
    }

    fn add_since(&mut self, series: Series, sequence: u64, place: Place, since: SystemTime) -> Option<u64> {
        let known = self.series.get_key_value(&series).map(|(series, _)| series.clone());
        let series = known.unwrap_or_else(|| Arc::new(series));
        self.last_id += 1;
        let id = self.last_id;
        let older = self.series.entry(series.clone()).or_default().insert(sequence, id);
        self.entries.insert(id, Entry { series, sequence, place, since });
        older.and_then(|older| self.entries.remove(&older)).and_then(|entry| self.let_go(&entry.place))
    }

    pub(super) fn last_id(&self) -> u64 {
        self.last_id
    }

    /// The first batch behind `id`, and its capture.
    pub(super) fn after(&self, id: u64) -> Option<(u64, Arc<Series>)> {
        let next = self.entries.range(id.saturating_add(1)..).next();
        next.map(|(id, entry)| (*id, entry.series.clone()))
    }

    pub(super) fn place(&self, id: u64) -> Option<Place> {
        self.entries.get(&id).map(|entry| entry.place.clone())
    }

    /// What is not on the disk: number, capture and batch.
    pub(super) fn in_memory(&self) -> Vec<(u64, String, ObservationBatch)> {
        let entry = |(id, entry): (&u64, &Entry)| match &entry.place {
            Place::Memory(batch) => Some((*id, entry.series.capture.clone(), (**batch).clone())),
            Place::Disk { .. } => None,
        };
        self.entries.iter().filter_map(entry).collect()
    }

    /// A batch is at `place` from now on. Returns the number of a segment that is of no more use, as it is if the batch
    /// was let go of meanwhile.
    pub(super) fn put(&mut self, id: u64, place: Place) -> Option<u64> {
        let former = match self.entries.get_mut(&id) {
            Some(entry) => std::mem::replace(&mut entry.place, place),
            None => place,
        };
        self.let_go(&former)
    }

    /// Whether a batch of it waits.
    pub(super) fn waits(&self, series: &Series) -> bool {
        self.series.contains_key(series)
    }

    /// Whether any batch of a capture waits.
    pub(super) fn waits_for(&self, capture: &str) -> bool {
        self.series.keys().any(|series| series.capture == capture)
    }

    /// When the first of those came that wait.
    pub(super) fn oldest(&self) -> Option<SystemTime> {
        self.entries.values().next().map(|entry| entry.since)
    }

    pub(super) fn id_of(&self, series: &Series, sequence: u64) -> Option<u64> {
        self.series.get(series)?.get(&sequence).copied()
    }

    /// Takes a batch out. Returns whether it waited, and the number of a segment that is of no more use.
    pub(super) fn remove(&mut self, id: u64) -> (bool, Option<u64>) {
        let Some(entry) = self.entries.remove(&id) else { return (false, None) };
        if let Some(sequences) = self.series.get_mut(&entry.series) {
            sequences.remove(&entry.sequence);
            if sequences.is_empty() {
                self.series.remove(&entry.series);
            }
        }
        (true, self.let_go(&entry.place))
    }

    /// Takes out every batch of a capture. Returns the numbers of segments that are of no more use.
    pub(super) fn remove_capture(&mut self, capture: &str) -> Vec<u64> {
        let of_it = self.series.iter().filter(|(series, _)| series.capture == capture);
        let ids: Vec<u64> = of_it.flat_map(|(_, sequences)| sequences.values().copied()).collect();
        ids.into_iter().filter_map(|id| self.remove(id).1).collect()
    }

    /// Batches that wait.
    pub(super) fn waiting(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of all files.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.disk_bytes
    }

    /// Whether nothing more goes into a segment.
    pub(super) fn is_closed(&self, number: u64) -> bool {
        self.segments.get(&number).is_some_and(|segment| segment.file.is_none())
    }

    /// Every segment.
    pub(super) fn segments(&self) -> Vec<u64> {
        self.segments.keys().copied().collect()
    }

    fn let_go(&mut self, place: &Place) -> Option<u64> {
        match place {
            Place::Disk { segment, .. } => self.release(*segment),
            Place::Memory(_) => None,
        }
    }

    /// One record less in a segment; its number if that was the last.
    fn release(&mut self, number: u64) -> Option<u64> {
        let segment = self.segments.get_mut(&number)?;
        segment.live = segment.live.saturating_sub(1);
        if segment.live > 0 {
            return None;
        }
        self.close(number);
        let segment = self.segments.remove(&number)?;
        self.disk_bytes -= segment.bytes;
        Some(number)
    }

    fn close(&mut self, number: u64) {
        let Some(segment) = self.segments.get_mut(&number) else { return };
        segment.file = None;
        if self.open.get(&segment.capture) == Some(&number) {
            self.open.remove(&segment.capture);
        }
    }
}
