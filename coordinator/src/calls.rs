//! A span for each call, as a child of the caller's where the call brings a W3C `traceparent`.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use lastseen_runtime::telemetry::{TRACE, adopt};
use tonic::codegen::{Service, http};
use tracing::field::Empty;
use tracing::{Instrument as _, Span, info_span};

use crate::access::Caller;

/// Calls of the fabric's own services; those of others (health, reflection) would only hide them.
const OURS: &str = "/lastseen.v1.";

/// Puts [`Traced`] before every service, behind the access check: nobody who is refused leaves a trace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TraceLayer;

impl<S> tower::Layer<S> for TraceLayer {
    type Service = Traced<S>;

    fn layer(&self, inner: S) -> Traced<S> {
        Traced(inner)
    }
}

/// Traces a call until its answer begins; of a stream that is its first message or its acceptance.
#[derive(Clone, Debug)]
pub(crate) struct Traced<S>(S);

impl<S, B, R> Service<http::Request<B>> for Traced<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>>,
    S::Future: Send + 'static,
    R: 'static,
    S::Error: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let span = span(&request);
        let answering = span.in_scope(|| self.0.call(request));
        if span.is_disabled() {
            return Box::pin(answering);
        }
        let told = span.clone();
        let traced = async move {
            let answer = answering.await;
            if let Ok(answer) = &answer {
                judge(answer, &told);
            }
            answer
        };
        Box::pin(traced.instrument(span))
    }
}

/// A call that fails at once says so in the headers; a stream that fails later does not.
fn judge<B>(answer: &http::Response<B>, span: &Span) {
    let code = answer.headers().get("grpc-status").and_then(|code| code.to_str().ok()?.parse::<i64>().ok());
    let code = code.unwrap_or_default();
    span.record("rpc.grpc.status_code", code);
    if code != 0 {
        span.record("otel.status_code", "ERROR");
    }
}

/// Names after the OpenTelemetry semantic conventions for RPC.
fn span<B>(request: &http::Request<B>) -> Span {
    let Some((service, method)) =
        request.uri().path().strip_prefix(OURS).and_then(|path| path.split_once('/'))
    else {
        return Span::none();
    };
    let span = info_span!(
        target: TRACE,
        "rpc",
        otel.name = format!("{service}/{method}"),
        otel.kind = "server",
        rpc.system = "grpc",
        rpc.service = format!("lastseen.v1.{service}"),
        rpc.method = method,
        enduser.id = Empty,
        rpc.grpc.status_code = Empty,
        otel.status_code = Empty,
    );
    if let Some(caller) =
        request.extensions().get::<Caller>().map(|caller| &caller.identity).filter(|_| !span.is_disabled())
    {
        span.record("enduser.id", caller.to_string());
    }
    if let Some(parent) = request.headers().get("traceparent").and_then(|value| value.to_str().ok()) {
        adopt(&span, parent);
    }
    span
}
