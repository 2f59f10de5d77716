//! Datagrams of which a point saw only a part.
//!
//! A fragment that is not the first names no flow: it is joined to its first fragment by addresses, protocol and
//! identification (RFC 791 §3.2, RFC 8200 §4.5), of the tunnel's carrier or of the packet itself. Whoever puts the
//! datagram together again needs all of it, so a point saw it only if it saw every byte: a first fragment whose others
//! did not come is no sighting, and what is missing of it was lost before the point.

mod join;
mod piece;
mod whole;

use std::collections::HashMap;

use lastseen_packet::observation::{FlowKey, Observation, SipKey};

use self::join::Joiner;
use self::piece::{Part, Piece};
use crate::evidence::flows::Flows;
use crate::evidence::log::Log;
use crate::evidence::scratch::{Overflow, ScratchError};
use crate::evidence::sightings::Sightings;
use crate::input::Job;

/// Fragments of one datagram are no further apart than this, nanoseconds, where a job does not wait longer.
const LEAST_BOUND_NANOS: i64 = 1_000_000_000;
/// Bytes that a piece takes while those of its point are put together.
const WORKING_BYTES: usize = size_of::<Piece>() + size_of::<Part>() + size_of::<(usize, Part)>();
/// Pieces of a point that there is always room for.
const LEAST_ROOM: usize = 1 << 16;

/// The fragments of a run by point, in the order of the sightings that were made of them.
#[derive(Debug)]
pub(crate) struct Pieces(Vec<Log<Piece>>);

/// The fragments of one point.
struct OfPoint(Vec<Piece>);

impl Pieces {
    /// That one fragment takes in memory.
    pub(crate) const BYTES: usize = size_of::<Piece>();

    /// None yet, of so many points.
    pub(crate) fn new(points: usize) -> Self {
        Self((0..points).map(|_| Log::default()).collect())
    }

    /// Takes in a row of a point that is a fragment or whose carrier is one, with the range of sightings that were made
    /// of it.
    #[cold]
    pub(crate) fn note(
        &mut self,
        point: usize,
        flow: u32,
        row: &Observation,
        shift_nanos: i64,
        sightings: (usize, usize),
    ) {
        self.0[point].push(Piece {
            time: row.time_nanos.saturating_add(shift_nanos),
            transport_hash: row.transport_hash,
            flow,
            outer_id: row.outer_id(),
            ip_length: row.ip_length,
            payload_length: row.payload_length,
            sightings: (sightings.0 as u32, sightings.1 as u32),
            ip_id: row.ip_id,
            fragment_offset: row.fragment_offset,
            outer_fragment_length: row.outer_fragment_length,
            marks: row.marks,
        });
    }

    /// Fragments of one point.
    pub(crate) fn count(&self, point: usize) -> usize {
        self.0[point].len()
    }

    /// Most fragments of one point that can be put together in half of the memory there is.
    pub(crate) fn room(overflow: &Overflow) -> usize {
        (overflow.bytes / 2 / WORKING_BYTES).max(LEAST_ROOM)
    }

    /// Moves all to scratch space.
    pub(crate) fn put_away(&mut self, overflow: &Overflow) -> Result<(), ScratchError> {
        self.0.iter_mut().try_for_each(|log| log.put_away(overflow))
    }

    /// Takes away the sightings of datagrams that are not whole, and has the others happen when the last of their
    /// fragments came. Returns how many were taken away, by point.
    pub(crate) fn settle(
        self,
        job: &Job,
        flows: &Flows,
        sightings: &mut Sightings,
    ) -> Result<Vec<u64>, ScratchError> {
        let overflow = sightings.overflow.clone();
        let settle = |(point, log): (usize, Log<Piece>)| {
            let mut pieces = Vec::with_capacity(log.len());
            log.drain(overflow.as_deref(), |some| {
                pieces.extend_from_slice(some);
                Ok(())
            })?;
            if pieces.is_empty() { Ok(0) } else { OfPoint(pieces).settle(job, flows, point, sightings) }
        };
        self.0.into_iter().enumerate().map(settle).collect()
    }
}

impl OfPoint {
    /// Settles the sightings of the point. Returns how many were taken away.
    fn settle(
        mut self,
        job: &Job,
        flows: &Flows,
        point: usize,
        sightings: &mut Sightings,
    ) -> Result<u64, ScratchError> {
        let bound = job.guard_nanos.max(LEAST_BOUND_NANOS);
        let mut removed = vec![false; self.0.len()];
        for (is_inner, level) in [(false, Piece::outer as Level), (true, Piece::inner)] {
            let parts = self.parts(flows, job.key.0, &removed, level);
            Joiner { job, flows, bound, is_inner, pieces: &mut self.0, removed: &mut removed }.join(&parts);
        }
        let mut pieces = self.0.iter().zip(removed).peekable();
        let mut incomplete = 0;
        sightings.amend(point, |first, some| {
            let end = first + some.len();
            let mut is_changed = false;
            while let Some(&(piece, is_removed)) = pieces.peek() {
                let (from, to) = (piece.sightings.0 as usize, piece.sightings.1 as usize);
                for sighting in &mut some[from.clamp(first, end) - first..to.clamp(first, end) - first] {
                    sighting.time = if is_removed { GONE } else { piece.time };
                    piece.name(&flows.all[piece.flow as usize].key, job.key, sighting);
                    incomplete += u64::from(is_removed);
                    is_changed = true;
                }
                if to > end {
                    break;
                }
                pieces.next();
            }
            if is_changed {
                some.retain(|sighting| sighting.time != GONE);
            }
            is_changed
        })?;
        Ok(incomplete)
    }

    /// The parts of one level, by datagram name and identification: first fragments in order of time, then the others
    /// by their bytes and then time.
    fn parts(&self, flows: &Flows, key: [u8; 16], removed: &[bool], level: Level) -> Vec<Part> {
        let mut names: HashMap<FlowKey, u32, SipKey> = HashMap::with_hasher(SipKey(key));
        let mut parts = Vec::new();
        for (index, piece) in self.0.iter().enumerate().filter(|(index, _)| !removed[*index]) {
            let Some((name, part)) = level(piece, &flows.all[piece.flow as usize].key) else { continue };
            let next = names.len() as u32;
            let name = *names.entry(name).or_insert(next);
            parts.push(Part { name, piece: index as u32, ..part });
        }
        parts.sort_unstable_by_key(|part| {
            let bytes = if part.start == 0 { (0, 0) } else { (part.start, part.end) };
            (part.name, part.id, bytes, part.time, part.piece)
        });
        parts
    }
}

/// A fragment as part of something, which has a name.
type Level = fn(&Piece, &FlowKey) -> Option<(FlowKey, Part)>;

/// The time of a sighting that is about to be taken away.
const GONE: i64 = i64::MIN;
