//! The metric that tells when certificates end, looked up at each scrape.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use crate::identity::Identity;

/// A certificate and its end.
pub type End = (Identity, SystemTime);

struct Ends<F>(F);

impl<F> fmt::Debug for Ends<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ends")
    }
}

/// Shows `lastseen_certificate_not_after_seconds{role,name}` in Unix time, of the certificates that `ends` names, each
/// identity once. `registry` must have no prefix.
pub fn register(registry: &mut Registry, ends: impl Fn() -> Vec<End> + Send + Sync + 'static) {
    registry.register_collector(Box::new(Ends(ends)));
}

impl<F: Fn() -> Vec<End> + Send + Sync + 'static> Collector for Ends<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut family = encoder.encode_descriptor(
            "lastseen_certificate_not_after",
            "End of a certificate in Unix time: this process's own, and those of connected agents",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        for (identity, not_after) in (self.0)() {
            let seconds = not_after.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            let labels = [("role", identity.role.as_str()), ("name", identity.name.as_str())];
            let gauge = ConstGauge::new(i64::try_from(seconds).unwrap_or(i64::MAX));
            gauge.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::identity::Role;

    #[test]
    fn every_certificate_is_a_line() {
        let mut registry = Registry::default();
        register(&mut registry, || {
            [(Role::Coordinator, "", 5), (Role::Agent, "node-a", 7)]
                .map(|(role, name, at)| {
                    (Identity::new("x", role, name), UNIX_EPOCH + Duration::from_secs(at))
                })
                .to_vec()
        });
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in ["{role=\"coordinator\",name=\"\"} 5\n", "{role=\"agent\",name=\"node-a\"} 7\n"] {
            assert!(text.contains(&format!("\nlastseen_certificate_not_after_seconds{line}")), "{text}");
        }
    }
}
