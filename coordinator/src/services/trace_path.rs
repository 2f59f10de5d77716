//! `ProbeService.TracePath`.

use lastseen_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};
use uuid::Uuid;

use super::capture::check_request_id;
use super::{Context, Responses};
use crate::access::Caller;
use crate::error::Error;
use crate::path_trace::{Means, Progress, Request, Trace};
use crate::wire;

/// Bytes of the caller's id that leave room for what the parts of a trace are told apart by.
const REQUEST_ID_BYTES: usize = 48;

/// Begins, or goes on with what an earlier call began, and tells each step.
pub(super) async fn answer(
    context: &Context,
    caller: Caller,
    message: v1::TracePathRequest,
) -> Result<Response<Responses<v1::TracePathResponse>>, Status> {
    check_request_id(&message.request_id)?;
    if message.request_id.len() > REQUEST_ID_BYTES {
        let reason = format!("give at most {REQUEST_ID_BYTES} characters");
        return Err(Error::invalid("request_id", reason).into());
    }
    let name =
        if message.request_id.is_empty() { Uuid::new_v4().to_string() } else { message.request_id.clone() };
    let request = wire::path_trace::request(message)?;
    let audit = context.guard.audit.clone();
    audit.begin(&caller, "trace-path", "", asked(&request)).await?;
    let means = Means {
        clock: context.clock.clone(),
        store: context.store.clone(),
        fleet: context.fleet.clone(),
        jobs: context.jobs.clone(),
        probes: context.probes.clone(),
    };
    let trace = Trace::new(means, caller.identity.to_string(), name);
    let (mut progress, stopping) = (trace.progress(), context.stopping.clone());
    let (sender, stream) = mpsc::channel(1);
    tokio::spawn(async move {
        let work = async {
            let traced = {
                let mut traced = std::pin::pin!(trace.run(request));
                loop {
                    tokio::select! {
                        traced = &mut traced => break traced,
                        Ok(()) = progress.changed() => {
                            let step = step(&progress.borrow_and_update());
                            if sender.send(Ok(step)).await.is_err() {
                                return;
                            }
                        }
                    }
                }
            };
            let id = traced.as_ref().map_or("", |trace| trace.capture_id.as_str());
            audit.end(&caller, "trace-path", id, &traced).await;
            let last = traced.map(|trace| v1::TracePathResponse {
                capture_id: trace.capture_id.clone(),
                probe_id: trace.probe_id.clone(),
                step: "done".to_owned(),
                trace: Some(trace),
            });
            let _ = sender.send(last.map_err(Status::from)).await;
        };
        tokio::select! {
            () = work => {}
            () = sender.closed() => {}
            () = stopping.cancelled() => {
                let _ = sender.try_send(Err(Error::Stopping.into()));
            }
        }
    });
    Ok(Response::new(ReceiverStream::new(stream)))
}

fn step(progress: &Progress) -> v1::TracePathResponse {
    v1::TracePathResponse {
        capture_id: progress.capture.clone(),
        probe_id: progress.probe.clone(),
        step: progress.step.to_owned(),
        trace: None,
    }
}

/// In one line.
fn asked(request: &Request) -> String {
    let Request { from, to, protocol, sizes, count, .. } = request;
    format!("from={}:{} to={to} protocol={protocol:?} sizes={sizes:?} count={count:?}", from.node, from.netns)
}
