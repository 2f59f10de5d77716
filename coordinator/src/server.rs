//! Puts the parts together: opens what can fail to open, takes up unfinished jobs, serves, and stops in order.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use lastseen_proto::url::WebUrl;
use lastseen_proto::v1::agent_service_server::AgentServiceServer;
use lastseen_proto::v1::analysis_service_server::AnalysisServiceServer;
use lastseen_proto::v1::audit_service_server::AuditServiceServer;
use lastseen_proto::v1::capture_service_server::CaptureServiceServer;
use lastseen_proto::v1::fleet_service_server::FleetServiceServer;
use lastseen_proto::v1::probe_service_server::ProbeServiceServer;
use lastseen_runtime::identity::Role;
use lastseen_runtime::refusal::Refusal;
use lastseen_runtime::tls::Pki;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic_health::pb::health_server::{Health, HealthServer};
use tower::layer::util::Stack;

use crate::access::Access;
use crate::analysis::Analysis;
use crate::audit::Audit;
use crate::calls::TraceLayer;
use crate::checks::ApiServer;
use crate::config::Config;
use crate::files::{self, Files};
use crate::fleet::{Fleet, Keeper};
use crate::guard::Guard;
use crate::ingest::Ingest;
use crate::jobs::{Board, Jobs, Services};
use crate::limits;
use crate::lock::DataLock;
use crate::metrics::{self, Metrics, Sources};
use crate::policy::PolicyFile;
use crate::probes::{Means, Probes};
use crate::quota::Quota;
use crate::rate::Rates;
use crate::readiness::Readiness;
use crate::retention::inventory::Storage;
use crate::retention::{self, Retention};
use crate::services::{AgentApi, AnalysisApi, AuditApi, CaptureApi, Context, FleetApi, ProbeApi};
use crate::store::{self, Store};
use crate::time::Clock;

/// Dead connections are noticed this way.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// HTTP/2 flow control: what one stream and one connection may have on their way.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// A coordinator that is ready to serve.
pub struct Coordinator {
    listener: TcpListener,
    admin: Option<TcpListener>,
    pki: Pki,
    context: Context,
    store: Arc<dyn Store>,
    lock: DataLock,
    writer: JoinHandle<()>,
    records: JoinHandle<()>,
    registry: Arc<Registry>,
    readiness: Readiness,
}

impl Coordinator {
    /// Opens ports, certificates and data, and takes up unfinished jobs. Every error is one line that says what to do.
    pub async fn open(config: &Config, stopping: CancellationToken) -> anyhow::Result<Self> {
        let pki = Pki::open(&config.pki_dir).map_err(|error| anyhow::anyhow!("--{error}"))?;
        let identity = pki.identity();
        anyhow::ensure!(
            identity.role == Role::Coordinator,
            "--pki-dir: {} holds the certificate of {identity}; issue one with `ctl pki issue DIR coordinator NAME`",
            config.pki_dir.display()
        );
        // Nobody would connect to it, and each would blame the network first.
        anyhow::ensure!(
            pki.not_after() > SystemTime::now(),
            "--pki-dir: the certificate in {} has expired; issue a new one with `ctl pki issue`",
            config.pki_dir.display()
        );
        let listener = bind("--listen", &config.listen, "0.0.0.0:7443").await?;
        let admin = bind("--admin-listen", &config.admin_listen, "127.0.0.1:7481").await?;
        Self::assemble(config, pki, listener, Some(admin), stopping).await
    }

    /// As [`Coordinator::open`], on a socket that is bound already and without an admin port.
    pub async fn on(
        listener: TcpListener,
        pki: Pki,
        config: &Config,
        stopping: CancellationToken,
    ) -> anyhow::Result<Self> {
        Self::assemble(config, pki, listener, None, stopping).await
    }

    async fn assemble(
        config: &Config,
        pki: Pki,
        listener: TcpListener,
        admin: Option<TcpListener>,
        stopping: CancellationToken,
    ) -> anyhow::Result<Self> {
        let api_server = api_server(config)?;
        let directory = files::prepare(&config.data_dir).map_err(|error| {
            anyhow::anyhow!("--data-dir: {error}; give a directory that this user may write to")
        })?;
        let url = config.database_url.as_deref();
        let lock = DataLock::take(&config.data_dir, url.is_some_and(store::is_shared))?;
        let store = store::open(url, &config.data_dir).await?;
        let environment = &config.object_store_environment;
        let policy = retention::Policy::new(config.retention_age, config.retention_bytes);
        let files = Files::open(config.object_store.as_deref(), environment, directory.clone()).await?;
        files.claim(&store.fabric().await?).await?;
        if let Some(shared) = store.shared() {
            let name = files.name().await?;
            let agreed = shared.place(&name).await?;
            anyhow::ensure!(agreed == name, files.elsewhere(agreed));
        }
        let mut registry = Registry::default();
        lastseen_runtime::process::register(&mut registry);
        let metrics = Metrics::register(&mut registry);
        let readiness = Readiness::new(store.clone(), directory.clone(), stopping.clone());
        let clock = Clock::start();
        let rights = PolicyFile::open(config.policy.as_deref(), metrics.clone())
            .map_err(|error| anyhow::anyhow!("--policy: {error}; mend the file or leave the flag out"))?;
        let (audit, records) = Audit::start(store.clone(), clock.clone(), metrics.clone());
        let guard = Guard::start(pki.clone(), rights, audit, metrics.clone(), stopping.clone());
        let ends = guard.clone();
        lastseen_runtime::expiry::register(&mut registry, move || ends.ends());
        let context = context(
            store.clone(),
            (files, policy),
            (directory, config.correlation_memory_bytes),
            (clock, guard),
            metrics,
            stopping,
        )
        .await?;
        let (context, writer) = context;
        let context = Context { api_server, ..context };
        metrics::sample(&mut registry, sources(&context));
        let registry = Arc::new(registry);
        Ok(Self { listener, admin, pki, context, store, lock, writer, records, registry, readiness })
    }

    /// With an admin port on a socket that is bound already.
    #[must_use]
    pub fn with_admin(self, admin: TcpListener) -> Self {
        Self { admin: Some(admin), ..self }
    }

    /// The figures of the admin port.
    pub fn registry(&self) -> Arc<Registry> {
        self.registry.clone()
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the token given at the start is cancelled; then ends streams, lets what is on its way be stored, and
    /// closes the database.
    pub async fn serve(self) -> anyhow::Result<()> {
        let stopping = self.context.stopping.clone();
        let address = self.address()?;
        let admin = self.admin.map(|listener| {
            let readiness = self.readiness.clone();
            let is_ready = move || {
                let readiness = readiness.clone();
                async move { readiness.look().await }
            };
            tokio::spawn(lastseen_runtime::admin::serve(listener, self.registry, is_ready, stopping.clone()))
        });
        tracing::info!(%address, identity = %self.pki.identity(), "serving");
        let (health, health_service) = tonic_health::server::health_reporter();
        let routes = routes(&self.context, health_service)?;
        tokio::spawn(self.readiness.announce(health));
        let metrics = self.context.metrics.clone();
        let refused = move |refusal: &Refusal| metrics.refused_handshake(refusal.kind);
        let incoming = lastseen_runtime::server::incoming(self.listener, self.pki, refused);
        let incoming = self.context.guard.connections.limited(incoming);
        let serving = routes.serve_with_incoming_shutdown(incoming, stopping.clone().cancelled_owned());
        let deadline = async {
            stopping.cancelled().await;
            tokio::time::sleep(limits::SHUTDOWN).await;
        };
        tokio::select! {
            served = serving => served.context("serving")?,
            () = deadline => tracing::warn!("connections that did not end in time are cut off"),
        }
        let ending = async {
            self.context.jobs.stopped().await;
            self.context.probes.stopped().await;
            self.context.keeper.flush().await;
        };
        if tokio::time::timeout(limits::SHUTDOWN, ending).await.is_err() {
            tracing::warn!(
                "the database does not answer in time; what was not stored is left to the next process"
            );
        }
        drop(self.context);
        // Streams that were cut off may still hold the way to the writer.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.writer).await;
        let _ = tokio::time::timeout(Duration::from_secs(1), self.records).await;
        let _ = tokio::time::timeout(Duration::from_secs(1), self.store.close()).await;
        drop(self.lock);
        if let Some(admin) = admin {
            admin.abort();
        }
        tracing::info!("stopped");
        Ok(())
    }
}

/// The API server that checks look at.
fn api_server(config: &Config) -> anyhow::Result<Option<Arc<ApiServer>>> {
    let Some(url) = &config.api_server else { return Ok(None) };
    let checked: Result<WebUrl, _> = url.parse();
    checked.map_err(|error| anyhow::anyhow!("--api-server: {error}"))?;
    let ca_pem = match &config.api_server_ca {
        None => String::new(),
        Some(path) => std::fs::read_to_string(path).map_err(|error| {
            anyhow::anyhow!("--api-server-ca {}: cannot be read: {error}; give a PEM file", path.display())
        })?,
    };
    Ok(Some(Arc::new(ApiServer { url: url.clone(), ca_pem })))
}

async fn bind(flag: &str, address: &str, example: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let advice = match error.kind() {
            ErrorKind::InvalidInput => format!("give HOST:PORT, for example {example}"),
            ErrorKind::AddrInUse => "choose another port or stop what uses it".to_owned(),
            ErrorKind::AddrNotAvailable => {
                "give an address of this machine, or 0.0.0.0 for all of them".to_owned()
            }
            ErrorKind::PermissionDenied => "choose a port from 1024 on".to_owned(),
            _ => format!("give an address of this machine and a port, for example {example}"),
        };
        anyhow::anyhow!("{flag} {address}: cannot listen there: {error}; {advice}")
    })
}

async fn context(
    store: Arc<dyn Store>,
    (files, policy): (Files, retention::Policy),
    (scratch, memory_bytes): (PathBuf, u64),
    (clock, guard): (Clock, Arc<Guard>),
    metrics: Metrics,
    stopping: CancellationToken,
) -> anyhow::Result<(Context, JoinHandle<()>)> {
    let fleet = Arc::new(Fleet::new(store.nodes().await?));
    let board = Board::default();
    let (ingest, writer) = Ingest::start(store.clone(), files.clone(), board.clone(), metrics.clone());
    let analysis = Analysis::new(store.clone(), files.clone(), scratch, clock.clone(), metrics.clone())
        .within(memory_bytes);
    let services = Services {
        clock: clock.clone(),
        store: store.clone(),
        fleet: fleet.clone(),
        ingest: ingest.clone(),
        analysis: analysis.clone(),
        probes_changed: Arc::default(),
        metrics: metrics.clone(),
    };
    let keeper = Keeper::start(store.clone(), fleet.clone(), stopping.clone());
    let means = Means {
        clock: clock.clone(),
        store: store.clone(),
        fleet: fleet.clone(),
        guard: guard.clone(),
        changed: services.probes_changed.clone(),
    };
    let probes = Probes::start(means, &stopping);
    let jobs = Jobs::recover(services.clone(), board, stopping.clone()).await?;
    let storage = Storage::new(store.clone(), files.clone());
    retention::start(Retention::new(services, jobs.clone(), files, policy), stopping.clone());
    let (control_streams, batch_streams) = (Quota::default(), Quota::default());
    let context = Context {
        clock,
        store,
        fleet,
        keeper,
        jobs,
        probes,
        ingest,
        analysis,
        storage,
        guard,
        metrics,
        control_streams,
        messages: Arc::new(Rates::new(limits::MESSAGES_PER_SECOND, limits::MESSAGES_AT_ONCE)),
        batch_streams,
        api_server: None,
        stopping,
    };
    Ok((context, writer))
}

fn sources(context: &Context) -> Sources {
    Sources {
        clock: context.clock.clone(),
        store: context.store.clone(),
        fleet: context.fleet.clone(),
        ingest: context.ingest.clone(),
        board: context.jobs.board().clone(),
        figures: context.probes.figures().clone(),
    }
}

type Guarded = Stack<TraceLayer, Stack<GuardLayer, tower::layer::util::Identity>>;

fn routes<H: Health>(
    context: &Context,
    health_service: HealthServer<H>,
) -> anyhow::Result<tonic::transport::server::Router<Guarded>> {
    // What is asked for is short; only agents send much, on few streams.
    macro_rules! service {
        ($server:ident, $api:expr, $asked_bytes:expr) => {
            $server::new($api)
                .max_decoding_message_size($asked_bytes)
                .max_encoding_message_size(limits::MESSAGE_BYTES)
        };
    }
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(lastseen_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .context("reflection")?
        .max_decoding_message_size(limits::REQUEST_BYTES);
    Ok(Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(limits::SILENCE))
        .max_concurrent_streams(limits::STREAMS_PER_CONNECTION)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .layer(GuardLayer(context.guard.clone()))
        .layer(TraceLayer)
        .add_service(health_service.max_decoding_message_size(limits::REQUEST_BYTES))
        .add_service(reflection)
        .add_service(service!(AgentServiceServer, AgentApi(context.clone()), limits::MESSAGE_BYTES))
        .add_service(service!(FleetServiceServer, FleetApi(context.clone()), limits::REQUEST_BYTES))
        .add_service(service!(CaptureServiceServer, CaptureApi(context.clone()), limits::JOB_BYTES))
        .add_service(service!(AnalysisServiceServer, AnalysisApi(context.clone()), limits::REQUEST_BYTES))
        .add_service(
            ProbeServiceServer::new(ProbeApi(context.clone()))
                .max_decoding_message_size(limits::JOB_BYTES)
                .max_encoding_message_size(2 * limits::PROBE_REPORTS_BYTES),
        )
        .add_service(service!(AuditServiceServer, AuditApi(context.clone()), limits::REQUEST_BYTES)))
}

/// Puts [`Access`] before every service.
#[derive(Clone)]
struct GuardLayer(Arc<Guard>);

impl<S> tower::Layer<S> for GuardLayer {
    type Service = Access<S>;

    fn layer(&self, inner: S) -> Access<S> {
        Access::new(inner, self.0.clone())
    }
}
