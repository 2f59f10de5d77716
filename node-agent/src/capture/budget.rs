//! Ring memory of a node: what all its captures may take together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Rings are not made smaller than this, unless they were asked for smaller: 256 KiB hold some 1,000 cut packets, 10 ms
/// at 100,000 packets per second.
pub const SMALLEST_RING: usize = 256 << 10;

/// The budget. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Budget {
    max: usize,
    used: Arc<AtomicUsize>,
}

/// Rings that do not fit, with sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "ring memory: {rings} rings need at least {need} bytes, and of the {max} bytes of --ring-max-bytes {used} are in \
     use; name fewer interfaces, wait for other captures to end, or give the agent a larger --ring-max-bytes"
)]
pub struct NoRoom {
    rings: usize,
    need: usize,
    max: usize,
    used: usize,
}

/// Memory of one capture's rings, given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Budget,
    rings: usize,
    ring_bytes: usize,
}

impl Budget {
    /// A budget of `max` bytes, all of it free.
    pub fn new(max: usize) -> Self {
        Self { max, used: Arc::default() }
    }

    /// Takes memory for `rings` rings of `wanted` bytes each, or of the largest half, quarter and so on that fits, down
    /// to [`SMALLEST_RING`].
    pub fn reserve(&self, rings: usize, wanted: usize) -> Result<Reservation, NoRoom> {
        let mut ring_bytes = wanted;
        let taken = self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
            ring_bytes = self.fitting(rings, wanted, used)?;
            Some(used + rings * ring_bytes)
        });
        match taken {
            Ok(_) => Ok(Reservation { budget: self.clone(), rings, ring_bytes }),
            Err(used) => {
                let need = rings.saturating_mul(wanted.min(SMALLEST_RING));
                Err(NoRoom { rings, need, max: self.max, used })
            }
        }
    }

    fn fitting(&self, rings: usize, wanted: usize, used: usize) -> Option<usize> {
        let left = self.max.saturating_sub(used);
        let is_large_enough = |bytes: &usize| *bytes == wanted || *bytes >= SMALLEST_RING;
        let sizes = std::iter::successors(Some(wanted), |bytes| Some(bytes / 2)).take_while(is_large_enough);
        sizes.into_iter().find(|bytes| rings.checked_mul(*bytes).is_some_and(|need| need <= left))
    }
}

impl Reservation {
    /// Size of each ring in bytes.
    pub fn ring_bytes(&self) -> usize {
        self.ring_bytes
    }

    /// Gives back what more than `rings` rings would need: some could not be opened.
    pub fn keep(&mut self, rings: usize) {
        let spare = self.rings.saturating_sub(rings);
        self.rings -= spare;
        self.budget.used.fetch_sub(spare * self.ring_bytes, Ordering::AcqRel);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.keep(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn rings_shrink_by_halves_to_what_is_left() {
        let budget = Budget::new(16 * MIB);
        let first = budget.reserve(2, 4 * MIB).unwrap();
        assert_eq!(first.ring_bytes(), 4 * MIB);
        let second = budget.reserve(6, 4 * MIB).unwrap();
        assert_eq!(second.ring_bytes(), MIB);
        let third = budget.reserve(8, 4 * MIB).unwrap();
        assert_eq!(third.ring_bytes(), MIB / 4);
        let refused = budget.reserve(2, 4 * MIB).unwrap_err();
        assert_eq!(refused, NoRoom { rings: 2, need: MIB / 2, max: 16 * MIB, used: 16 * MIB });
        drop(first);
        assert_eq!(budget.reserve(2, 4 * MIB).unwrap().ring_bytes(), 4 * MIB);
    }

    #[test]
    fn rings_wanted_small_stay_as_they_are() {
        let budget = Budget::new(MIB);
        assert_eq!(budget.reserve(4, 64 << 10).unwrap().ring_bytes(), 64 << 10);
        assert!(budget.reserve(17, 64 << 10).is_err());
        assert_eq!(budget.reserve(1, 3 * MIB).unwrap().ring_bytes(), 3 * MIB / 4);
    }

    #[test]
    fn what_was_not_opened_is_given_back_once() {
        let budget = Budget::new(4 * MIB);
        let mut reserved = budget.reserve(4, MIB).unwrap();
        reserved.keep(1);
        assert_eq!(budget.reserve(3, MIB).unwrap().ring_bytes(), MIB);
        drop(reserved);
        assert_eq!(budget.used.load(Ordering::Acquire), 0);
    }
}
