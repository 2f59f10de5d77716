//! The control stream: one connection to one of the coordinators at a time, renewed whenever it breaks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lastseen_proto::limits::MESSAGE_BYTES;
use lastseen_proto::v1::agent_service_client::AgentServiceClient;
use lastseen_runtime::client::{connect, explain_status};
use lastseen_runtime::tls::Pki;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::job::{Context, Jobs};
use crate::probe::Probes;
use crate::publish::stream::publish;
use crate::retry::{Retry, Trouble};
use crate::session::{Ended, Session};

/// How patient an agent is.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Delay before the first new try.
    pub first: Duration,
    /// Delays between tries grow up to this, and a random share on top.
    pub longest: Duration,
    /// A session that lasted this long was a good one: delays begin anew after it.
    pub steady: Duration,
    /// A coordinator that refused us changes its mind only when someone acts.
    pub refused: Duration,
    /// What can be finished is finished within this time after the request to stop, whatever it is.
    pub grace: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(200),
            longest: Duration::from_secs(10),
            steady: Duration::from_secs(10),
            refused: Duration::from_secs(15),
            // Of the ten seconds a user is promised, one is for the end of the process itself.
            grace: Duration::from_secs(9),
        }
    }
}

/// How often a stopping agent without a connection looks whether its jobs have ended.
const IDLE_CHECK: Duration = Duration::from_millis(50);

/// Keeps the agent connected.
pub struct Control {
    /// What jobs need, and the session too.
    pub context: Context,
    /// Who the agent is and whom it trusts.
    pub pki: Pki,
    /// Coordinators as given, `host:port`.
    pub coordinators: Vec<String>,
    /// True while registered with a coordinator.
    pub connected: Arc<AtomicBool>,
    /// When it tries again and when it gives up.
    pub pace: Pace,
}

impl Control {
    /// Runs until `shutdown`, and then until everything is delivered or the grace time has passed.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut jobs = Jobs::new(self.context.clone());
        let mut probes = Probes::new(self.context.probes.clone());
        let out_of_time = async {
            shutdown.cancelled().await;
            tokio::time::sleep(self.pace.grace).await;
        };
        tokio::select! {
            () = self.serve(&mut jobs, &mut probes, &shutdown) => {}
            () = out_of_time => tracing::warn!(after = ?self.pace.grace, "not everything was finished in time"),
        }
        self.keep().await;
    }

    /// What is not delivered goes to the next start, as far as the disk takes it.
    async fn keep(&self) {
        let spool = self.context.spool.clone();
        let in_memory = tokio::task::spawn_blocking(move || spool.keep()).await.unwrap_or_default();
        let (batches, bytes) = self.context.spool.waiting();
        if in_memory > 0 {
            tracing::error!(
                batches = in_memory,
                "the spool's disk does not take the last batches; they end with this process, and their points show a gap"
            );
        }
        if batches > in_memory {
            tracing::warn!(
                batches = batches - in_memory,
                bytes,
                "observations were not acknowledged; the spool keeps them, and the next start sends them"
            );
        }
    }

    /// One session after the other until `shutdown`, then the end of the jobs.
    async fn serve(&self, jobs: &mut Jobs, probes: &mut Probes, shutdown: &CancellationToken) {
        let mut retry = Retry::new(self.pace, self.coordinators.len());
        while !shutdown.is_cancelled() {
            for server in &self.coordinators {
                let outcome = self.session(server, jobs, probes, shutdown).await;
                self.context.metrics.connection_failures.inc_by(u64::from(outcome.is_err()));
                let delay = retry.delay(server, &self.context.node, outcome);
                self.context.metrics.retry_delay_seconds.set(delay.as_secs_f64());
                if shutdown.run_until_cancelled(tokio::time::sleep(delay)).await.is_none() {
                    break;
                }
            }
        }
        jobs.shutdown();
        while !jobs.is_idle() {
            tokio::time::sleep(IDLE_CHECK).await;
        }
    }

    /// One connection from beginning to end. Returns how long it was registered.
    async fn session(
        &self,
        server: &str,
        jobs: &mut Jobs,
        probes: &mut Probes,
        shutdown: &CancellationToken,
    ) -> Result<Duration, Trouble> {
        let connecting = async {
            let dialed: Vec<SocketAddr> =
                tokio::net::lookup_host(server).await.map(Iterator::collect).unwrap_or_default();
            connect(server, &self.pki).await.map(|channel| (dialed, channel))
        };
        let Some(connection) = shutdown.run_until_cancelled(connecting).await else {
            return Ok(Duration::ZERO);
        };
        let (dialed, channel) = connection.map_err(|e| Trouble::Unreachable(e.to_string()))?;
        let client = AgentServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES);
        let session =
            Session::open(client.clone(), &self.context, probes.ids(), self.pki.clone(), dialed).await?;
        tracing::info!(server, version = session.coordinator_version(), "connected");
        self.set_connected(true);
        let began = Instant::now();
        let (spool, metrics) = (self.context.spool.clone(), self.context.metrics.clone());
        let publishing = publish(client, spool, metrics, self.pace);
        let ended = tokio::select! {
            ended = session.run(jobs, probes, shutdown) => ended,
            Err(status) = publishing => Ended::Lost(explain_status(&status)),
        };
        self.set_connected(false);
        match ended {
            Ended::Stopped => tracing::info!(server, "disconnected"),
            Ended::Lost(reason) => tracing::warn!(server, reason, "connection lost; captures go on"),
            Ended::Replaced(reason) => return Err(Trouble::Replaced(reason)),
        }
        Ok(began.elapsed())
    }

    fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
        self.context.metrics.connections.inc_by(u64::from(connected));
        self.context.metrics.connected.set(i64::from(connected));
    }
}
