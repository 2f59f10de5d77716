//! What the admin port shows of the coordinator.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Counters and gauges; clones share their values.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Connected agents.
    pub agents: Gauge,
    /// Captures that have not ended.
    pub captures: Gauge,
    /// Batches on stable storage.
    pub committed_batches: Counter,
    /// Observations on stable storage.
    pub committed_observations: Counter,
    /// Bytes of batches on stable storage.
    pub committed_bytes: Counter,
    /// Batches that were refused, by where.
    pub refused_batches: Family<[(&'static str, &'static str); 1], Counter>,
    /// Batches that could not be stored.
    pub failed_batches: Counter,
    /// Connections beyond the limit of their identity.
    pub refused_connections: Counter,
    /// Connections that ended in the handshake, by what was wrong.
    pub refused_handshakes: Family<[(&'static str, &'static str); 1], Counter>,
    /// From the end of a group to its commit.
    pub commit_seconds: Histogram,
    /// Correlation runs.
    pub correlation_seconds: Histogram,
}

impl Metrics {
    /// Registered in `registry` under `lastseen_coordinator_…`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            agents: Gauge::default(),
            captures: Gauge::default(),
            committed_batches: Counter::default(),
            committed_observations: Counter::default(),
            committed_bytes: Counter::default(),
            refused_batches: Family::default(),
            failed_batches: Counter::default(),
            refused_connections: Counter::default(),
            refused_handshakes: Family::default(),
            commit_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            correlation_seconds: Histogram::new(exponential_buckets(0.01, 2.0, 16)),
        };
        let registry = registry.sub_registry_with_prefix("lastseen_coordinator");
        registry.register("agents", "Connected agents", metrics.agents.clone());
        registry.register("captures", "Captures that have not ended", metrics.captures.clone());
        registry.register(
            "committed_batches",
            "Batches on stable storage",
            metrics.committed_batches.clone(),
        );
        registry.register(
            "committed_observations",
            "Observations on stable storage",
            metrics.committed_observations.clone(),
        );
        registry.register(
            "committed_bytes",
            "Bytes of batches on stable storage",
            metrics.committed_bytes.clone(),
        );
        registry.register("refused_batches", "Batches refused, by stage", metrics.refused_batches.clone());
        registry.register(
            "failed_batches",
            "Batches that could not be stored; agents send them again",
            metrics.failed_batches.clone(),
        );
        registry.register(
            "refused_connections",
            "Connections beyond the limit of their identity",
            metrics.refused_connections.clone(),
        );
        registry.register(
            "refused_handshakes",
            "Connections that ended in the TLS handshake, by reason",
            metrics.refused_handshakes.clone(),
        );
        registry.register(
            "commit_seconds",
            "Time to make a group of batches durable",
            metrics.commit_seconds.clone(),
        );
        registry.register(
            "correlation_seconds",
            "Time of a correlation run",
            metrics.correlation_seconds.clone(),
        );
        metrics
    }

    /// A batch was refused at `stage`: `check` or `admission`.
    pub fn refused(&self, stage: &'static str) {
        self.refused_batches.get_or_create(&[("stage", stage)]).inc();
    }

    /// A peer did not get through the handshake; `reason` is [`lastseen_runtime::refusal::Refusal::kind`].
    pub fn refused_handshake(&self, reason: &'static str) {
        self.refused_handshakes.get_or_create(&[("reason", reason)]).inc();
    }
}
