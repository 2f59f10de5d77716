//! What becomes of spans, counted: a collector that is away costs nothing else.

use std::fmt;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::Context;
use opentelemetry_otlp::SpanExporter as Otlp;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Between two lines about the same trouble.
const PAUSE: Duration = Duration::from_mins(1);

/// Of the process, as its subscriber is.
static SPANS: LazyLock<Family<[(&'static str, &'static str); 1], Counter>> = LazyLock::new(Family::default);

fn count(outcome: &'static str, spans: usize) {
    SPANS.get_or_create(&[("outcome", outcome)]).inc_by(spans as u64);
}

/// Shows the spans of this process in `registry`.
pub fn register(registry: &mut Registry) {
    for outcome in ["ended", "delivered", "failed"] {
        count(outcome, 0);
    }
    let help = "Spans that ended, that the collector took, and that could not be delivered";
    registry.register("lastseen_trace_spans", help, SPANS.clone());
}

/// Counts spans on their way into the queue, which drops those it has no room for.
#[derive(Debug)]
pub(super) struct Ended(pub(super) BatchSpanProcessor);

impl SpanProcessor for Ended {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.0.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        count("ended", 1);
        self.0.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

/// Counts spans that leave or cannot, and says so once a minute at most.
pub(super) struct Delivery {
    pub(super) exporter: Otlp,
    pub(super) endpoint: String,
    pub(super) told: Mutex<Option<Instant>>,
}

impl fmt::Debug for Delivery {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Delivery").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl SpanExporter for Delivery {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let delivered = self.exporter.export(batch).await;
        match &delivered {
            Ok(()) => count("delivered", spans),
            Err(error) => {
                count("failed", spans);
                self.complain(&error.to_string());
            }
        }
        delivered
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl Delivery {
    fn complain(&self, reason: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= PAUSE) {
            *told = Some(Instant::now());
            drop(told);
            let endpoint = &self.endpoint;
            tracing::warn!(
                endpoint,
                reason,
                "spans are lost: the trace collector does not take them; see --otlp-endpoint"
            );
        }
    }
}
