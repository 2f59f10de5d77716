//! What the agent counts for its admin port. docs/METRICS.md says what each figure means; a test holds both together.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use lastseen_runtime::{process, sampled};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::capture::counters::Counters;
use crate::job::board::Board;
use crate::job::status::State;
use crate::probe;
use crate::spool::Spool;

/// Before the name of every figure.
const PREFIX: &str = "lastseen_agent";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// Metrics of one agent.
#[derive(Default)]
pub struct Metrics {
    packets: Family<Outcome, Counter>,
    /// Batches handed to a connection, repeated ones included.
    pub batches_sent: Counter,
    /// Batches the coordinator acknowledged.
    pub batches_committed: Counter,
    /// Batches the coordinator refused.
    pub batches_refused: Counter,
    /// Bytes of the spool's files.
    pub spool_bytes: Gauge,
    /// Batches that wait for their acknowledgement.
    pub spool_batches: Gauge,
    /// By how many halvings less captures record because the spool fills.
    pub spool_halvings: Gauge,
    /// Batches of an earlier process that were found in the spool.
    pub spool_recovered_batches: Counter,
    /// Records of the spool that were left out because they are not what was written or could not be read time and again,
    /// and whole segments that could not be read at the start.
    pub spool_damaged_records: Counter,
    /// Tries to write to the spool that failed.
    pub spool_write_failures: Counter,
    /// 1 while the control stream is up.
    pub connected: Gauge,
    /// Sessions that began.
    pub connections: Counter,
    /// Tries to connect that came to no session, and sessions that another agent took over.
    pub connection_failures: Counter,
    /// Seconds that the agent last waited, or waits, before it tries to connect again.
    pub retry_delay_seconds: Gauge<f64, AtomicU64>,
}

impl Metrics {
    /// Metrics and the registry that shows them, and what the process says of itself.
    pub fn registered() -> (Arc<Self>, Registry) {
        let (metrics, mut root) = (Self::default(), Registry::default());
        process::register(&mut root);
        let registry = root.sub_registry_with_prefix(PREFIX);
        metrics.count(&Counters::default());
        registry.register("packets", "Packets of captures by what became of them", metrics.packets.clone());
        for (name, help, counter) in metrics.counters() {
            registry.register(name, help, counter.clone());
        }
        for (name, help, gauge) in metrics.gauges() {
            registry.register(name, help, gauge.clone());
        }
        let delay = metrics.retry_delay_seconds.clone();
        registry.register("retry_delay_seconds", "Last pause before a try to connect", delay);
        (metrics.into(), root)
    }

    fn counters(&self) -> [(&'static str, &'static str, &Counter); 8] {
        [
            ("batches_sent", "Batches handed to a connection, repeated ones included", &self.batches_sent),
            ("batches_committed", "Batches the coordinator has on stable storage", &self.batches_committed),
            ("batches_refused", "Batches the coordinator will never accept", &self.batches_refused),
            (
                "spool_recovered_batches",
                "Batches of an earlier process found in the spool",
                &self.spool_recovered_batches,
            ),
            (
                "spool_damaged_records",
                "Records and segments of the spool that are not what was written or cannot be read, left out",
                &self.spool_damaged_records,
            ),
            ("spool_write_failures", "Tries to write to the spool that failed", &self.spool_write_failures),
            ("connections", "Sessions with a coordinator that began", &self.connections),
            (
                "connection_failures",
                "Tries to connect that came to no session, and sessions that another agent took over",
                &self.connection_failures,
            ),
        ]
    }

    fn gauges(&self) -> [(&'static str, &'static str, &Gauge); 4] {
        [
            ("spool_bytes", "Bytes of the spool's files", &self.spool_bytes),
            ("spool_batches", "Batches not yet acknowledged", &self.spool_batches),
            (
                "spool_halvings",
                "By how many halvings less is recorded because the spool fills",
                &self.spool_halvings,
            ),
            ("connected", "1 while connected to a coordinator", &self.connected),
        ]
    }

    /// Adds a slice's packets.
    pub fn count(&self, counters: &Counters) {
        for (outcome, count) in [
            ("recorded", counters.recorded()),
            ("filtered", counters.filtered),
            ("own_connections", counters.own_connections),
            ("undecoded", counters.undecoded),
            ("unreadable", counters.unreadable),
            ("sampled_out", counters.sampled_out),
            ("kernel_drops", counters.kernel_drops),
            ("agent_drops", counters.agent_drops),
        ] {
            self.packets.get_or_create(&Outcome { outcome }).inc_by(count);
        }
    }
}

/// Registers what spool and jobs know when somebody asks.
pub(crate) fn sample(
    registry: &mut Registry,
    spool: &Arc<Spool>,
    board: &Board,
    probes: &probe::board::Board,
) {
    let registry = registry.sub_registry_with_prefix(PREFIX);
    let (limit, oldest, board) = (spool.max_bytes() as f64, spool.clone(), board.clone());
    let help = "Most bytes the spool may take, --spool-max-bytes";
    sampled::gauge(registry, "spool_max_bytes", help, move || limit);
    let help = "How long the batch has waited that came first; 0 when none waits";
    sampled::gauge(registry, "spool_oldest_seconds", help, move || oldest.oldest().as_secs_f64());
    let states = [("armed", State::Armed), ("running", State::Running), ("draining", State::Draining)];
    sampled::gauges(registry, "captures", "Captures under way, by state", "state", move || {
        states.map(|(label, state)| (label, board.count(state) as f64))
    });
    let probes = probes.clone();
    let help = "Reports of probes that were dropped because too many waited for a coordinator";
    sampled::counter(registry, "dropped_probe_reports", help, move || probes.dropped() as f64);
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn what_became_of_packets_adds_up() {
        let (metrics, registry) = Metrics::registered();
        let (received, filtered, own_connections) = (20, 2, 3);
        let counters = Counters {
            received,
            filtered,
            own_connections,
            undecoded: 4,
            unreadable: 5,
            sampled_out: 1,
            ..Counters::default()
        };
        metrics.count(&counters);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for (outcome, count) in [
            ("recorded", 5),
            ("sampled_out", 1),
            ("filtered", 2),
            ("own_connections", 3),
            ("undecoded", 4),
            ("unreadable", 5),
        ] {
            let line = format!("lastseen_agent_packets_total{{outcome=\"{outcome}\"}} {count}\n");
            assert!(text.contains(&line), "{line}{text}");
        }
    }
}
