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
use crate::access::caller;
use crate::error::Error;
use crate::jobs::resolve;
use crate::limits;
use crate::model::Capture;
use crate::store::Cursor;
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
        let who = caller(&call)?.to_string();
        let v1::StartCaptureRequest { spec, dry_run } = call.into_inner();
        let spec = spec.ok_or_else(|| Error::invalid("spec", "missing; say what to capture"))?;
        let now = self.0.clock.now();
        let spec = resolve(request(spec)?, &self.0.fleet.nodes(now), now)?;
        let capture = if dry_run {
            message(&self.0.jobs.rehearse(spec, &who).await?)
        } else {
            message(&*self.0.jobs.start(spec, &who).await?)
        };
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
        let stopping = self.0.stopping.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = follow(view, &sender) => {}
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
        let who = caller(&call)?.to_string();
        let id = call.into_inner().capture_id;
        tracing::info!(capture = id, who, "audit: stop-capture");
        let capture = self.0.jobs.stop(&id, &who).await?;
        Ok(Response::new(v1::StopCaptureResponse { capture: Some(message(&capture)) }))
    }

    async fn delete_capture(
        &self,
        call: Request<v1::DeleteCaptureRequest>,
    ) -> Result<Response<v1::DeleteCaptureResponse>, Status> {
        let who = caller(&call)?.to_string();
        let id = call.into_inner().capture_id;
        tracing::info!(capture = id, who, "audit: delete-capture");
        self.0.jobs.delete(&id).await?;
        Ok(Response::new(v1::DeleteCaptureResponse {}))
    }
}

/// The capture now and at each change, until it has ended.
async fn follow(
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
            let _ = sender.send(Err(Error::Stopping.into())).await;
            return;
        }
    }
}
