//! `ProbeService.TracePath`.

use lastseen_proto::v1;
use tonic::{Response, Status};

use super::errand::{Told, answer, begin};
use super::{Context, Responses};
use crate::access::Caller;
use crate::errand::Progress;
use crate::path_trace::{Request, Trace};
use crate::wire;

/// Begins, or goes on with what an earlier call began, and tells each step.
pub(super) async fn trace_path(
    context: &Context,
    caller: Caller,
    message: v1::TracePathRequest,
) -> Result<Response<Responses<v1::TracePathResponse>>, Status> {
    let errand = begin(context, &caller, &message.request_id)?;
    let request = wire::path_trace::request(message)?;
    let told = Told {
        action: "trace-path",
        asked: asked(&request),
        object: |trace: &v1::PathTrace| &trace.capture_id,
        step,
        last,
    };
    answer(context, caller, errand, told, |errand| Trace(errand).run(request)).await
}

fn step(progress: &Progress) -> v1::TracePathResponse {
    v1::TracePathResponse {
        capture_id: progress.capture.clone(),
        probe_id: progress.probe.clone(),
        step: progress.step.to_owned(),
        trace: None,
    }
}

fn last(trace: v1::PathTrace) -> v1::TracePathResponse {
    v1::TracePathResponse {
        capture_id: trace.capture_id.clone(),
        probe_id: trace.probe_id.clone(),
        step: "done".to_owned(),
        trace: Some(trace),
    }
}

/// In one line.
fn asked(request: &Request) -> String {
    let Request { from, to, protocol, sizes, count, .. } = request;
    format!("from={}:{} to={to} protocol={protocol:?} sizes={sizes:?} count={count:?}", from.node, from.netns)
}
