//! `ProbeService.Check`.

use lastseen_proto::v1;
use tonic::{Response, Status};

use super::errand::{Told, answer, begin};
use super::{Context, Responses};
use crate::access::Caller;
use crate::checks::{Check, Request, What};
use crate::error::Error;
use crate::wire;

/// Begins, or goes on with what an earlier call began, and tells each step.
pub(super) async fn check(
    context: &Context,
    caller: Caller,
    message: v1::CheckRequest,
) -> Result<Response<Responses<v1::CheckResponse>>, Status> {
    let v1::CheckRequest { spec, request_id } = message;
    let errand = begin(context, &caller, &request_id)?;
    let spec = spec.ok_or_else(|| Error::invalid("spec", "missing; say what to check"))?;
    let request = wire::check::request(spec, context.api_server.as_deref())?;
    let told = Told {
        action: "check",
        asked: asked(&request),
        object: |report: &v1::CheckReport| &report.capture_id,
        step: |progress| v1::CheckResponse { step: progress.step.to_owned(), report: None },
        last: |report| v1::CheckResponse { step: "done".to_owned(), report: Some(report) },
    };
    answer(context, caller, errand, told, |errand| Check(errand).run(request)).await
}

/// In one line, without certificates.
fn asked(request: &Request) -> String {
    let Request { what, names, endpoints, external, api_server, .. } = request;
    let what = match what {
        What::Hosts { all_nodes: true, .. } => "all nodes".to_owned(),
        What::Hosts { sources, .. } => {
            format!("from={}", sources.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
        }
        What::Path { from, to, .. } => format!("from={from} to={to}"),
    };
    let api_server = api_server.as_ref().map_or("", |server| &server.url);
    format!("{what} names={names:?} endpoints={endpoints:?} api-server={api_server} external={external:?}")
}
