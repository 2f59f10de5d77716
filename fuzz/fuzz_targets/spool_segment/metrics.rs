//! The figures that the spool keeps.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

/// As the agent has them.
#[derive(Default)]
pub struct Metrics {
    pub spool_bytes: Gauge,
    pub spool_batches: Gauge,
    pub spool_halvings: Gauge,
    pub spool_recovered_batches: Counter,
    pub spool_damaged_records: Counter,
    pub spool_write_failures: Counter,
}
