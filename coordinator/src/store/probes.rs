//! Probes and what they found.

use super::{Cursor, StoreError};
use crate::limits;
use crate::probes::model::{News, Probe};

/// Encoded reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reports {
    /// In their order.
    pub reports: Vec<Vec<u8>>,
    /// There are more than were asked for.
    pub is_cut: bool,
}

/// What a report is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// From one run to the next; absent: there is one.
    pub every_nanos: Option<i64>,
    /// Begin of the first run.
    pub start_nanos: i64,
    /// Nothing follows since.
    pub ended_at_nanos: Option<i64>,
    /// Sources.
    pub parts: u64,
}

impl Head {
    /// Whether a run has begun, by clocks that may differ a little.
    pub fn may_report(&self, run: u64, now_nanos: i64) -> bool {
        const APART_NANOS: i64 = 1_000_000_000;
        let until = self.ended_at_nanos.map_or(now_nanos, |ended| ended.min(now_nanos));
        let since = until.saturating_sub(self.start_nanos).saturating_add(APART_NANOS);
        let begin = |every: i64| i64::try_from(run).ok()?.checked_mul(every);
        match self.every_nanos {
            None => run == 0,
            Some(every) => begin(every).is_some_and(|begin| begin <= since),
        }
    }

    /// Runs whose reports are kept: fewer where there are many sources, or where a report has many `bytes`.
    pub fn kept_runs(&self, bytes: usize) -> u64 {
        let of_each = |most: u64| most / self.parts.max(1);
        let by_bytes = of_each(limits::PROBE_KEPT_BYTES) / (bytes as u64).max(1);
        of_each(limits::PROBE_REPORTS).min(by_bytes).clamp(1, limits::PROBE_RUNS)
    }
}

/// The part of a [`Store`](super::Store) that is about probes. Each call is one transaction.
#[async_trait::async_trait]
pub trait ProbeStore: Send + Sync {
    /// Writes a new probe unless `most` have not ended. The id of the one that the same `request` of the same person made
    /// before, if there is one.
    async fn create_probe(
        &self,
        probe: &Probe,
        request: Option<&str>,
        most: usize,
    ) -> Result<Option<String>, StoreError>;
    /// One probe.
    async fn probe(&self, id: &str) -> Result<Option<Probe>, StoreError>;
    /// Up to `limit` probes, newest first, from after `after`.
    async fn probes(&self, after: Option<&Cursor>, limit: u32) -> Result<Vec<Probe>, StoreError>;
    /// Probes that have not ended, oldest first.
    async fn open_probes(&self) -> Result<Vec<Probe>, StoreError>;
    /// What a probe is, without its parts.
    async fn probe_head(&self, id: &str) -> Result<Option<Head>, StoreError>;
    /// Takes in news of parts. What is there already, and what is about no part, changes nothing. Of the part's reports those
    /// of as many runs stay as it says beside them.
    async fn save_probe_news(&self, news: &[(News, u64)]) -> Result<(), StoreError>;
    /// Encoded reports of the newest `runs` runs, the newest first, each in the order of the sources; no more than `bytes`
    /// of them.
    async fn probe_reports(&self, id: &str, runs: u32, bytes: usize) -> Result<Reports, StoreError>;
    /// Nothing follows. `stopped` by this person, if by anybody: then parts that had not ended are stopped.
    async fn end_probe(&self, id: &str, at_nanos: i64, stopped: Option<&str>) -> Result<(), StoreError>;
    /// Removes the probe that ended first, if it ended before then, with all that hangs on it. False if there is none.
    async fn delete_probe(&self, ended_before_nanos: i64) -> Result<bool, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn head(every_nanos: Option<i64>, ended_at_nanos: Option<i64>, parts: u64) -> Head {
        Head { every_nanos, start_nanos: 100 * SECOND, ended_at_nanos, parts }
    }

    #[test]
    fn a_run_is_reported_once_it_has_begun_and_none_after_the_end() {
        let (once, often) = (head(None, None, 1), head(Some(10 * SECOND), None, 1));
        assert!(once.may_report(0, 0) && !once.may_report(1, 1_000 * SECOND));
        for (run, now, may) in
            [(0, 100, true), (1, 108, false), (1, 109, true), (2, 118, false), (u64::MAX, 118, false)]
        {
            assert_eq!(often.may_report(run, now * SECOND), may, "run {run} at {now} s");
        }
        let ended = head(Some(10 * SECOND), Some(125 * SECOND), 1);
        assert!(ended.may_report(2, 1_000 * SECOND) && !ended.may_report(3, 1_000 * SECOND));
    }

    #[test]
    fn of_many_sources_fewer_runs_are_kept() {
        let kept = |parts| head(None, None, parts).kept_runs(1_000);
        assert_eq!(
            [kept(0), kept(1), kept(100), kept(1_000), kept(1_000_000)],
            [1_000, 1_000, 1_000, 100, 1]
        );
    }

    #[test]
    fn of_long_reports_fewer_runs_are_kept() {
        let kept = |parts, bytes| head(None, None, parts).kept_runs(bytes);
        let longest = limits::PROBE_REPORT_BYTES;
        assert_eq!(
            [kept(1, 0), kept(1, longest), kept(32, longest), kept(10_000, longest)],
            [1_000, 1_000, 128, 1]
        );
        assert_eq!(kept(32, longest) * 32 * longest as u64, limits::PROBE_KEPT_BYTES);
    }
}
