//! Calls that are answered step by step, until what was asked for is done.

use std::future::Future;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};
use uuid::Uuid;

use super::capture::check_request_id;
use super::{Context, Responses};
use crate::access::Caller;
use crate::errand::{Errand, Means, Progress};
use crate::error::Error;

/// Bytes of the caller's id that leave room for what the parts of an errand are told apart by.
const REQUEST_ID_BYTES: usize = 48;

/// One that can be found again by `request_id`, if there is one.
pub(super) fn begin(context: &Context, caller: &Caller, request_id: &str) -> Result<Errand, Error> {
    check_request_id(request_id)?;
    if request_id.len() > REQUEST_ID_BYTES {
        let reason = format!("give at most {REQUEST_ID_BYTES} characters");
        return Err(Error::invalid("request_id", reason));
    }
    let name = if request_id.is_empty() { Uuid::new_v4().to_string() } else { request_id.to_owned() };
    let means = Means {
        clock: context.clock.clone(),
        store: context.store.clone(),
        fleet: context.fleet.clone(),
        jobs: context.jobs.clone(),
        probes: context.probes.clone(),
    };
    Ok(Errand::new(means, caller.identity.to_string(), name))
}

/// What a call comes to: how it is written into the audit log, and what each step and the end are in messages.
pub(super) struct Told<T, R> {
    /// Its name in the audit log.
    pub(super) action: &'static str,
    /// What it asks for, in one line.
    pub(super) asked: String,
    /// What the result is about.
    pub(super) object: fn(&T) -> &str,
    pub(super) step: fn(&Progress) -> R,
    pub(super) last: fn(T) -> R,
}

/// Does `work` and tells each step, until it is done or nobody listens.
pub(super) async fn answer<
    T: Send + Sync + 'static,
    R: Send + 'static,
    W: Future<Output = Result<T, Error>> + Send,
>(
    context: &Context,
    caller: Caller,
    errand: Errand,
    told: Told<T, R>,
    work: impl FnOnce(Errand) -> W + Send + 'static,
) -> Result<Response<Responses<R>>, Status> {
    let Told { action, asked, object, step, last } = told;
    let audit = context.guard.audit.clone();
    audit.begin(&caller, action, "", asked).await?;
    let (mut progress, stopping) = (errand.progress(), context.stopping.clone());
    let (sender, stream) = mpsc::channel(1);
    tokio::spawn(async move {
        let following = async {
            let done = {
                let mut work = std::pin::pin!(work(errand));
                loop {
                    tokio::select! {
                        done = &mut work => break done,
                        Ok(()) = progress.changed() => {
                            let step = step(&progress.borrow_and_update());
                            if sender.send(Ok(step)).await.is_err() {
                                return;
                            }
                        }
                    }
                }
            };
            audit.end(&caller, action, done.as_ref().map_or("", object), &done).await;
            let _ = sender.send(done.map(last).map_err(Status::from)).await;
        };
        tokio::select! {
            () = following => {}
            () = sender.closed() => {}
            () = stopping.cancelled() => {
                let _ = sender.try_send(Err(Error::Stopping.into()));
            }
        }
    });
    Ok(Response::new(ReceiverStream::new(stream)))
}
