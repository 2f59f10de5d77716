//! The way to an OTLP collector, on a thread of its own.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use opentelemetry_otlp::{
    OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, SpanExporter, WithExportConfig as _,
    WithTonicConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SdkTracerProvider};
use tokio::runtime::Runtime;
use tonic::transport::{Certificate, ClientTlsConfig, Identity, Uri};

use super::spans::{Delivery, Ended};

/// What is left at the end is sent within this time, or lost.
const FLUSH: Duration = Duration::from_secs(1);
/// Where Debian and its kin keep the authorities that a machine trusts.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Traces cannot be sent. One line with the next step.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// No URL of a collector.
    #[error("otlp-endpoint: {0:?} is not a collector's URL; give for example http://127.0.0.1:4317")]
    Endpoint(String),
    /// A file that a variable names.
    #[error("otlp-endpoint: {variable}: cannot read {path}: {source}; give a PEM file")]
    Unreadable {
        /// The variable.
        variable: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The exporter does not take its settings.
    #[error("otlp-endpoint: {0}; check the variables that begin with OTEL_EXPORTER_OTLP")]
    Settings(String),
    /// No thread to send from.
    #[error("otlp-endpoint: cannot start the exporter: {0}")]
    Thread(#[from] std::io::Error),
}

/// Sends spans until it is finished.
#[derive(Debug)]
pub(super) struct Exporter {
    pub(super) provider: SdkTracerProvider,
    /// Outlives the program's own runtime, so that the last spans still leave.
    runtime: Runtime,
}

impl Exporter {
    /// Absent when no collector is named.
    pub(super) fn start(
        program: &'static str,
        endpoint: Option<&str>,
    ) -> Result<Option<Self>, TelemetryError> {
        let Some(endpoint) = named(endpoint) else { return Ok(None) };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("otlp")
            .enable_all()
            .build()?;
        let exporter = {
            let _entered = runtime.enter();
            exporter(&endpoint)?
        };
        let delivery = Delivery { exporter, endpoint, told: Mutex::default() };
        let provider = SdkTracerProvider::builder()
            .with_resource(resource(program))
            .with_span_processor(Ended(BatchSpanProcessor::builder(delivery).build()))
            .build();
        Ok(Some(Self { provider, runtime }))
    }

    /// Sends what waits.
    pub(super) fn finish(self) {
        // What could not be sent in time is lost, and the log has said why.
        let _ = self.provider.shutdown_with_timeout(FLUSH);
        self.runtime.shutdown_background();
    }
}

/// The flag over the variables, the particular variable over the general one.
fn named(flag: Option<&str>) -> Option<String> {
    if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return None;
    }
    flag.map(str::to_owned)
        .filter(|endpoint| !endpoint.is_empty())
        .or_else(|| variable(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT))
        .or_else(|| variable(OTEL_EXPORTER_OTLP_ENDPOINT))
}

fn exporter(endpoint: &str) -> Result<SpanExporter, TelemetryError> {
    let is_url = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
    let uri = endpoint.parse::<Uri>().ok().filter(is_url);
    let uri = uri.ok_or_else(|| TelemetryError::Endpoint(endpoint.to_owned()))?;
    let mut builder = SpanExporter::builder().with_tonic().with_endpoint(endpoint);
    if uri.scheme_str() == Some("https") {
        builder = builder.with_tls_config(tls()?);
    }
    builder.build().map_err(|error| TelemetryError::Settings(error.to_string()))
}

/// The authorities of the standard variable, or those of the machine; and our certificate, if the collector asks for one.
fn tls() -> Result<ClientTlsConfig, TelemetryError> {
    let authorities = pem("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE")?;
    let authorities = match authorities {
        Some(pem) => pem,
        None => read("OTEL_EXPORTER_OTLP_CERTIFICATE", SYSTEM_AUTHORITIES.into())?,
    };
    let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authorities));
    let certificate =
        pem("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE")?;
    let key = pem("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_KEY")?;
    Ok(match certificate.zip(key) {
        Some((certificate, key)) => config.identity(Identity::from_pem(certificate, key)),
        None => config,
    })
}

fn pem(particular: &'static str, general: &'static str) -> Result<Option<Vec<u8>>, TelemetryError> {
    let named = [particular, general].into_iter().find_map(|name| Some((name, variable(name)?)));
    named.map(|(name, path)| read(name, path.into())).transpose()
}

fn read(variable: &'static str, path: PathBuf) -> Result<Vec<u8>, TelemetryError> {
    std::fs::read(&path).map_err(|source| TelemetryError::Unreadable { variable, path, source })
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Who sends. The standard variables `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` have the last word.
fn resource(program: &'static str) -> Resource {
    let ours = [
        opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        opentelemetry::KeyValue::new("service.namespace", "lastseen"),
    ];
    let builder = Resource::builder().with_attributes(ours);
    match variable("OTEL_SERVICE_NAME") {
        Some(_) => builder.build(),
        None => builder.with_service_name(program).build(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_collectors_url_is_refused_with_an_example() {
        for given in
            ["collector", "collector:4317", "ftp://collector", "http://", "http:/x", "unix:///run/otel"]
        {
            let error = exporter(given).expect_err(given).to_string();
            assert!(error.contains(given) && error.contains("http://127.0.0.1:4317"), "{error}");
        }
    }
}
