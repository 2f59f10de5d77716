//! Logs to standard error, and traces to an OpenTelemetry collector where one is named.
//!
//! Spans are few and long: a command, a call, the phases of a capture. None is made per packet or per batch. They all have
//! the target [`TRACE`], which keeps them out of the log and everything else out of the traces: what a collector sees is
//! what these spans were given on purpose. Without a collector they are disabled where they are made.

mod context;
mod export;
mod json;
mod spans;

use clap::ValueEnum;
use opentelemetry::trace::TracerProvider as _;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, filter_fn};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

pub use self::context::{adopt, inject, traceparent};
use self::export::Exporter;
pub use self::export::TelemetryError;
pub use self::spans::register;

/// The target of spans that go to the collector.
pub const TRACE: &str = "lastseen::trace";

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Sends what is still to be sent when it is dropped, within a second.
#[derive(Debug)]
#[must_use = "traces end with it"]
pub struct Telemetry(Option<Exporter>);

/// Starts logging. `RUST_LOG` decides what is shown, or `default` (as `info`) without it. Traces of `program` go to the
/// OTLP collector at `endpoint` (`http://HOST:PORT`, gRPC), or to the one that the standard variable
/// `OTEL_EXPORTER_OTLP_ENDPOINT` names, or nowhere; the other variables of the OTLP exporter hold as well (OpenTelemetry
/// specification, protocol/exporter).
pub fn init(
    program: &'static str,
    format: LogFormat,
    default: &str,
    endpoint: Option<&str>,
) -> Result<Telemetry, TelemetryError> {
    let exporter = Exporter::start(program, endpoint)?;
    let traces = exporter.as_ref().map(|exporter| {
        let is_ours = |metadata: &tracing::Metadata<'_>| metadata.is_span() && metadata.target() == TRACE;
        tracing_opentelemetry::layer()
            .with_tracer(exporter.provider.tracer("lastseen"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(is_ours).with_max_level_hint(LevelFilter::INFO))
    });
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let is_log = filter_fn(|metadata| metadata.target() != TRACE).with_max_level_hint(LevelFilter::TRACE);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).boxed(),
        LogFormat::Json => lines.json().map_event_format(json::Traced).boxed(),
    };
    tracing_subscriber::registry().with(traces).with(lines.with_filter(filter.and(is_log))).init();
    Ok(Telemetry(exporter))
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(exporter) = self.0.take() {
            exporter.finish();
        }
    }
}
