//! The control stream: one connection to one of the coordinators at a time, renewed whenever it breaks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lastseen_proto::v1::agent_service_client::AgentServiceClient;
use lastseen_runtime::backoff::Backoff;
use lastseen_runtime::client::{connect, explain_status};
use lastseen_runtime::tls::Pki;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::job::{Context, Jobs};
use crate::publish::stream::publish;
use crate::session::{Ended, Session};

const FIRST_DELAY: Duration = Duration::from_millis(200);
const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// A coordinator that refused us changes its mind only when someone acts.
const REFUSED_DELAY: Duration = Duration::from_secs(15);
/// What can be finished is finished within this time after the request to stop.
const GRACE: Duration = Duration::from_secs(8);
/// How often a stopping agent without a connection looks whether its jobs have ended.
const IDLE_CHECK: Duration = Duration::from_millis(50);
/// Largest message either way, in bytes.
const MAX_MESSAGE_BYTES: usize = 4 << 20;

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
}

impl Control {
    /// Runs until `shutdown`, and then until everything is delivered or the grace time has passed.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut jobs = Jobs::new(self.context.clone());
        let mut backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
        while !shutdown.is_cancelled() {
            for server in &self.coordinators {
                let delay = match self.session(server, &mut jobs, &shutdown).await {
                    Ok(()) => {
                        backoff.reset();
                        backoff.next_delay()
                    }
                    Err(Trouble::Unreachable(reason)) => {
                        let delay = backoff.next_delay();
                        tracing::warn!(server, reason, retry_in = ?delay, "not connected");
                        delay
                    }
                    Err(Trouble::Refused(reason)) => {
                        let delay = REFUSED_DELAY.max(backoff.next_delay());
                        tracing::error!(server, reason, retry_in = ?delay, "the coordinator refuses this agent");
                        delay
                    }
                };
                let woken = shutdown.run_until_cancelled(tokio::time::sleep(delay)).await.is_none();
                if woken {
                    break;
                }
            }
        }
        self.wind_up(jobs).await;
    }

    /// One connection from beginning to end.
    async fn session(
        &self,
        server: &str,
        jobs: &mut Jobs,
        shutdown: &CancellationToken,
    ) -> Result<(), Trouble> {
        let connecting = async {
            let dialed: Vec<SocketAddr> =
                tokio::net::lookup_host(server).await.map(Iterator::collect).unwrap_or_default();
            connect(server, &self.pki).await.map(|channel| (dialed, channel))
        };
        let Some(connection) = shutdown.run_until_cancelled(connecting).await else { return Ok(()) };
        let (dialed, channel) = connection.map_err(|e| Trouble::Unreachable(e.to_string()))?;
        let client = AgentServiceClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let session = Session::open(client.clone(), &self.context, dialed).await?;
        tracing::info!(server, version = session.coordinator_version(), "connected");
        self.set_connected(true);
        let publishing = publish(client, self.context.outbox.clone(), self.context.metrics.clone());
        let ended = tokio::select! {
            ended = session.run(jobs, shutdown, GRACE) => ended,
            Err(status) = publishing => Ended::Lost(explain_status(&status)),
        };
        self.set_connected(false);
        match ended {
            Ended::Stopped => tracing::info!(server, "disconnected"),
            Ended::Lost(reason) => tracing::warn!(server, reason, "connection lost; captures go on"),
        }
        Ok(())
    }

    fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
        self.context.metrics.connected.set(i64::from(connected));
    }

    async fn wind_up(&self, mut jobs: Jobs) {
        let deadline = Instant::now() + GRACE;
        jobs.shutdown();
        while !jobs.is_idle() && Instant::now() < deadline {
            tokio::time::sleep(IDLE_CHECK).await;
        }
        let (batches, bytes) = self.context.outbox.waiting();
        if batches > 0 {
            tracing::warn!(batches, bytes, "observations were not acknowledged and are lost");
        }
    }
}

/// No session.
pub(crate) enum Trouble {
    /// Try again soon.
    Unreachable(String),
    /// Someone must act first.
    Refused(String),
}

impl From<tonic::Status> for Trouble {
    fn from(status: tonic::Status) -> Self {
        let reason = explain_status(&status);
        match status.code() {
            Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::InvalidArgument => Self::Refused(reason),
            _ => Self::Unreachable(reason),
        }
    }
}
