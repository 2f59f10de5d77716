//! Calls to the coordinator.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use lastseen_proto::v1::analysis_service_client::AnalysisServiceClient;
use lastseen_proto::v1::audit_service_client::AuditServiceClient;
use lastseen_proto::v1::capture_service_client::CaptureServiceClient;
use lastseen_proto::v1::fleet_service_client::FleetServiceClient;
use lastseen_proto::v1::probe_service_client::ProbeServiceClient;
use lastseen_runtime::client;
use lastseen_runtime::telemetry;
use lastseen_runtime::tls::Pki;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::cli::Global;

/// A call that takes longer has failed.
const CALL: Duration = Duration::from_mins(1);
/// The same for calls that may have to correlate a capture first.
const ANALYSIS: Duration = Duration::from_mins(10);
/// Reports of a thousand sources are long.
const ANSWER_BYTES: usize = 64 << 20;
/// Another coordinator answers for one that is gone within this time.
const TAKE_OVER: Duration = Duration::from_secs(30);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(500);

/// A connection to the coordinator.
#[derive(Clone, Debug)]
pub struct Fabric {
    server: String,
    channel: Channel,
}

impl Fabric {
    /// Connects as the global flags say.
    pub async fn connect(global: &Global) -> anyhow::Result<Self> {
        let pki = Pki::open(pki_dir(global)?)?;
        let channel = client::connect(&global.server, &pki).await?;
        Ok(Self { server: global.server.clone(), channel })
    }

    /// Nodes.
    pub fn fleet(&self) -> FleetServiceClient<Channel> {
        FleetServiceClient::new(self.channel.clone())
    }

    /// Capture jobs.
    pub fn captures(&self) -> CaptureServiceClient<Channel> {
        CaptureServiceClient::new(self.channel.clone())
    }

    /// Reports.
    pub fn analysis(&self) -> AnalysisServiceClient<Channel> {
        AnalysisServiceClient::new(self.channel.clone())
    }

    /// Probes.
    pub fn probes(&self) -> ProbeServiceClient<Channel> {
        ProbeServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES)
    }

    /// Who did what.
    pub fn audit(&self) -> AuditServiceClient<Channel> {
        AuditServiceClient::new(self.channel.clone())
    }

    /// Makes a call that does no harm when it is made again, at the next coordinator if this one is gone, as long as
    /// one may take to take over.
    pub async fn again<T, F, A>(&self, mut call: F) -> Result<T, Status>
    where
        F: FnMut() -> A,
        A: Future<Output = Result<T, Status>>,
    {
        let began = Instant::now();
        loop {
            match call().await {
                Err(status)
                    if client::is_gone(&status) && self.has_others() && began.elapsed() < TAKE_OVER =>
                {
                    tracing::debug!(%status, "asking again");
                    tokio::time::sleep(PAUSE).await;
                }
                done => return done,
            }
        }
    }

    fn has_others(&self) -> bool {
        self.server.contains(',')
    }

    /// What a failed call means, in one line.
    pub fn failed(&self, status: &Status) -> anyhow::Error {
        let said = client::explain_status(status);
        match status.code() {
            Code::Unavailable => anyhow!("coordinator {}: {said}", self.server),
            Code::DeadlineExceeded => anyhow!("coordinator {}: no answer in time; try again", self.server),
            Code::Unimplemented => {
                anyhow!("coordinator {}: does not know this call; it is older than this ctl", self.server)
            }
            code if said.is_empty() => anyhow!("coordinator {}: {}", self.server, code.description()),
            _ => anyhow!(said),
        }
    }
}

/// The directory with this caller's identity.
pub fn pki_dir(global: &Global) -> anyhow::Result<&std::path::Path> {
    global
        .pki_dir
        .as_deref()
        .context("pki-dir: not set; give --pki-dir or LASTSEEN_PKI_DIR, a directory made by `ctl pki issue`")
}

/// A request that must be answered soon.
pub fn request<T>(message: T) -> Request<T> {
    with_timeout(message, CALL)
}

/// A request that may make the coordinator correlate a capture first.
pub fn analysis_request<T>(message: T) -> Request<T> {
    with_timeout(message, ANALYSIS)
}

fn with_timeout<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    telemetry::inject(request.metadata_mut());
    request
}

/// Fetches page after page until the last, or until there are `limit` items. `fetch` takes the page size (0: as the
/// server likes) and the token.
pub async fn all_pages<T, F, A>(limit: Option<usize>, mut fetch: F) -> anyhow::Result<Vec<T>>
where
    F: FnMut(u32, String) -> A,
    A: Future<Output = anyhow::Result<(Vec<T>, String)>>,
{
    let (mut items, mut token) = (Vec::new(), String::new());
    loop {
        // A page may be smaller than asked for; 1,000 is the least that every list call allows.
        let size = limit.map_or(0, |limit| (limit - items.len()).min(1_000) as u32);
        let (page, next) = fetch(size, token.clone()).await?;
        items.extend(page);
        if let Some(limit) = limit.filter(|limit| items.len() >= *limit) {
            items.truncate(limit);
            return Ok(items);
        }
        if next.is_empty() {
            return Ok(items);
        }
        if next == token {
            bail!("the coordinator sends the same page for ever (token {next:?}); report this");
        }
        token = next;
    }
}
