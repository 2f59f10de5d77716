//! Correlation runs: the stored batches of a capture through the correlator.

mod job;
mod node_clock;
mod replay;
mod run;
mod translated;

use std::path::PathBuf;
use std::sync::Arc;

use lastseen_correlate::Outcome;
use lastseen_correlate::report::FlowRecord;
use lastseen_proto::{convert, v1};
use lastseen_runtime::telemetry::TRACE;
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, info_span};

pub(crate) use self::job::read_topology;
use self::run::Means;
use crate::error::Error;
use crate::files::Files;
use crate::limits;
use crate::metrics::Metrics;
use crate::model::Capture;
use crate::store::{Results, Store, StoreError};
use crate::time::Clock;

#[doc(hidden)]
pub use replay::replay;

/// Runs at once. Each takes a core and memory with the number of observations.
const RUNS: usize = 1;
/// Room that a response needs beside the report.
const RESPONSE_OVERHEAD_BYTES: usize = 64 << 10;

const BUSY: &str = "another correlation is running; try again in a moment";
const BROKEN: &str = "correlation did not finish twice; give the coordinator more memory, or capture again with a \
                      shorter window or a narrower filter";

/// Makes correlation runs.
#[derive(Clone)]
pub struct Analysis {
    store: Arc<dyn Store>,
    files: Files,
    scratch: PathBuf,
    clock: Clock,
    metrics: Metrics,
    runs: Arc<Semaphore>,
    memory_bytes: u64,
}

/// What a run found, as it is stored and sent.
#[derive(Clone, Debug)]
pub struct Found {
    /// The report, never larger than a message.
    pub report: v1::DiffReport,
    /// Flow records.
    pub flows: Vec<FlowRecord>,
    /// Lost packets.
    pub lost: Vec<v1::LostPacket>,
}

impl Analysis {
    /// Reads observation files from `files`; `scratch` is a directory for what memory has no room for.
    pub fn new(
        store: Arc<dyn Store>,
        files: Files,
        scratch: PathBuf,
        clock: Clock,
        metrics: Metrics,
    ) -> Self {
        let runs = Arc::new(Semaphore::new(RUNS));
        Self { store, files, scratch, clock, metrics, runs, memory_bytes: limits::CORRELATION_MEMORY_BYTES }
    }

    /// Holds the observations of a run in at most `bytes` of memory, and the rest in a file without a name in the scratch
    /// directory.
    #[must_use]
    pub fn within(self, bytes: u64) -> Self {
        Self { memory_bytes: bytes, ..self }
    }

    /// The same for who may write only as long as `store` lets it.
    #[must_use]
    pub fn on(&self, store: Arc<dyn Store>) -> Self {
        Self { store, ..self.clone() }
    }

    /// Matches what is stored so far of a capture that still runs: only what was first seen before `until_nanos` is
    /// judged, and the report says that it is partial. It takes what is free and does not queue: those who look on must
    /// not hold up the runs that end captures.
    pub async fn partial(&self, capture: &Capture, until_nanos: i64) -> Result<Found, Error> {
        let free = self.runs.clone().try_acquire_owned();
        let turn = free.map_err(|_| Error::Exhausted(BUSY.to_owned()))?;
        self.matched(capture, Some(until_nanos), turn).await
    }

    /// The run that ends a capture. It counts as started until its result is there, so that one that kills the process,
    /// say for want of memory, is not repeated forever; what `is_counted` already is made again.
    pub async fn conclude(
        &self,
        capture: &Capture,
        is_counted: &mut bool,
        stopping: &CancellationToken,
    ) -> Result<Found, Error> {
        let turn = stopping.run_until_cancelled(self.runs.clone().acquire_owned()).await;
        let turn = turn.ok_or(Error::Stopping)?.map_err(|_| Error::Stopping)?;
        if !*is_counted {
            let runs = match self.store.add_runs(&capture.id, 1).await {
                Err(StoreError::Uncertain(_)) => 0,
                runs => runs?,
            };
            if runs > limits::BROKEN_RUNS {
                return Err(Error::Exhausted(BROKEN.to_owned()));
            }
            *is_counted = true;
        }
        let matching = stopping.run_until_cancelled(self.matched(capture, None, turn));
        matching.await.unwrap_or(Err(Error::Stopping))
    }

    /// A run that was called off does not count.
    pub async fn call_off(&self, capture: &Capture) -> Result<(), Error> {
        self.store.add_runs(&capture.id, -1).await?;
        Ok(())
    }

    /// The turn goes with the work: a caller who leaves does not end what a thread has begun.
    async fn matched(
        &self,
        capture: &Capture,
        until_nanos: Option<i64>,
        turn: OwnedSemaphorePermit,
    ) -> Result<Found, Error> {
        let started = self.clock.now();
        let loading = async {
            let topologies = self.store.topologies(&capture.id).await?;
            let translations = self.store.translations(&capture.id).await?;
            let known = self.store.nodes().await?;
            Ok::<_, Error>((topologies, translations, known, self.store.batches(&capture.id).await?))
        };
        let loaded = loading.instrument(info_span!(target: TRACE, "load")).await;
        let (topologies, translations, known, batches) = loaded?;
        let span = Span::current();
        let (capture, files, scratch) = (capture.clone(), self.files.clone(), self.scratch.clone());
        let memory = self.memory_bytes;
        let outcome = tokio::task::spawn_blocking(move || {
            let (_one_of_few, _entered) = (turn, span.enter());
            let mut prepared = job::prepare(&capture, &topologies, &known, &batches, until_nanos)?;
            translated::add(&mut prepared.job, &translations);
            let means = Means { memory, scratch, without: None };
            run::run(prepared, &capture, &batches, &files, means)
        })
        .await
        .map_err(|e| Error::Internal(format!("the correlation run broke off: {e}")))??;
        self.metrics.correlation_seconds.observe((self.clock.now() - started) as f64 / 1e9);
        Ok(Found::new(outcome))
    }
}

impl Found {
    fn new(outcome: Outcome) -> Self {
        let mut report = v1::DiffReport::from(outcome.report);
        while report.encoded_len() + RESPONSE_OVERHEAD_BYTES > limits::MESSAGE_BYTES
            && !report.paths.is_empty()
        {
            let kept = report.paths.len() / 2;
            report.omitted_paths += (report.paths.len() - kept) as u64;
            report.paths.truncate(kept);
        }
        Self {
            report,
            flows: outcome.flows,
            lost: outcome.lost.into_iter().map(convert::lost_packet).collect(),
        }
    }

    /// For the store.
    pub fn into_results(self) -> Results {
        Results {
            report: self.report.encode_to_vec(),
            flows: self.flows,
            lost: self.lost.iter().map(Message::encode_to_vec).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use futures_util::FutureExt;
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;
    use crate::model::{BatchKey, CheckedBatch, ClockFix, Point, PointKey, SECOND, Window};
    use crate::store::{Location, Placed, SqliteStore};

    fn capture() -> Capture {
        let window = Some(Window { start_nanos: 0, end_nanos: 10 * SECOND });
        Capture { window, ..Capture::sample(&["node-a"]) }
    }

    async fn analysis(home: &std::path::Path) -> Analysis {
        let store = SqliteStore::open(None, home).await.unwrap();
        store.save_capture(&capture()).await.unwrap();
        let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
        let files = Files::in_directory(home.to_owned());
        Analysis::new(Arc::new(store), files, home.to_owned(), Clock::start(), metrics)
    }

    #[tokio::test]
    async fn onlookers_do_not_hold_up_the_run_that_ends_a_capture() {
        let home = tempfile::tempdir().unwrap();
        let analysis = analysis(home.path()).await;
        let (capture, mut is_counted, stopping) = (capture(), false, CancellationToken::new());
        let under_way = analysis.runs.acquire().await.unwrap();
        let refused = analysis.partial(&capture, SECOND).await.unwrap_err();
        assert!(matches!(refused, Error::Exhausted(_)), "{refused}");
        let mut ending = std::pin::pin!(analysis.conclude(&capture, &mut is_counted, &stopping));
        assert!(ending.as_mut().now_or_never().is_none(), "it waits for its turn");
        drop(under_way);
        let refused = analysis.partial(&capture, SECOND).await.unwrap_err();
        assert!(matches!(refused, Error::Exhausted(_)), "the next turn is the ending capture's: {refused}");
        assert!(!ending.await.unwrap().report.partial);
        assert!(analysis.partial(&capture, SECOND).await.unwrap().report.partial);
    }

    /// Stores a batch of the capture's node in a pipe in place of its observation file: who reads it waits.
    async fn pipe(analysis: &Analysis, sequence: u64) -> PathBuf {
        let key = PointKey { netns: String::new(), interface: "eth0".into(), index: 2, direction: 1 };
        let batch = CheckedBatch {
            key: BatchKey {
                capture: capture().id,
                node: "node-a".into(),
                point: key.clone(),
                incarnation: 1,
                sequence,
            },
            point: Point { key, kind: 5, mtu: 1500, gso_known: true },
            bytes: "batch".into(),
            checksum: 0,
            rows: 1,
            slice_nanos: [0; 2],
        };
        let location = Location { file: format!("{sequence}.obs"), position: 8, length: 5, checksum: 0 };
        let directory = analysis.scratch.join(capture().id);
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join(&location.file);
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        analysis.store.commit_batches(&[Placed { batch, location }]).await.unwrap();
        path
    }

    /// Returns once a reader waits for the pipe, and lets it go on (fifo(7)).
    async fn let_reader_on(pipe: PathBuf) {
        let opened = tokio::task::spawn_blocking(|| File::options().write(true).open(pipe));
        opened.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_caller_who_leaves_keeps_the_turn_taken_until_its_run_ends() {
        let home = tempfile::tempdir().unwrap();
        let analysis = analysis(home.path()).await;
        let mut capture = capture();
        capture.parts[0].clock_start = Some(ClockFix::sample());
        let (begun, going_on) = (pipe(&analysis, 0).await, pipe(&analysis, 1).await);
        let caller = analysis.clone();
        let calling = tokio::spawn(async move { caller.partial(&capture, SECOND).await });
        let_reader_on(begun).await;
        calling.abort();
        assert!(calling.await.unwrap_err().is_cancelled());
        let is_free = analysis.runs.try_acquire().is_ok();
        let_reader_on(going_on).await;
        assert!(!is_free, "a second run could start beside the first");
        drop(analysis.runs.acquire().await.unwrap());
    }
}
