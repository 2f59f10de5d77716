//! Whether the coordinator can do its work now: its database answers, and observations can be written.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lastseen_proto::v1::agent_service_server::SERVICE_NAME as AGENTS;
use lastseen_proto::v1::analysis_service_server::SERVICE_NAME as ANALYSIS;
use lastseen_proto::v1::capture_service_server::SERVICE_NAME as CAPTURES;
use lastseen_proto::v1::fleet_service_server::SERVICE_NAME as FLEET;
use nix::sys::statvfs::statvfs;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::limits;
use crate::store::{self, Store};

/// How old an answer may be.
const FRESH: Duration = Duration::from_secs(1);
/// Database and disk must answer within this time.
const PATIENCE: Duration = Duration::from_secs(2);
/// Services whose health is told; the empty name stands for the server (grpc.health.v1).
const SERVICES: [&str; 5] = ["", AGENTS, CAPTURES, FLEET, ANALYSIS];

/// Ready, or why not and what to do: one line.
type Answer = Result<(), String>;

/// Cheap to clone; clones share their answers.
#[derive(Clone)]
pub(crate) struct Readiness {
    store: Arc<dyn Store>,
    directory: Arc<Path>,
    stopping: CancellationToken,
    /// Held while somebody looks, so that many probes are one.
    last: Arc<Mutex<Last>>,
}

#[derive(Default)]
struct Last {
    answer: Option<(Instant, Answer)>,
    /// A look at the disk that did not come back in time. No other is sent after it.
    stuck: Option<JoinHandle<Answer>>,
}

impl Readiness {
    /// Looks at `store` and at `directory`, where observations go.
    pub(crate) fn new(store: Arc<dyn Store>, directory: PathBuf, stopping: CancellationToken) -> Self {
        Self { store, directory: directory.into(), stopping, last: Arc::default() }
    }

    /// As it was within the last second.
    pub(crate) async fn look(&self) -> Answer {
        if self.stopping.is_cancelled() {
            return Err("the coordinator is stopping; wait for the next one".to_owned());
        }
        let mut last = self.last.lock().await;
        if let Some((at, answer)) = &last.answer
            && at.elapsed() < FRESH
        {
            return answer.clone();
        }
        let answer = match self.database().await {
            Ok(()) => self.disk(&mut last.stuck).await,
            Err(reason) => Err(reason),
        };
        last.answer = Some((Instant::now(), answer.clone()));
        answer
    }

    async fn database(&self) -> Answer {
        match timeout(PATIENCE, self.store.ping()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("{error}; look at --database-url and at the database's own log")),
            Err(_) => {
                store::gave_up();
                Err(format!(
                    "database: no answer within {} s; check that it runs, can be reached and is not overloaded",
                    PATIENCE.as_secs()
                ))
            }
        }
    }

    async fn disk(&self, stuck: &mut Option<JoinHandle<Answer>>) -> Answer {
        let directory = self.directory.clone();
        let mut looking =
            stuck.take().unwrap_or_else(|| tokio::task::spawn_blocking(move || room(&directory)));
        match timeout(PATIENCE, &mut looking).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Err(format!("--data-dir: looking at it broke off: {error}; see the log")),
            Err(_) => {
                *stuck = Some(looking);
                let directory = self.directory.display();
                Err(format!("--data-dir: {directory} does not answer; look at its disk or its file server"))
            }
        }
    }

    /// Tells it to whoever asks over gRPC, until the coordinator stops.
    pub(crate) async fn announce(self, health: HealthReporter) {
        let mut told = None;
        loop {
            let answer = self.look().await;
            if told.as_ref() != Some(&answer) {
                if !self.stopping.is_cancelled() {
                    tell(&answer, told.is_some());
                }
                let status = if answer.is_ok() { ServingStatus::Serving } else { ServingStatus::NotServing };
                for service in SERVICES {
                    health.set_service_status(service, status).await;
                }
                told = Some(answer);
            }
            if self.stopping.is_cancelled() {
                return;
            }
            let _ = timeout(FRESH, self.stopping.cancelled()).await;
        }
    }
}

fn tell(answer: &Answer, is_change: bool) {
    match answer {
        Ok(()) if is_change => tracing::info!("ready again"),
        Ok(()) => {}
        Err(reason) => tracing::warn!(reason, "not ready"),
    }
}

/// Writes a little where observations go. Blocks.
fn room(directory: &Path) -> Answer {
    let shown = directory.display();
    let written = tempfile::tempfile_in(directory).and_then(|file| {
        let page = [0; 4096];
        std::os::unix::fs::FileExt::write_all_at(&file, &page, 0)
    });
    written.map_err(|error| {
        format!("--data-dir: cannot write in {shown}: {error}; make room or mend the disk")
    })?;
    let free = statvfs(directory).map(|disk| disk.blocks_available().saturating_mul(disk.fragment_size()));
    match free {
        Ok(free) if free < limits::FREE_BYTES => Err(format!(
            "--data-dir: {free} bytes are free in {shown}, fewer than {}; delete captures or give it more room",
            limits::FREE_BYTES
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::SqliteStore;

    #[tokio::test]
    async fn a_data_directory_that_is_gone_is_named_and_one_that_is_back_is_ready() {
        let (home, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = Arc::new(SqliteStore::open(None, home.path()).await.unwrap());
        let directory = data.path().join("observations");
        let look = || Readiness::new(store.clone(), directory.clone(), CancellationToken::new());
        let error = look().look().await.unwrap_err();
        assert!(
            error.contains("--data-dir") && error.contains("observations") && error.contains("make room")
        );
        std::fs::create_dir(&directory).unwrap();
        assert_eq!(look().look().await, Ok(()));
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0, "it leaves nothing behind");
    }

    #[tokio::test]
    async fn an_answer_is_kept_for_a_second() {
        let home = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(None, home.path()).await.unwrap());
        let readiness = Readiness::new(store.clone(), home.path().to_owned(), CancellationToken::new());
        assert_eq!(readiness.look().await, Ok(()));
        store.close().await;
        assert_eq!(readiness.look().await, Ok(()));
        readiness.last.lock().await.answer.as_mut().unwrap().0 = Instant::now() - FRESH;
        let error = readiness.look().await.unwrap_err();
        assert!(error.starts_with("database") && error.contains("--database-url"), "{error}");
    }

    #[tokio::test]
    async fn a_coordinator_that_stops_is_not_ready() {
        let home = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(None, home.path()).await.unwrap());
        let stopping = CancellationToken::new();
        let readiness = Readiness::new(store, home.path().to_owned(), stopping.clone());
        assert_eq!(readiness.look().await, Ok(()));
        stopping.cancel();
        assert!(readiness.look().await.unwrap_err().contains("stopping"));
    }
}
