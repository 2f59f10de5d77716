//! The gRPC services: messages in and out, and nothing else.

mod agent;
mod analysis;
mod audit;
mod capture;
mod check;
mod errand;
mod fleet;
mod page;
mod probe;
mod publish;
mod session;
mod trace_path;

use std::sync::Arc;

pub use agent::AgentApi;
pub use analysis::AnalysisApi;
pub use audit::AuditApi;
pub use capture::CaptureApi;
pub use fleet::FleetApi;
pub use probe::ProbeApi;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::analysis::Analysis;
use crate::checks::ApiServer;
use crate::fleet::{Fleet, Keeper};
use crate::guard::Guard;
use crate::ingest::Ingest;
use crate::jobs::Jobs;
use crate::metrics::Metrics;
use crate::probes::Probes;
use crate::quota::Quota;
use crate::rate::Rates;
use crate::retention::inventory::Storage;
use crate::store::Store;
use crate::time::Clock;

/// What the services work with.
#[derive(Clone)]
pub struct Context {
    /// Time.
    pub clock: Clock,
    /// What survives.
    pub store: Arc<dyn Store>,
    /// The agents.
    pub fleet: Arc<Fleet>,
    /// Their way into the store.
    pub keeper: Arc<Keeper>,
    /// The jobs.
    pub jobs: Jobs,
    /// The probes.
    pub probes: Probes,
    /// Where batches come in.
    pub ingest: Ingest,
    /// Correlation runs.
    pub analysis: Analysis,
    /// What lies in the store.
    pub storage: Storage,
    /// What stands before every call.
    pub guard: Arc<Guard>,
    /// Figures.
    pub metrics: Metrics,
    /// Control streams by node.
    pub control_streams: Quota,
    /// How often each node says something on them.
    pub messages: Arc<Rates>,
    /// Streams of batches by node.
    pub batch_streams: Quota,
    /// The API server that checks look at unless they name another.
    pub api_server: Option<Arc<ApiServer>>,
    /// Cancelled when streams are to end.
    pub stopping: CancellationToken,
}

/// A stream of responses that a task fills.
type Responses<T> = ReceiverStream<Result<T, Status>>;
