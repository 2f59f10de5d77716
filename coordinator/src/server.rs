//! Puts the parts together: opens what can fail to open, takes up unfinished jobs, serves, and stops in order.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use lastseen_proto::v1::agent_service_server::AgentServiceServer;
use lastseen_proto::v1::analysis_service_server::AnalysisServiceServer;
use lastseen_proto::v1::capture_service_server::CaptureServiceServer;
use lastseen_proto::v1::fleet_service_server::FleetServiceServer;
use lastseen_runtime::identity::Role;
use lastseen_runtime::refusal::Refusal;
use lastseen_runtime::tls::Pki;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::access::Access;
use crate::analysis::Analysis;
use crate::config::Config;
use crate::connections;
use crate::files;
use crate::fleet::{Fleet, Keeper};
use crate::ingest::Ingest;
use crate::jobs::{Board, Jobs, Services};
use crate::limits;
use crate::lock::DataLock;
use crate::metrics::Metrics;
use crate::quota::Quota;
use crate::services::{AgentApi, AnalysisApi, CaptureApi, Context, FleetApi};
use crate::store::{SqliteStore, Store};
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
    store: SqliteStore,
    lock: DataLock,
    writer: JoinHandle<()>,
    registry: Arc<Registry>,
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
        let directory = files::prepare(&config.data_dir).map_err(|error| {
            anyhow::anyhow!("--data-dir: {error}; give a directory that this user may write to")
        })?;
        let lock = DataLock::take(&config.data_dir)?;
        let store = SqliteStore::open(config.database_url.as_deref(), &config.data_dir).await?;
        collect_garbage(&store, directory.clone()).await?;
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let context =
            context(Arc::new(store.clone()), (directory, config.correlation_memory_bytes), metrics, stopping)
                .await?;
        let (context, writer) = context;
        Ok(Self { listener, admin, pki, context, store, lock, writer, registry: Arc::new(registry) })
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
            let is_ready = {
                let stopping = stopping.clone();
                move || !stopping.is_cancelled()
            };
            tokio::spawn(lastseen_runtime::admin::serve(listener, self.registry, is_ready, stopping.clone()))
        });
        tracing::info!(%address, identity = %self.pki.identity(), "serving");
        let routes = routes(&self.context, self.pki.identity().trust_domain).await?;
        let metrics = self.context.metrics.clone();
        let refused = move |refusal: &Refusal| metrics.refused_handshake(refusal.kind);
        let incoming = lastseen_runtime::server::incoming(self.listener, self.pki, refused);
        let incoming = connections::limited(incoming, self.context.metrics.clone());
        let serving = routes.serve_with_incoming_shutdown(incoming, stopping.clone().cancelled_owned());
        let deadline = async {
            stopping.cancelled().await;
            tokio::time::sleep(limits::SHUTDOWN).await;
        };
        tokio::select! {
            served = serving => served.context("serving")?,
            () = deadline => tracing::warn!("connections that did not end in time are cut off"),
        }
        self.context.jobs.stopped().await;
        self.context.keeper.flush().await;
        drop(self.context);
        // Streams that were cut off may still hold the way to the writer.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.writer).await;
        self.store.close().await;
        drop(self.lock);
        if let Some(admin) = admin {
            admin.abort();
        }
        tracing::info!("stopped");
        Ok(())
    }
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

async fn collect_garbage(store: &SqliteStore, directory: PathBuf) -> anyhow::Result<()> {
    let known = store.files().await?.into_iter().collect();
    let removed = tokio::task::spawn_blocking(move || files::collect(&directory, &known)).await??;
    if removed > 0 {
        tracing::info!(removed, "observation files without a row were left from a crash and are gone");
    }
    Ok(())
}

async fn context(
    store: Arc<dyn Store>,
    (directory, memory_bytes): (PathBuf, u64),
    metrics: Metrics,
    stopping: CancellationToken,
) -> anyhow::Result<(Context, JoinHandle<()>)> {
    let clock = Clock::start();
    let fleet = Arc::new(Fleet::new(store.nodes().await?));
    let board = Board::default();
    let (ingest, writer) = Ingest::start(store.clone(), directory.clone(), board.clone(), metrics.clone());
    let analysis = Analysis::new(store.clone(), directory, clock, metrics.clone()).within(memory_bytes);
    let services = Services {
        clock,
        store: store.clone(),
        fleet: fleet.clone(),
        ingest: ingest.clone(),
        analysis: analysis.clone(),
        metrics: metrics.clone(),
    };
    let keeper = Keeper::start(store.clone(), fleet.clone(), stopping.clone());
    let jobs = Jobs::recover(services, board, stopping.clone()).await?;
    let (control_streams, batch_streams) = (Quota::default(), Quota::default());
    let context = Context {
        clock,
        store,
        fleet,
        keeper,
        jobs,
        ingest,
        analysis,
        metrics,
        control_streams,
        batch_streams,
        stopping,
    };
    Ok((context, writer))
}

type Guard = tower::layer::util::Stack<GuardLayer, tower::layer::util::Identity>;

async fn routes(
    context: &Context,
    trust_domain: String,
) -> anyhow::Result<tonic::transport::server::Router<Guard>> {
    macro_rules! service {
        ($server:ident, $api:expr) => {
            $server::new($api)
                .max_decoding_message_size(limits::MESSAGE_BYTES)
                .max_encoding_message_size(limits::MESSAGE_BYTES)
        };
    }
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<CaptureServiceServer<CaptureApi>>().await;
    health.set_serving::<AgentServiceServer<AgentApi>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(lastseen_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .context("reflection")?;
    Ok(Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(limits::SILENCE))
        .max_concurrent_streams(limits::STREAMS_PER_CONNECTION)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .layer(GuardLayer(trust_domain))
        .add_service(health_service)
        .add_service(reflection)
        .add_service(service!(AgentServiceServer, AgentApi(context.clone())))
        .add_service(service!(FleetServiceServer, FleetApi(context.clone())))
        .add_service(service!(CaptureServiceServer, CaptureApi(context.clone())))
        .add_service(service!(AnalysisServiceServer, AnalysisApi(context.clone()))))
}

/// Puts [`Access`] before every service.
#[derive(Clone, Debug)]
struct GuardLayer(String);

impl<S> tower::Layer<S> for GuardLayer {
    type Service = Access<S>;

    fn layer(&self, inner: S) -> Access<S> {
        Access::new(inner, self.0.clone())
    }
}
