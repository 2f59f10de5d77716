//! What the agent counts for its admin port.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::capture::counters::Counters;

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
    /// Bytes of batches that wait for their acknowledgement.
    pub outbox_bytes: Gauge,
    /// 1 while the control stream is up.
    pub connected: Gauge,
    /// Tries to connect that came to no session, and sessions that another agent took over.
    pub connection_failures: Counter,
    /// Seconds that the agent last waited, or waits, before it tries to connect again.
    pub retry_delay_seconds: Gauge<f64, AtomicU64>,
}

impl Metrics {
    /// Metrics and the registry that shows them.
    pub fn registered() -> (std::sync::Arc<Self>, Registry) {
        let (metrics, mut registry) = (Self::default(), Registry::with_prefix("lastseen_agent"));
        registry.register("packets", "Packets of captures by what became of them", metrics.packets.clone());
        let counters = [
            ("batches_sent", "Batches handed to a connection, repeated ones included", &metrics.batches_sent),
            (
                "batches_committed",
                "Batches the coordinator has on stable storage",
                &metrics.batches_committed,
            ),
            ("batches_refused", "Batches the coordinator will never accept", &metrics.batches_refused),
            (
                "connection_failures",
                "Tries to connect that came to no session, and sessions that another agent took over",
                &metrics.connection_failures,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "outbox_bytes",
            "Bytes of batches not yet acknowledged",
            metrics.outbox_bytes.clone(),
        );
        registry.register("connected", "1 while connected to a coordinator", metrics.connected.clone());
        registry.register(
            "retry_delay_seconds",
            "Last pause before a try to connect",
            metrics.retry_delay_seconds.clone(),
        );
        (metrics.into(), registry)
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
            if count > 0 {
                self.packets.get_or_create(&Outcome { outcome }).inc_by(count);
            }
        }
    }
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
