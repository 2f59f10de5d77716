//! Metrics that are looked up when somebody asks, because their value lies elsewhere.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// Registers a gauge of one value.
pub fn gauge(
    registry: &mut Registry,
    name: &'static str,
    help: &'static str,
    read: impl Fn() -> f64 + Send + Sync + 'static,
) {
    let encode = move |mut encoder: DescriptorEncoder<'_>| {
        let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(read()).encode(metric)
    };
    registry.register_collector(Box::new(Sampled { name, encode }));
}

/// Registers a gauge with a value for each value of `label`; `read` names the same ones every time.
pub fn gauges<const N: usize>(
    registry: &mut Registry,
    name: &'static str,
    help: &'static str,
    label: &'static str,
    read: impl Fn() -> [(&'static str, f64); N] + Send + Sync + 'static,
) {
    let encode = move |mut encoder: DescriptorEncoder<'_>| {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (value, count) in read() {
            ConstGauge::new(count).encode(metric.encode_family(&[(label, value)])?)?;
        }
        Ok(())
    };
    registry.register_collector(Box::new(Sampled { name, encode }));
}

/// Registers a counter that somebody else keeps. `name` is without `_total`.
pub fn counter(
    registry: &mut Registry,
    name: &'static str,
    help: &'static str,
    read: impl Fn() -> f64 + Send + Sync + 'static,
) {
    let encode = move |mut encoder: DescriptorEncoder<'_>| {
        let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(read()).encode(metric)
    };
    registry.register_collector(Box::new(Sampled { name, encode }));
}

struct Sampled<F> {
    name: &'static str,
    encode: F,
}

impl<F> fmt::Debug for Sampled<F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Sampled").field(&self.name).finish()
    }
}

impl<F> Collector for Sampled<F>
where
    F: Fn(DescriptorEncoder<'_>) -> fmt::Result + Send + Sync + 'static,
{
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        (self.encode)(encoder)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn values_are_those_of_the_moment_with_the_prefix_of_the_registry() {
        let mut registry = Registry::default();
        let ours = registry.sub_registry_with_prefix("ours");
        gauge(ours, "room", "Room", || 1.5);
        gauges(ours, "seats", "Seats", "state", || [("free", 2.0), ("taken", 0.0)]);
        counter(ours, "visits", "Visits", || 3.0);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "# TYPE ours_room gauge",
            "ours_room 1.5",
            "ours_seats{state=\"free\"} 2.0",
            "ours_seats{state=\"taken\"} 0.0",
            "# TYPE ours_visits counter",
            "ours_visits_total 3.0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
        }
    }
}
