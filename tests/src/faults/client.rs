//! What an operator asks of a coordinator that may be gone at any moment.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use lastseen_proto::v1;
use lastseen_proto::v1::analysis_service_client::AnalysisServiceClient;
use lastseen_proto::v1::capture_service_client::CaptureServiceClient;
use lastseen_proto::v1::fleet_service_client::FleetServiceClient;
use lastseen_proto::v1::probe_service_client::ProbeServiceClient;
use lastseen_runtime::client::{connect, is_gone};
use lastseen_runtime::tls::Pki;
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;
use tonic::transport::Channel;

use crate::scripted::script;

/// What does not happen within this time does not happen.
pub const PATIENCE: Duration = Duration::from_mins(2);
/// Between the first two looks; each wait is twice the one before, up to [`LONGEST_INTERVAL`].
const INTERVAL: Duration = Duration::from_millis(20);
/// Looks must not keep from its work what they look at.
const LONGEST_INTERVAL: Duration = Duration::from_millis(320);
/// Of a probe with many reports.
const ANSWER_BYTES: usize = 64 << 20;
/// A call that gets no answer is made again.
const CALL: Duration = Duration::from_secs(10);

/// An operator's calls, each on a connection of its own.
#[derive(Clone)]
pub struct Client {
    /// As `ctl` takes them.
    servers: String,
    operator: Pki,
}

impl Client {
    /// Calls the first of these servers that answers.
    pub fn new(servers: String, operator: Pki) -> Self {
        Self { servers, operator }
    }

    async fn channel(&self) -> Result<Channel> {
        Ok(connect(&self.servers, &self.operator).await?)
    }

    /// Waits until so many nodes are ready.
    pub async fn ready(&self, wanted: usize) -> Result<()> {
        until("every agent ready", async || {
            let mut client = FleetServiceClient::new(self.channel().await?);
            let nodes = client.list_nodes(v1::ListNodesRequest {}).await?.into_inner().nodes;
            let ready = nodes.iter().filter(|node| node.state() == v1::NodeState::Ready).count();
            Ok((ready == wanted).then_some(()))
        })
        .await
    }

    /// Starts a capture on the first `nodes` nodes in this window, as `ctl` does: while the coordinator that was asked is
    /// gone, the same call is made of whichever answers.
    pub async fn start(self, nodes: usize, start: SystemTime, length: Duration) -> Result<String> {
        let spec = v1::CaptureSpec {
            nodes: (0..nodes).map(script::name).collect(),
            duration: Some(length.try_into()?),
            start_at: Some(start.into()),
            ..Default::default()
        };
        let request_id = rand::random::<u128>().to_string();
        let request = v1::StartCaptureRequest { spec: Some(spec), request_id, ..Default::default() };
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.start_as(request.clone()).await {
                Err(error) if has_no_answer(&error) && Instant::now() < deadline => {
                    sleep(LONGEST_INTERVAL).await;
                }
                answer => return answer,
            }
        }
    }

    /// Starts a capture.
    pub async fn start_as(&self, request: v1::StartCaptureRequest) -> Result<String> {
        let mut client = CaptureServiceClient::new(self.channel().await?);
        let capture = timeout(PATIENCE, client.start_capture(request)).await??.into_inner().capture;
        Ok(capture.context("no capture in the answer")?.id)
    }

    /// Waits until a capture has ended, however often the coordinator goes away meanwhile.
    pub async fn ended(&self, capture: &str) -> Result<v1::Capture> {
        until("the end of the capture", async || {
            let mut client = CaptureServiceClient::new(self.channel().await?);
            let request = v1::GetCaptureRequest { capture_id: capture.to_owned() };
            let capture = client.get_capture(request).await?.into_inner().capture.context("no capture")?;
            let is_final = capture.state() as i32 >= v1::CaptureState::Completed as i32;
            Ok(is_final.then_some(capture))
        })
        .await
    }

    /// The report of a capture.
    pub async fn report(&self, capture: &str) -> Result<v1::DiffReport> {
        until("the report", async || {
            let mut client =
                AnalysisServiceClient::new(self.channel().await?).max_decoding_message_size(1 << 30);
            let request = v1::DiffNodesRequest { capture_id: capture.to_owned(), ..Default::default() };
            Ok(Some(client.diff_nodes(request).await?.into_inner()))
        })
        .await
    }

    /// Every packet that the report calls lost.
    pub async fn lost(&self, capture: &str) -> Result<Vec<v1::LostPacket>> {
        let (mut all, mut token) = (Vec::new(), String::new());
        loop {
            let page = until("lost packets", async || self.lost_page(capture, token.clone()).await.map(Some))
                .await?;
            all.extend(page.packets);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            token = page.next_page_token;
        }
    }

    async fn lost_page(&self, capture: &str, page_token: String) -> Result<v1::ListLostPacketsResponse> {
        let mut client = AnalysisServiceClient::new(self.channel().await?).max_decoding_message_size(1 << 30);
        let request =
            v1::ListLostPacketsRequest { capture_id: capture.to_owned(), page_size: 10_000, page_token };
        Ok(client.list_lost_packets(request).await?.into_inner())
    }

    /// Runs a probe until every source has reported or failed.
    pub async fn probe(&self, spec: v1::ProbeSpec) -> Result<v1::Probe> {
        let mut client =
            ProbeServiceClient::new(self.channel().await?).max_decoding_message_size(ANSWER_BYTES);
        let request = v1::RunProbeRequest { spec: Some(spec), ..Default::default() };
        let id = client.run_probe(request).await?.into_inner().probe.context("no probe in the answer")?.id;
        let deadline = Instant::now() + PATIENCE;
        loop {
            // A list has no reports, so that looking costs little.
            let request = v1::ListProbesRequest { page_size: 1, ..Default::default() };
            let newest = client.list_probes(request).await?.into_inner().probes.pop().context("no probe")?;
            let is_final =
                |part: &v1::ProbePart| part.state() as i32 >= v1::ProbeState::ProbeCompleted as i32;
            if newest.id == id && newest.parts.iter().all(is_final) {
                let request = v1::GetProbeRequest { probe_id: id, ..Default::default() };
                return client.get_probe(request).await?.into_inner().probe.context("no probe");
            }
            if Instant::now() > deadline {
                bail!("probe {id} has not ended: {:?}", newest.parts);
            }
            sleep(INTERVAL).await;
        }
    }

    /// Removes a capture and all that hangs on it.
    pub async fn delete(&self, capture: &str) -> Result<()> {
        let mut client = CaptureServiceClient::new(self.channel().await?);
        client.delete_capture(v1::DeleteCaptureRequest { capture_id: capture.to_owned() }).await?;
        Ok(())
    }
}

/// Whether the coordinator was not reached, or went away before it answered.
fn has_no_answer(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Status>().is_none_or(is_gone)
}

/// Asks again until there is an answer. Errors count as "not yet": programs may be starting.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let (deadline, mut interval) = (Instant::now() + PATIENCE, INTERVAL);
    loop {
        let answer = timeout(CALL, ask()).await.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer")));
        if let Ok(Some(found)) = answer {
            return Ok(found);
        }
        if Instant::now() > deadline {
            let last =
                answer.err().map(|error| format!("; the last answer was {error:#}")).unwrap_or_default();
            bail!("{what}: not within {PATIENCE:?}{last}");
        }
        sleep(interval).await;
        interval = LONGEST_INTERVAL.min(interval * 2);
    }
}
