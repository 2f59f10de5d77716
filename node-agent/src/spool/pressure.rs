//! Recording less while the spool fills, so that it lasts longer than it would.

use std::sync::atomic::{AtomicU32, Ordering};

/// The spool's limit in parts.
pub(super) const PARTS: u64 = 16;
/// From here on less is recorded.
const HIGH: u64 = 8;
/// Below this everything is again.
const LOW: u64 = 4;
/// Parts from one halving to the next.
const STEP: u64 = 2;

/// By how many halvings less is to be recorded: one from half full on, one more with every eighth that fills all the
/// same, none again below a quarter.
#[derive(Default)]
pub(super) struct Pressure(AtomicU32);

impl Pressure {
    /// The spool is `parts` of [`PARTS`] full.
    pub(super) fn update(&self, parts: u64) -> u32 {
        let wanted = parts.min(PARTS - 1).checked_sub(HIGH).map_or(0, |above| 1 + (above / STEP) as u32);
        let next = |now: u32| (parts >= LOW).then(|| now.max(wanted)).or(Some(0));
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_default();
        let now = self.halvings();
        if now != before {
            tell(now);
        }
        now
    }

    pub(super) fn halvings(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

fn tell(halvings: u32) {
    if halvings == 0 {
        tracing::info!("the spool has room again; captures record as they were asked to");
    } else {
        let one_in = 1 << halvings;
        tracing::warn!(
            one_in,
            "the spool fills; captures record one in so many of the packets they were asked for"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_is_recorded_step_by_step_and_everything_again_only_far_below() {
        let pressure = Pressure::default();
        let found = [0, 7, 8, 9, 10, 9, 13, 16, 12, 7, 4, 3, 5, 7, 8].map(|parts| pressure.update(parts));
        assert_eq!(found, [0, 0, 1, 1, 2, 2, 3, 4, 4, 4, 4, 0, 0, 0, 1]);
    }
}
