//! A coordinator on loopback with real TLS, and an agent that does what the test tells it.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

pub mod agent;
pub mod cluster;
pub mod data;
pub mod emulators;
pub mod forged;
pub mod pki;
pub mod postgres;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lastseen_coordinator::config::Config;
use lastseen_coordinator::files::Environment;
use lastseen_coordinator::server::Coordinator;
use lastseen_proto::v1;
use lastseen_proto::v1::analysis_service_client::AnalysisServiceClient;
use lastseen_proto::v1::audit_service_client::AuditServiceClient;
use lastseen_proto::v1::capture_service_client::CaptureServiceClient;
use lastseen_proto::v1::fleet_service_client::FleetServiceClient;
use lastseen_proto::v1::probe_service_client::ProbeServiceClient;
use lastseen_runtime::client::connect;
use lastseen_runtime::telemetry::LogFormat;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use agent::Agent;
use data::{Data, Sql};
use pki::Authority;

pub struct Fabric {
    pub authority: Authority,
    pub address: SocketAddr,
    /// Of the admin port.
    pub admin: SocketAddr,
    pub data: Data,
    /// Where the coordinator's certificate is.
    pub pki_dir: PathBuf,
    registry: Arc<Registry>,
    stopping: CancellationToken,
    serving: JoinHandle<anyhow::Result<()>>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Fabric {
    pub async fn start() -> Self {
        Self::start_on(Authority::new(), Data::new().await).await
    }

    /// With an agent that is ready.
    pub async fn with_one() -> (Self, Agent) {
        let fabric = Self::start().await;
        let agent = Agent::connect(&fabric, "node-a", 1, &[]).await;
        (fabric, agent)
    }

    /// With two agents that are ready.
    pub async fn with_two() -> (Self, [Agent; 2]) {
        let (fabric, first) = Self::with_one().await;
        let second = Agent::connect(&fabric, "node-b", 2, &[]).await;
        (fabric, [first, second])
    }

    /// On a data directory of an earlier one.
    pub async fn start_on(authority: Authority, data: Data) -> Self {
        Self::start_as(authority, data, |_| ()).await
    }

    /// With a policy file.
    pub async fn start_under(policy: &Path) -> Self {
        Self::start_as(Authority::new(), Data::new().await, |config| config.policy = Some(policy.into()))
            .await
    }

    /// With other flags.
    pub async fn start_as(authority: Authority, data: Data, change: impl FnOnce(&mut Config)) -> Self {
        // A runtime of its own, so that it can be killed with all its tasks.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap().into_std().unwrap();
        let address = listener.local_addr().unwrap();
        let admin_listener = TcpListener::bind("127.0.0.1:0").await.unwrap().into_std().unwrap();
        let admin = admin_listener.local_addr().unwrap();
        let (pki, mut config) = (authority.coordinator(), config(data.path().to_owned()));
        config.database_url = data.url();
        data.tell(&mut config);
        change(&mut config);
        let pki_dir = pki.dir().to_owned();
        let stopping = CancellationToken::new();
        let token = stopping.clone();
        let (opened, is_open) = tokio::sync::oneshot::channel();
        let serving = runtime.spawn(async move {
            let listener = TcpListener::from_std(listener)?;
            let coordinator = Coordinator::on(listener, pki, &config, token).await?;
            let coordinator = coordinator.with_admin(TcpListener::from_std(admin_listener)?);
            opened.send(coordinator.registry()).unwrap();
            coordinator.serve().await
        });
        let registry = is_open.await.expect("the coordinator opens");
        let runtime = Some(runtime);
        Self { authority, address, admin, data, pki_dir, registry, stopping, serving, runtime }
    }

    /// As SIGKILL does: nothing is finished, nothing is closed.
    pub fn kill(mut self) -> (Authority, Data) {
        // Until its last thread is gone it holds the data directory, as a process does.
        let runtime = self.runtime.take().unwrap();
        let killing = std::thread::spawn(|| runtime.shutdown_timeout(Duration::from_mins(1)));
        killing.join().unwrap();
        (self.authority, self.data)
    }

    /// As SIGTERM does.
    pub async fn stop(mut self) -> (Authority, Data) {
        self.stopping.cancel();
        self.serving.await.unwrap().unwrap();
        self.runtime.take().unwrap().shutdown_background();
        (self.authority, self.data)
    }

    /// The test's own connection to the database, for faults and for what no call shows.
    pub async fn sql(&self) -> Sql {
        self.data.sql().await
    }

    /// A counter of the admin port.
    pub fn counter(&self, name: &str) -> u64 {
        self.figure(&format!("{name}_total"))
    }

    /// A counter of the admin port with a label.
    pub fn counter_for(&self, name: &str, reason: &str) -> u64 {
        self.figure(&format!("{name}_total{{reason=\"{reason}\"}}"))
    }

    /// A figure of the coordinator's on the admin port, with its labels if it has any.
    pub fn figure(&self, name: &str) -> u64 {
        let value = self.shown(&format!("lastseen_coordinator_{name}"));
        value.unwrap_or_else(|| panic!("no {name}")).parse::<f64>().unwrap() as u64
    }

    /// What the admin port shows under a whole name with its labels.
    pub fn shown(&self, name: &str) -> Option<String> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map(str::to_owned)
    }

    /// The audit, newest first.
    pub async fn audit(&self) -> Vec<v1::AuditRecord> {
        let mut client = AuditServiceClient::new(self.channel("operator", "auditor").await);
        let answer = client.list_audit(v1::ListAuditRequest { page_size: 1_000, ..Default::default() }).await;
        answer.unwrap().into_inner().records
    }

    pub async fn channel(&self, role: &str, name: &str) -> Channel {
        let pki = self.authority.identity(role, name);
        connect(&self.address.to_string(), &pki).await.unwrap()
    }

    pub async fn captures(&self) -> CaptureServiceClient<Channel> {
        CaptureServiceClient::new(self.channel("operator", "eve").await)
    }

    pub async fn probes(&self) -> ProbeServiceClient<Channel> {
        ProbeServiceClient::new(self.channel("operator", "eve").await)
    }

    pub async fn nodes(&self) -> FleetServiceClient<Channel> {
        FleetServiceClient::new(self.channel("viewer", "vic").await)
    }

    pub async fn analysis(&self) -> AnalysisServiceClient<Channel> {
        AnalysisServiceClient::new(self.channel("viewer", "vic").await)
    }

    /// Follows a capture until `until` holds.
    pub async fn follow(&self, id: &str, until: impl Fn(&v1::Capture) -> bool) -> v1::Capture {
        let mut client = self.captures().await;
        let request = v1::WatchCaptureRequest { capture_id: id.to_owned() };
        let mut stream = client.watch_capture(request).await.unwrap().into_inner();
        while let Some(response) = stream.message().await.unwrap() {
            let capture = response.capture.unwrap();
            if until(&capture) {
                return capture;
            }
        }
        panic!("capture {id} ended otherwise: {:?}", self.get(id).await);
    }

    pub async fn get(&self, id: &str) -> v1::Capture {
        let request = v1::GetCaptureRequest { capture_id: id.to_owned() };
        self.captures().await.get_capture(request).await.unwrap().into_inner().capture.unwrap()
    }

    /// Waits until these nodes are ready.
    pub async fn ready(&self, names: &[&str]) {
        let ready = tokio::time::timeout(Duration::from_mins(1), self.all_ready(names)).await;
        ready.unwrap_or_else(|_| panic!("{names:?} not ready within a minute"));
    }

    async fn all_ready(&self, names: &[&str]) {
        let mut stream = self.nodes().await.watch_nodes(v1::WatchNodesRequest {}).await.unwrap().into_inner();
        let mut ready = std::collections::BTreeSet::new();
        while !names.iter().all(|name| ready.contains(*name)) {
            let node = stream.message().await.unwrap().unwrap().node.unwrap();
            if node.state() == v1::NodeState::Ready {
                ready.insert(node.name);
            }
        }
    }
}

pub fn config(data_dir: PathBuf) -> Config {
    Config {
        listen: String::new(),
        admin_listen: String::new(),
        data_dir,
        database_url: None,
        correlation_memory_bytes: 1 << 20,
        object_store: None,
        object_store_environment: Environment::of([]),
        retention_age: Duration::from_hours(1),
        retention_bytes: None,
        pki_dir: PathBuf::new(),
        policy: None,
        api_server: None,
        api_server_ca: None,
        log_format: LogFormat::Text,
        otlp_endpoint: None,
        config: None,
    }
}

/// A capture on one node, with its window told.
pub async fn running(fabric: &Fabric, agent: &mut Agent, millis: i64) -> String {
    let mut client = fabric.captures().await;
    let request = job(&[&agent.node], millis);
    let starting = tokio::spawn(async move { client.start_capture(request).await });
    let id = agent.arm().await.capture_id;
    agent.status(&id, v1::CaptureState::Armed, "", 0).await;
    starting.await.unwrap().unwrap();
    agent.commit().await;
    agent.status(&id, v1::CaptureState::Running, "", 0).await;
    id
}

/// A short job on these nodes.
pub fn job(nodes: &[&str], millis: i64) -> v1::StartCaptureRequest {
    let spec = v1::CaptureSpec {
        name: "test".into(),
        nodes: nodes.iter().map(|&node| node.to_owned()).collect(),
        duration: Some(prost_types::Duration {
            seconds: millis / 1000,
            nanos: (millis % 1000 * 1_000_000) as i32,
        }),
        ..Default::default()
    };
    v1::StartCaptureRequest { spec: Some(spec), ..Default::default() }
}

pub fn is_final(capture: &v1::Capture) -> bool {
    capture.state() as i32 >= v1::CaptureState::Completed as i32
}

/// A test that waits for something that does not come fails by itself instead of hanging.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again and again until `holds`.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("not within 30 s: {what}"));
}
