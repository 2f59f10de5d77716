//! What the coordinator is to hear of probes, kept until it has it.

use std::collections::BTreeMap;
use std::sync::Arc;

use lastseen_proto::place::Place;
use tokio::sync::watch;

use super::report::Report;

/// Reports that wait to be stored, of all probes. Beyond that the oldest go.
const REPORTS: usize = 1_024;
/// Attempts in them, some hundred bytes each.
const ATTEMPTS: usize = 100_000;
/// Bytes of rows in them.
const ROW_BYTES: usize = 64 << 20;

/// Where one source's part of a probe is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Probe id.
    pub probe: String,
    /// Whence.
    pub place: Place,
    /// Why it cannot be done; absent: it is armed.
    pub failure: Option<String>,
}

/// News, each with the number of its change.
#[derive(Debug, Default)]
pub struct Posted {
    changes: u64,
    statuses: BTreeMap<(String, Place), (u64, Arc<Status>)>,
    reports: BTreeMap<u64, Arc<Report>>,
    /// In all of them.
    attempts: usize,
    row_bytes: usize,
    dropped: u64,
}

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Of a part.
    Status(Arc<Status>),
    /// Of a run.
    Report(Arc<Report>),
}

impl Posted {
    fn keep(&mut self, is_kept: impl Fn(&Report) -> bool) {
        self.reports.retain(|_, report| is_kept(report));
        self.attempts = self.reports.values().map(|report| report.attempts()).sum();
        self.row_bytes = self.reports.values().map(|report| report.row_bytes()).sum();
    }

    /// What came after change number `seen`, oldest first, at most `most`, and the number of the last of it.
    pub fn since(&self, seen: u64, most: usize) -> (Vec<News>, u64) {
        let statuses = self.statuses.values().filter(|(change, _)| *change > seen);
        let statuses = statuses.map(|(change, status)| (*change, News::Status(status.clone())));
        let reports = self.reports.range(seen + 1..);
        let reports = reports.map(|(change, report)| (*change, News::Report(report.clone())));
        let mut news: Vec<_> = statuses.chain(reports).collect();
        news.sort_by_key(|(change, _)| *change);
        news.truncate(most);
        let last = news.last().map_or(seen, |(change, _)| *change);
        (news.into_iter().map(|(_, news)| news).collect(), last)
    }
}

/// Where probes post. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Board(Arc<watch::Sender<Posted>>);

impl Default for Board {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Posted::default())))
    }
}

impl Board {
    /// Replaces the status of a part.
    pub fn post(&self, status: Status) {
        self.0.send_modify(|posted| {
            posted.changes += 1;
            let key = (status.probe.clone(), status.place.clone());
            posted.statuses.insert(key, (posted.changes, Arc::new(status)));
        });
    }

    /// Tells the statuses of a probe once more.
    pub fn repeat(&self, probe: &str) {
        self.0.send_modify(|posted| {
            for (_, (change, _)) in posted.statuses.iter_mut().filter(|((id, _), _)| id == probe) {
                posted.changes += 1;
                *change = posted.changes;
            }
        });
    }

    /// Adds a report.
    pub fn report(&self, report: Report) {
        self.0.send_modify(|posted| {
            posted.changes += 1;
            posted.attempts += report.attempts();
            posted.row_bytes += report.row_bytes();
            posted.reports.insert(posted.changes, Arc::new(report));
            let is_full = |posted: &Posted| {
                posted.reports.len() > REPORTS || posted.attempts > ATTEMPTS || posted.row_bytes > ROW_BYTES
            };
            while is_full(posted) {
                let Some((_, oldest)) = posted.reports.pop_first() else { break };
                posted.attempts -= oldest.attempts();
                posted.row_bytes -= oldest.row_bytes();
                posted.dropped += 1;
            }
        });
    }

    /// A report is with the coordinator.
    pub fn stored(&self, probe: &str, run: u64, place: &Place) {
        let is_it = |report: &Report| report.probe == probe && report.run == run && report.place == *place;
        self.quietly(|posted| posted.keep(|report| !is_it(report)));
    }

    /// A probe is over: nobody wants to hear of it.
    pub fn forget(&self, probe: &str) {
        self.quietly(|posted| {
            posted.statuses.retain(|(id, _), _| id != probe);
            posted.keep(|report| report.probe != probe);
        });
    }

    /// Whether reports of a probe wait to be stored.
    pub fn has_reports(&self, probe: &str) -> bool {
        self.0.borrow().reports.values().any(|report| report.probe == probe)
    }

    /// Whether no report waits to be stored.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().reports.is_empty()
    }

    /// Reports that were dropped because too many waited.
    pub fn dropped(&self) -> u64 {
        self.0.borrow().dropped
    }

    /// Follows changes.
    pub fn subscribe(&self) -> watch::Receiver<Posted> {
        self.0.subscribe()
    }

    /// Nothing that is to be told.
    fn quietly(&self, change: impl FnOnce(&mut Posted)) {
        self.0.send_if_modified(|posted| {
            change(posted);
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use lastseen_proto::table::NodeTable;

    use super::super::report::{Finding, Found, Table};
    use super::*;

    fn report(probe: &str, run: u64) -> Report {
        Report { probe: probe.into(), run, place: Place::Host, start: 0, results: Vec::new() }
    }

    fn runs(board: &Board, seen: u64) -> Vec<u64> {
        let run = |news| match news {
            News::Report(report) => Some(report.run),
            News::Status(_) => None,
        };
        board.subscribe().borrow().since(seen, usize::MAX).0.into_iter().filter_map(run).collect()
    }

    #[test]
    fn reports_are_told_again_until_they_are_stored() {
        let board = Board::default();
        board.post(Status { probe: "p-1".into(), place: Place::Host, failure: None });
        board.report(report("p-1", 0));
        board.report(report("p-1", 1));
        let (news, seen) = board.subscribe().borrow().since(0, usize::MAX);
        assert!(matches!(news[..], [News::Status(_), News::Report(_), News::Report(_)]));
        assert_eq!(board.subscribe().borrow().since(seen, usize::MAX).0, []);
        board.stored("p-1", 0, &Place::Host);
        board.stored("p-1", 1, &Place::Named("blue".into()));
        assert_eq!(runs(&board, 0), [1]);
        assert!(board.has_reports("p-1") && !board.has_reports("p-2"));
        board.forget("p-1");
        assert_eq!(board.subscribe().borrow().since(0, usize::MAX).0, []);
    }

    #[test]
    fn too_many_reports_are_dropped_and_counted() {
        let board = Board::default();
        let extra = 3;
        for run in 0..REPORTS as u64 + extra {
            board.report(report("p-1", run));
        }
        assert_eq!(board.dropped(), extra);
        assert_eq!(runs(&board, 0)[0], extra, "the oldest go");
    }

    #[test]
    fn rows_of_tables_take_no_more_memory_than_they_may() {
        let board = Board::default();
        let rows = vec![vec!["x".repeat(100); 10]; 1_000];
        let table = Table {
            table: NodeTable::Routes,
            columns: &["route"; 10],
            rows,
            total: 1_000,
            notes: Vec::new(),
        };
        let found =
            Found { finding: Some(Finding::Table(table)), ..Found::nothing("routes".into(), String::new()) };
        let with_rows = |run| Report { results: vec![found.clone()], ..report("p-1", run) };
        let fit = ROW_BYTES / with_rows(0).row_bytes();
        for run in 0..fit as u64 + 2 {
            board.report(with_rows(run));
        }
        assert_eq!((board.dropped(), runs(&board, 0).len()), (2, fit));
        board.forget("p-1");
        board.report(with_rows(0));
        assert_eq!(board.dropped(), 2, "there is room again");
    }
}
