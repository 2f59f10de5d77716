//! What the admin port shows of the coordinator. docs/METRICS.md says what each figure means; a test holds both together.

use std::sync::Arc;

use lastseen_runtime::refusal::KINDS;
use lastseen_runtime::sampled;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::fleet::Fleet;
use crate::ingest::Ingest;
use crate::jobs::Board;
use crate::model::State;
use crate::probes::Figures;
use crate::retention::Reason;
use crate::store::{self, Store};
use crate::time::Clock;

/// Before the name of every figure.
const PREFIX: &str = "lastseen_coordinator";

/// A counter for each value of one label. Every value is there from the start, so that none is missed when it first grows.
type Labelled = Family<[(&'static str, &'static str); 1], Counter>;

/// Why a batch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is not what a batch must be.
    Malformed,
    /// Its check broke off.
    CheckFailed,
    /// Its capture does not run, or not on its node.
    NotWanted,
    /// One of the same key with other contents is stored.
    Conflict,
    /// Its node has named too many observation points.
    Points,
}

impl Refused {
    const ALL: [Self; 5] =
        [Self::Malformed, Self::CheckFailed, Self::NotWanted, Self::Conflict, Self::Points];

    const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::CheckFailed => "check_failed",
            Self::NotWanted => "not_wanted",
            Self::Conflict => "conflict",
            Self::Points => "points",
        }
    }
}

/// Counters and gauges; clones share their values.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Connected agents.
    pub agents: Gauge,
    /// Captures that another process had left unfinished.
    pub resumed_captures: Counter,
    /// Batches that arrived.
    pub received_batches: Counter,
    /// Observations in those that passed their check.
    pub received_observations: Counter,
    /// Bytes of batches that arrived.
    pub received_bytes: Counter,
    /// Batches on stable storage.
    pub committed_batches: Counter,
    /// Observations on stable storage.
    pub committed_observations: Counter,
    /// Bytes of batches on stable storage.
    pub committed_bytes: Counter,
    /// Acknowledgements.
    pub acknowledged_batches: Counter,
    /// Batches that could not be stored.
    pub failed_batches: Counter,
    /// Connections beyond the limit of their identity.
    pub refused_connections: Counter,
    /// Messages of agents that came faster than the limit.
    pub delayed_messages: Counter,
    /// Correlation runs that came to no result.
    pub failed_correlations: Counter,
    /// Bytes of observations that the database knows, of all captures.
    pub stored_bytes: Gauge,
    /// Observation files without a row that were removed.
    pub collected_files: Counter,
    /// Records of the audit that could not be stored.
    pub lost_audit_records: Counter,
    /// 1 while the policy file is not what is in force, because it cannot be used.
    pub policy_stale: Gauge,
    /// From the end of a group to its commit.
    pub commit_seconds: Seconds<1>,
    /// Correlation runs.
    pub correlation_seconds: Seconds<10>,
    refused_batches: Labelled,
    refused_handshakes: Labelled,
    ended_captures: Labelled,
    expired_captures: Labelled,
    refused_calls: Labelled,
    closed_connections: Labelled,
}

/// A histogram of seconds whose smallest bucket ends at so many milliseconds and each next one at twice that.
#[derive(Clone, Debug)]
pub struct Seconds<const MILLIS: u32>(Histogram);

impl<const MILLIS: u32> Default for Seconds<MILLIS> {
    fn default() -> Self {
        Self(Histogram::new(exponential_buckets(f64::from(MILLIS) / 1e3, 2.0, 16)))
    }
}

impl<const MILLIS: u32> Seconds<MILLIS> {
    /// Something took this long.
    pub fn observe(&self, seconds: f64) {
        self.0.observe(seconds);
    }
}

impl Metrics {
    /// Registered in `registry` under `lastseen_coordinator_…`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix(PREFIX);
        registry.register("agents", "Connected agents", metrics.agents.clone());
        registry.register(
            "policy_stale",
            "1 while the policy file cannot be used and an older one is in force",
            metrics.policy_stale.clone(),
        );
        registry.register("stored_bytes", "Bytes of observations held", metrics.stored_bytes.clone());
        for (name, help, counter) in metrics.counters() {
            registry.register(name, help, counter.clone());
        }
        for (name, help, label, values, family) in metrics.families() {
            for &value in &values {
                drop(family.get_or_create(&[(label, value)]));
            }
            registry.register(name, help, family.clone());
        }
        let commits = &metrics.commit_seconds;
        registry.register("commit_seconds", "Time to make a group of batches durable", commits.0.clone());
        let runs = &metrics.correlation_seconds;
        registry.register("correlation_seconds", "Time of a correlation run", runs.0.clone());
        metrics
    }

    fn counters(&self) -> [(&'static str, &'static str, &Counter); 14] {
        [
            (
                "resumed_captures",
                "Captures taken up that another process had left unfinished",
                &self.resumed_captures,
            ),
            ("received_batches", "Batches that arrived, repeated ones included", &self.received_batches),
            (
                "received_observations",
                "Observations in batches that passed their check, repeated ones included",
                &self.received_observations,
            ),
            ("received_bytes", "Bytes of batches that arrived", &self.received_bytes),
            ("committed_batches", "Batches on stable storage", &self.committed_batches),
            ("committed_observations", "Observations on stable storage", &self.committed_observations),
            ("committed_bytes", "Bytes of batches on stable storage", &self.committed_bytes),
            (
                "acknowledged_batches",
                "Batches acknowledged, those included that were stored before",
                &self.acknowledged_batches,
            ),
            (
                "failed_batches",
                "Batches that could not be stored; agents send them again",
                &self.failed_batches,
            ),
            (
                "refused_connections",
                "Connections beyond the limit of their identity",
                &self.refused_connections,
            ),
            (
                "delayed_messages",
                "Messages of agents that came more often than the limit and were dealt with later",
                &self.delayed_messages,
            ),
            ("failed_correlations", "Correlation runs without a result", &self.failed_correlations),
            ("collected_files", "Observation files without a row that were removed", &self.collected_files),
            ("lost_audit_records", "Records of the audit that could not be stored", &self.lost_audit_records),
        ]
    }

    fn families(&self) -> [(&'static str, &'static str, &'static str, Vec<&'static str>, &Labelled); 6] {
        let ends = [State::Completed, State::Failed, State::Cancelled].map(state_label);
        [
            (
                "refused_batches",
                "Batches that will never be stored, by reason",
                "reason",
                Refused::ALL.map(Refused::label).to_vec(),
                &self.refused_batches,
            ),
            (
                "refused_handshakes",
                "Connections that ended in the TLS handshake, by reason",
                "reason",
                KINDS.to_vec(),
                &self.refused_handshakes,
            ),
            (
                "ended_captures",
                "Captures that ended, by how; dry runs count as cancelled",
                "state",
                ends.to_vec(),
                &self.ended_captures,
            ),
            (
                "retention_deleted_captures",
                "Captures deleted by retention, by reason",
                "reason",
                Reason::ALL.map(Reason::name).to_vec(),
                &self.expired_captures,
            ),
            (
                "refused_calls",
                "Calls that were not let through, by reason",
                "reason",
                vec!["identity", "denied", "role", "rate", "policy"],
                &self.refused_calls,
            ),
            (
                "closed_connections",
                "Connections that the coordinator closed, by reason",
                "reason",
                vec!["denied", "idle"],
                &self.closed_connections,
            ),
        ]
    }

    /// A batch was refused.
    pub fn refused(&self, reason: Refused) {
        self.refused_batches.get_or_create(&[("reason", reason.label())]).inc();
    }

    /// Retention deleted a capture; `reason` is [`crate::retention::Reason::name`].
    pub fn expired(&self, reason: &'static str) {
        self.expired_captures.get_or_create(&[("reason", reason)]).inc();
    }

    /// A call was not let through for `reason`.
    pub fn refused_call(&self, reason: &'static str) {
        self.refused_calls.get_or_create(&[("reason", reason)]).inc();
    }

    /// The coordinator closed a connection for `reason`.
    pub fn closed_connection(&self, reason: &'static str) {
        self.closed_connections.get_or_create(&[("reason", reason)]).inc();
    }

    /// A peer did not get through the handshake; `reason` is [`lastseen_runtime::refusal::Refusal::kind`].
    pub fn refused_handshake(&self, reason: &'static str) {
        self.refused_handshakes.get_or_create(&[("reason", reason)]).inc();
    }

    /// A capture ended. One that a stopping coordinator leaves to the next has not.
    pub fn capture_ended(&self, state: State) {
        if state.is_final() {
            self.ended_captures.get_or_create(&[("state", state_label(state))]).inc();
        }
    }
}

/// Where figures lie that are looked up when somebody asks.
pub(crate) struct Sources {
    pub(crate) clock: Clock,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) ingest: Ingest,
    pub(crate) board: Board,
    pub(crate) figures: Figures,
}

/// Registers what `sources` know.
pub(crate) fn sample(registry: &mut Registry, sources: Sources) {
    let Sources { clock, store, fleet, ingest, board, figures } = sources;
    let registry = registry.sub_registry_with_prefix(PREFIX);
    figures.register(registry);
    let states = [State::Pending, State::Arming, State::Running, State::Draining, State::Correlating];
    let by_state = move || {
        let captures = board.unfinished();
        let count = |state| captures.iter().filter(|capture| capture.state == state).count() as f64;
        states.map(|state| (state_label(state), count(state)))
    };
    sampled::gauges(registry, "captures", "Captures that have not ended, by state", "state", by_state);
    let (known, time) = (fleet.clone(), clock.clone());
    sampled::gauges(registry, "nodes", "Nodes that ever registered, by state", "state", move || {
        let census = known.census(time.now());
        [
            ("ready", census.ready as f64),
            ("connecting", census.connecting as f64),
            ("elsewhere", census.elsewhere as f64),
            ("offline", census.offline as f64),
            ("gone", census.gone as f64),
        ]
    });
    let help = "Largest bound of the clock error of a connected node; 0 without one";
    sampled::gauge(registry, "clock_error_seconds", help, move || {
        fleet.census(clock.now()).clock_error_nanos as f64 / 1e9
    });
    let help = "Memory of batches between arrival and acknowledgement";
    sampled::gauge(registry, "ingest_queue_bytes", help, move || ingest.queued_bytes() as f64);
    sampled::gauges(registry, "database_connections", "Open connections, by use", "state", move || {
        let pool = store.connections();
        [("in_use", f64::from(pool.in_use)), ("idle", f64::from(pool.idle))]
    });
    let help = "Statements and transactions that failed, those included that succeeded when tried again";
    sampled::counter(registry, "database_errors", help, || store::errors() as f64);
}

fn state_label(state: State) -> &'static str {
    match state {
        State::Pending => "pending",
        State::Arming => "arming",
        State::Armed => "armed",
        State::Running => "running",
        State::Draining => "draining",
        State::Correlating => "correlating",
        State::Completed => "completed",
        State::Failed => "failed",
        State::Cancelled => "cancelled",
    }
}
