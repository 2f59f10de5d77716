//! The admin port: metrics, liveness and readiness over plain HTTP. It shows no packet data and changes nothing.

use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves `/metrics`, `/healthz` and `/readyz` until `shutdown`. `/healthz` says that the process lives. `/readyz` answers
/// 503 while `ready` gives a reason, one line with the next step.
pub async fn serve<F>(
    listener: TcpListener,
    registry: Arc<Registry>,
    ready: impl Fn() -> F + Clone + Send + Sync + 'static,
    shutdown: CancellationToken,
) -> io::Result<()>
where
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    let metrics = move || async move {
        let mut text = String::new();
        match encode(&mut text, &registry) {
            Ok(()) => Ok(([(header::CONTENT_TYPE, OPENMETRICS)], text)),
            Err(_) => Err(StatusCode::INTERNAL_SERVER_ERROR),
        }
    };
    let readiness = move || async move {
        match ready().await {
            Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
            Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
        }
    };
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness));
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}
