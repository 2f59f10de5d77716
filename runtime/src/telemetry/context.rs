//! One trace over several programs: W3C Trace Context, `traceparent`, in gRPC metadata and in messages.

use std::collections::HashMap;
use std::str::FromStr as _;

use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::metadata::{MetadataMap, MetadataValue};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Header, metadata key and the name of the value everywhere (W3C Trace Context §3.2).
const TRACEPARENT: &str = "traceparent";

/// What other programs need to go on with the trace of `span`. Absent when it is not traced.
pub fn traceparent(span: &Span) -> Option<String> {
    if span.is_disabled() {
        return None;
    }
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&span.context(), &mut carrier);
    carrier.remove(TRACEPARENT)
}

/// Makes `span` a child of what another program called `traceparent`. What is no `traceparent` is ignored, and so is
/// one that comes after the span was entered.
pub fn adopt(span: &Span, traceparent: &str) {
    if span.is_disabled() {
        return;
    }
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    if parent.span().span_context().is_valid() {
        // Told too late; the span stays where it is.
        let _ = span.set_parent(parent);
    }
}

/// Sends the trace that is under way here along with a call.
pub fn inject(metadata: &mut MetadataMap) {
    let value = traceparent(&Span::current());
    if let Some(value) = value.and_then(|value| MetadataValue::from_str(&value).ok()) {
        metadata.insert(TRACEPARENT, value);
    }
}
