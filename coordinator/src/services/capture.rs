//! `CaptureService`: the jobs.

use std::sync::Arc;
use std::time::Duration;

use lastseen_proto::v1;
use lastseen_proto::v1::capture_service_server::CaptureService;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Context, Responses, page};
use crate::access::{Caller, caller};
use crate::error::Error;
use crate::jobs::{Jobs, resolve};
use crate::limits;
use crate::model::{Capture, Spec};
use crate::store::Cursor;
use crate::time::display_span;
use crate::wire::capture::{message, request};

/// A watcher hears of a capture at least this often.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// `CaptureService`.
pub struct CaptureApi(pub Context);

#[tonic::async_trait]
impl CaptureService for CaptureApi {
    type WatchCaptureStream = Responses<v1::WatchCaptureResponse>;

    async fn start_capture(
        &self,
        call: Request<v1::StartCaptureRequest>,
    ) -> Result<Response<v1::StartCaptureResponse>, Status> {
        let caller = caller(&call)?;
        let v1::StartCaptureRequest { spec, dry_run, request_id } = call.into_inner();
        check_request_id(&request_id)?;
        let spec = spec.ok_or_else(|| Error::invalid("spec", "missing; say what to capture"))?;
        let now = self.0.clock.now();
        let spec = resolve(request(spec)?, &self.0.fleet.nodes(now), now)?;
        let request = Some(request_id.as_str()).filter(|id| !id.is_empty());
        let capture = message(&*self.launch(&caller, spec, dry_run, request).await?);
        Ok(Response::new(v1::StartCaptureResponse { capture: Some(capture) }))
    }

    async fn list_captures(
        &self,
        call: Request<v1::ListCapturesRequest>,
    ) -> Result<Response<v1::ListCapturesResponse>, Status> {
        let v1::ListCapturesRequest { page_size, page_token } = call.into_inner();
        let size = page::size(page_size, limits::DEFAULT_CAPTURES_PAGE, limits::CAPTURES_PAGE)?;
        let after = page::cursor(&page_token)?;
        let stored = self.0.store.captures(after.as_ref(), size).await.map_err(Error::from)?;
        let last = stored.last().filter(|_| stored.len() == size as usize);
        let next_page_token = last.map_or_else(String::new, |capture| {
            page::cursor_token(&Cursor { created_at_nanos: capture.created_at_nanos, id: capture.id.clone() })
        });
        // What runs is fresher on the board than in the store.
        let fresh = |capture: &Capture| match self.0.jobs.board().get(&capture.id) {
            Some(handle) => message(&handle.view.borrow()),
            None => message(capture),
        };
        let captures = stored.iter().map(fresh).collect();
        Ok(Response::new(v1::ListCapturesResponse { captures, next_page_token }))
    }

    async fn get_capture(
        &self,
        call: Request<v1::GetCaptureRequest>,
    ) -> Result<Response<v1::GetCaptureResponse>, Status> {
        let capture = self.0.jobs.get(&call.into_inner().capture_id).await?;
        Ok(Response::new(v1::GetCaptureResponse { capture: Some(message(&capture)) }))
    }

    async fn watch_capture(
        &self,
        call: Request<v1::WatchCaptureRequest>,
    ) -> Result<Response<Self::WatchCaptureStream>, Status> {
        let view = self.0.jobs.watch(&call.into_inner().capture_id).await?;
        let (sender, stream) = mpsc::channel(1);
        let (stopping, jobs) = (self.0.stopping.clone(), self.0.jobs.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = follow(&jobs, view, &sender) => {}
                () = sender.closed() => {}
                () = stopping.cancelled() => {
                    let _ = sender.try_send(Err(Error::Stopping.into()));
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn stop_capture(
        &self,
        call: Request<v1::StopCaptureRequest>,
    ) -> Result<Response<v1::StopCaptureResponse>, Status> {
        let caller = caller(&call)?;
        let id = call.into_inner().capture_id;
        // What runs must be stopped even if that cannot be recorded.
        let stopped = self.0.jobs.stop(&id, &caller.identity.to_string()).await;
        self.0.guard.audit.end(&caller, "stop-capture", &id, &stopped).await;
        let capture = stopped?;
        Ok(Response::new(v1::StopCaptureResponse { capture: Some(message(&capture)) }))
    }

    async fn delete_capture(
        &self,
        call: Request<v1::DeleteCaptureRequest>,
    ) -> Result<Response<v1::DeleteCaptureResponse>, Status> {
        let (caller, audit) = (caller(&call)?, &self.0.guard.audit);
        let id = call.into_inner().capture_id;
        audit.begin(&caller, "delete-capture", &id, String::new()).await?;
        let deleted = self.0.jobs.delete(&id).await;
        audit.end(&caller, "delete-capture", &id, &deleted).await;
        deleted?;
        Ok(Response::new(v1::DeleteCaptureResponse {}))
    }
}

impl CaptureApi {
    /// Starts a job or rehearses it, and puts on record that it was asked for and what became of it.
    async fn launch(
        &self,
        caller: &Caller,
        spec: Spec,
        dry_run: bool,
        request: Option<&str>,
    ) -> Result<Arc<Capture>, Error> {
        let (guard, who) = (&self.0.guard, caller.identity.to_string());
        let action = if dry_run { "dry-run" } else { "start-capture" };
        let allowed = guard.check_payload(caller, &spec);
        if allowed.is_err() {
            guard.metrics.refused_call("policy");
            guard.audit.end(caller, action, "", &allowed).await;
        }
        allowed?;
        guard.audit.begin(caller, action, "", asked(&spec)).await?;
        let launched = if dry_run {
            self.0.jobs.rehearse(spec, &who).await.map(Arc::new)
        } else {
            self.0.jobs.start(spec, &who, request).await
        };
        let id = launched.as_ref().map_or("", |capture| capture.id.as_str());
        guard.audit.end(caller, action, id, &launched).await;
        launched
    }
}

/// What a job asks for, in one line.
fn asked(spec: &Spec) -> String {
    let Spec { filter, snap_length, duration_nanos, nodes, .. } = spec;
    let (duration, nodes) = (display_span(*duration_nanos), nodes.join(","));
    format!("filter={filter:?} snap_length={snap_length} duration={duration} nodes={nodes}")
}

/// A name that is short and plain.
pub(super) fn check_request_id(id: &str) -> Result<(), Error> {
    if id.len() <= limits::REQUEST_ID_BYTES && id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    let reason =
        format!("give at most {} printable ASCII characters, a UUID for example", limits::REQUEST_ID_BYTES);
    Err(Error::invalid("request_id", reason))
}

/// The capture now and at each change, until it has ended.
async fn follow(
    jobs: &Jobs,
    mut view: watch::Receiver<Arc<Capture>>,
    sender: &mpsc::Sender<Result<v1::WatchCaptureResponse, Status>>,
) {
    loop {
        let capture = view.borrow_and_update().clone();
        let response = v1::WatchCaptureResponse { capture: Some(message(&capture)) };
        if sender.send(Ok(response)).await.is_err() || capture.state.is_final() {
            return;
        }
        let change = timeout(WATCH_INTERVAL, view.changed()).await;
        if matches!(change, Ok(Err(_))) && !view.borrow().state.is_final() {
            // Led by another now; as it is there.
            match jobs.watch(&capture.id).await {
                Ok(next) if next.has_changed().is_ok() || next.borrow().state.is_final() => view = next,
                _ => return drop(sender.send(Err(Error::Stopping.into())).await),
            }
        }
    }
}
