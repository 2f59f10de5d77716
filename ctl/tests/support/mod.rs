//! A fabric for tests: an authority, identities, and a coordinator with real TLS whose answers are scripted.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lastseen_ctl::pki::{Authority, Request as Issue, Validity, store_identity};
use lastseen_proto::v1::analysis_service_server::{AnalysisService, AnalysisServiceServer};
use lastseen_proto::v1::audit_service_server::{AuditService, AuditServiceServer};
use lastseen_proto::v1::capture_service_server::{CaptureService, CaptureServiceServer};
use lastseen_proto::v1::fleet_service_server::{FleetService, FleetServiceServer};
use lastseen_proto::v1::probe_service_server::{ProbeService, ProbeServiceServer};
use lastseen_proto::v1::*;
use lastseen_runtime::identity::Role;
use lastseen_runtime::server::incoming;
use lastseen_runtime::tls::Pki;
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

/// Long enough for any machine; a test that hangs ends.
const HANG: Duration = Duration::from_mins(1);

/// What the coordinator answers.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub nodes: Vec<Node>,
    pub captures: Vec<Capture>,
    /// Answer to `StartCapture`.
    pub started: Capture,
    /// Refuses `StartCapture`.
    pub refusal: Option<String>,
    /// What each `WatchCapture` call sends before its stream ends; the last one repeats.
    pub watches: Vec<Vec<Capture>>,
    /// Keep the last stream open instead of ending it.
    pub hold: bool,
    /// Answer to `DiffNodes`, or `NOT_FOUND`.
    pub report: Option<DiffReport>,
    pub lost: Vec<LostPacket>,
    pub flows: Vec<FlowRecord>,
    pub topology: FabricTopology,
    /// Answer to `CheckStorage`.
    pub storage: CheckStorageResponse,
    /// Newest first.
    pub audit: Vec<AuditRecord>,
    /// Answer to every call about a probe.
    pub probe: Probe,
    /// What is wrong with the coordinator.
    pub notes: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Coordinator {
    script: Arc<Script>,
    asked: Arc<Mutex<Vec<StartCaptureRequest>>>,
    watched: Arc<Mutex<usize>>,
    audited: Arc<Mutex<Vec<ListAuditRequest>>>,
}

pub struct Fabric {
    pub dir: TempDir,
    pub address: SocketAddr,
    pub coordinator: Coordinator,
    authority: Authority,
}

impl Fabric {
    /// Serves on a free port of the loopback address until the runtime of the test ends.
    pub async fn serve(script: Script) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::init(&dir.path().join("ca"), "test").unwrap();
        issue(&authority, Role::Coordinator, "c", valid(), &dir.path().join("coordinator"));
        issue(&authority, Role::Operator, "op", valid(), &dir.path().join("op"));
        let pki = Pki::open(&dir.path().join("coordinator")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let coordinator = Coordinator {
            script: Arc::new(script),
            asked: Arc::default(),
            watched: Arc::default(),
            audited: Arc::default(),
        };
        let router = tonic::transport::Server::builder()
            .add_service(FleetServiceServer::new(coordinator.clone()))
            .add_service(CaptureServiceServer::new(coordinator.clone()))
            .add_service(AnalysisServiceServer::new(coordinator.clone()))
            .add_service(ProbeServiceServer::new(coordinator.clone()))
            .add_service(AuditServiceServer::new(coordinator.clone()));
        tokio::spawn(router.serve_with_incoming(incoming(listener, pki, |_| ())));
        Self { dir, address, coordinator, authority }
    }

    /// Issues another identity.
    pub fn identity(&self, role: Role, name: &str, validity: Validity) -> PathBuf {
        let dir = self.dir.path().join(name);
        issue(&self.authority, role, name, validity, &dir);
        dir
    }

    /// Runs `ctl` as the operator.
    pub async fn ctl(&self, line: &str) -> Run {
        self.ctl_as(&self.dir.path().join("op"), line).await
    }

    /// Runs `ctl` with another identity.
    pub async fn ctl_as(&self, pki: &Path, line: &str) -> Run {
        let child = self.command(pki, line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Run::of(tokio::time::timeout(HANG, child.wait_with_output()).await.unwrap().unwrap())
    }

    /// `ctl` with the operator's identity, not started.
    pub fn command(&self, pki: &Path, line: &str) -> Command {
        let mut command = ctl(line);
        command.args(["--server", &self.address.to_string(), "--pki-dir"]).arg(pki);
        command
    }

    pub fn operator(&self) -> PathBuf {
        self.dir.path().join("op")
    }
}

impl Coordinator {
    pub fn asked(&self) -> Vec<StartCaptureRequest> {
        self.asked.lock().unwrap().clone()
    }

    pub fn audited(&self) -> Vec<ListAuditRequest> {
        self.audited.lock().unwrap().clone()
    }

    pub fn watched(&self) -> usize {
        *self.watched.lock().unwrap()
    }
}

/// `ctl` with arguments split at blanks, in an environment that sets nothing for it.
pub fn ctl(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ctl"));
    command.args(line.split_whitespace()).kill_on_drop(true);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LASTSEEN_")) {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG");
    command
}

/// How a run of `ctl` ended.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Run {
    pub fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Asserts that it failed with exactly one line that contains each of `parts`.
    pub fn failed_with(&self, parts: &[&str]) {
        assert_eq!(self.code, Some(2), "{self:?}");
        let lines: Vec<&str> = self.err.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(lines.len(), 1, "{self:?}");
        for part in parts {
            assert!(lines[0].contains(part), "{part:?} is not in {self:?}");
        }
    }
}

pub fn valid() -> Validity {
    Validity::from_now(Duration::from_hours(24 * 60)).unwrap()
}

pub fn expired() -> Validity {
    let now = OffsetDateTime::now_utc();
    Validity { not_before: now - Duration::from_hours(2), not_after: now - Duration::from_hours(1) }
}

pub fn issue(authority: &Authority, role: Role, name: &str, validity: Validity, dir: &Path) {
    let leaf = authority.issue(&Issue { role, name, dns: &[], ip: &[], validity }).unwrap();
    store_identity(dir, authority, &leaf).unwrap();
}

type Answer<T> = Result<Response<T>, Status>;
type Answers<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A page of `items`, one each, with a token that is the index of the next.
fn page<T: Clone>(items: &[T], token: &str) -> (Vec<T>, String) {
    let at = token.parse().unwrap_or(0_usize);
    let next = if at + 1 < items.len() { (at + 1).to_string() } else { String::new() };
    (items.iter().skip(at).take(1).cloned().collect(), next)
}

#[tonic::async_trait]
impl FleetService for Coordinator {
    type WatchNodesStream = Answers<WatchNodesResponse>;

    async fn list_nodes(&self, _: Request<ListNodesRequest>) -> Answer<ListNodesResponse> {
        Ok(Response::new(ListNodesResponse {
            nodes: self.script.nodes.clone(),
            notes: self.script.notes.clone(),
        }))
    }

    async fn get_node(&self, request: Request<GetNodeRequest>) -> Answer<GetNodeResponse> {
        let name = request.into_inner().name;
        let node = self.script.nodes.iter().find(|node| node.name == name).cloned();
        let unknown = || Status::not_found(format!("name: no node named {name:?}"));
        Ok(Response::new(GetNodeResponse { node: Some(node.ok_or_else(unknown)?) }))
    }

    async fn check_storage(&self, _: Request<CheckStorageRequest>) -> Answer<CheckStorageResponse> {
        Ok(Response::new(self.script.storage.clone()))
    }

    async fn watch_nodes(&self, _: Request<WatchNodesRequest>) -> Answer<Self::WatchNodesStream> {
        Err(Status::unimplemented(""))
    }
}

#[tonic::async_trait]
impl CaptureService for Coordinator {
    type WatchCaptureStream = Answers<WatchCaptureResponse>;

    async fn start_capture(&self, request: Request<StartCaptureRequest>) -> Answer<StartCaptureResponse> {
        self.asked.lock().unwrap().push(request.into_inner());
        match &self.script.refusal {
            Some(reason) => Err(Status::invalid_argument(reason)),
            None => Ok(Response::new(StartCaptureResponse { capture: Some(self.script.started.clone()) })),
        }
    }

    async fn list_captures(&self, request: Request<ListCapturesRequest>) -> Answer<ListCapturesResponse> {
        let (captures, next_page_token) = page(&self.script.captures, &request.into_inner().page_token);
        Ok(Response::new(ListCapturesResponse { captures, next_page_token }))
    }

    async fn get_capture(&self, request: Request<GetCaptureRequest>) -> Answer<GetCaptureResponse> {
        let id = request.into_inner().capture_id;
        let capture = self.script.captures.iter().find(|capture| capture.id == id).cloned();
        let unknown = || Status::not_found(format!("capture_id: no capture {id}; see `ctl list-captures`"));
        Ok(Response::new(GetCaptureResponse { capture: Some(capture.ok_or_else(unknown)?) }))
    }

    async fn watch_capture(&self, _: Request<WatchCaptureRequest>) -> Answer<Self::WatchCaptureStream> {
        let call = {
            let mut watched = self.watched.lock().unwrap();
            *watched += 1;
            *watched - 1
        };
        let last = self.script.watches.len() - 1;
        let answers = self.script.watches[call.min(last)].clone();
        let answers = answers.into_iter().map(|capture| Ok(WatchCaptureResponse { capture: Some(capture) }));
        let stream = tokio_stream::iter(answers);
        if self.script.hold && call >= last {
            return Ok(Response::new(Box::pin(tokio_stream::StreamExt::chain(
                stream,
                tokio_stream::pending(),
            ))));
        }
        Ok(Response::new(Box::pin(stream)))
    }

    async fn stop_capture(&self, _: Request<StopCaptureRequest>) -> Answer<StopCaptureResponse> {
        Ok(Response::new(StopCaptureResponse { capture: self.script.captures.first().cloned() }))
    }

    async fn delete_capture(&self, _: Request<DeleteCaptureRequest>) -> Answer<DeleteCaptureResponse> {
        Ok(Response::new(DeleteCaptureResponse {}))
    }
}

#[tonic::async_trait]
impl AuditService for Coordinator {
    /// Knows the names but not the times.
    async fn list_audit(&self, request: Request<ListAuditRequest>) -> Answer<ListAuditResponse> {
        let request = request.into_inner();
        self.audited.lock().unwrap().push(request.clone());
        let its = self.script.audit.iter().filter(|record| record.who.ends_with(&request.who));
        let (records, next_page_token) = page(&its.cloned().collect::<Vec<_>>(), &request.page_token);
        Ok(Response::new(ListAuditResponse { records, next_page_token }))
    }
}

#[tonic::async_trait]
impl ProbeService for Coordinator {
    type WatchProbeStream = Answers<WatchProbeResponse>;
    type TracePathStream = Answers<TracePathResponse>;
    type CheckStream = Answers<CheckResponse>;

    async fn run_probe(&self, request: Request<RunProbeRequest>) -> Answer<RunProbeResponse> {
        let probe = Probe { spec: request.into_inner().spec, ..self.script.probe.clone() };
        Ok(Response::new(RunProbeResponse { probe: Some(probe) }))
    }

    async fn list_probes(&self, request: Request<ListProbesRequest>) -> Answer<ListProbesResponse> {
        let probes = [self.script.probe.clone()];
        let (probes, next_page_token) = page(&probes, &request.into_inner().page_token);
        Ok(Response::new(ListProbesResponse { probes, next_page_token }))
    }

    async fn get_probe(&self, _: Request<GetProbeRequest>) -> Answer<GetProbeResponse> {
        Ok(Response::new(GetProbeResponse { probe: Some(self.script.probe.clone()) }))
    }

    async fn watch_probe(&self, _: Request<WatchProbeRequest>) -> Answer<Self::WatchProbeStream> {
        let answer = WatchProbeResponse { probe: Some(self.script.probe.clone()) };
        Ok(Response::new(Box::pin(tokio_stream::iter([Ok(answer)]))))
    }

    async fn trace_path(&self, request: Request<TracePathRequest>) -> Answer<Self::TracePathStream> {
        let TracePathRequest { from, to, .. } = request.into_inner();
        let verdict = diff_report::Verdict::Delivered.into();
        let trace = PathTrace { from, to, verdict, ..PathTrace::default() };
        let answer = TracePathResponse { trace: Some(trace), ..TracePathResponse::default() };
        Ok(Response::new(Box::pin(tokio_stream::iter([Ok(answer)]))))
    }

    /// One thing is well, and an API server cannot be told.
    async fn check(&self, request: Request<CheckRequest>) -> Answer<Self::CheckStream> {
        let spec = request.into_inner().spec.unwrap_or_default();
        let result = |verdict: check_result::Verdict| CheckResult {
            item: CheckItem::CheckGateway.into(),
            verdict: verdict.into(),
            ..CheckResult::default()
        };
        let mut results = vec![result(check_result::Verdict::Pass)];
        if !spec.api_server.is_empty() {
            results.push(result(check_result::Verdict::Unknown));
        }
        let report = Some(CheckReport { results, ..CheckReport::default() });
        let answer = CheckResponse { step: "done".to_owned(), report };
        Ok(Response::new(Box::pin(tokio_stream::iter([Ok(answer)]))))
    }

    async fn diff_probe(&self, _: Request<DiffProbeRequest>) -> Answer<DiffProbeResponse> {
        let verdict = probe_diff::Verdict::Alike.into();
        let diff = ProbeDiff { probe_id: self.script.probe.id.clone(), verdict, ..ProbeDiff::default() };
        Ok(Response::new(DiffProbeResponse { diff: Some(diff) }))
    }

    async fn stop_probe(&self, _: Request<StopProbeRequest>) -> Answer<StopProbeResponse> {
        Ok(Response::new(StopProbeResponse { probe: Some(self.script.probe.clone()) }))
    }
}

#[tonic::async_trait]
impl AnalysisService for Coordinator {
    async fn diff_nodes(&self, _: Request<DiffNodesRequest>) -> Answer<DiffReport> {
        let report = self.script.report.clone();
        Ok(Response::new(report.ok_or_else(|| Status::not_found("capture_id: no capture yet; start one"))?))
    }

    async fn list_flows(&self, request: Request<ListFlowsRequest>) -> Answer<ListFlowsResponse> {
        let (flows, next_page_token) = page(&self.script.flows, &request.into_inner().page_token);
        Ok(Response::new(ListFlowsResponse { flows, next_page_token }))
    }

    async fn list_lost_packets(
        &self,
        request: Request<ListLostPacketsRequest>,
    ) -> Answer<ListLostPacketsResponse> {
        let (packets, next_page_token) = page(&self.script.lost, &request.into_inner().page_token);
        Ok(Response::new(ListLostPacketsResponse { packets, next_page_token }))
    }

    async fn get_topology(&self, request: Request<GetTopologyRequest>) -> Answer<FabricTopology> {
        let capture_id = request.into_inner().capture_id;
        Ok(Response::new(FabricTopology { capture_id, ..self.script.topology.clone() }))
    }
}
