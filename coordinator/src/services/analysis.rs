//! `AnalysisService`: what the observations say.

use lastseen_correlate::{Report, ViewOptions};
use lastseen_proto::v1;
use lastseen_proto::v1::analysis_service_server::AnalysisService;
use prost::Message;
use tonic::{Request, Response, Status};

use super::{Context, page};
use crate::error::Error;
use crate::limits;
use crate::model::{Capture, State};
use crate::store::RecordKind;
use crate::time::display;

/// Records of a page together take at most this many bytes; the next page goes on behind them.
const PAGE_BYTES: usize = limits::MESSAGE_BYTES / 2;

/// `AnalysisService`.
pub struct AnalysisApi(pub Context);

#[tonic::async_trait]
impl AnalysisService for AnalysisApi {
    async fn diff_nodes(
        &self,
        call: Request<v1::DiffNodesRequest>,
    ) -> Result<Response<v1::DiffReport>, Status> {
        let request = call.into_inner();
        let options = options(&request)?;
        let capture = self.choose(&request.capture_id).await?;
        let report = match self.stored(&capture).await? {
            Some(report) => report,
            None => self.partial(&capture).await?,
        };
        let report = if options == ViewOptions::default() { report } else { filtered(report, &options)? };
        Ok(Response::new(report))
    }

    async fn list_flows(
        &self,
        call: Request<v1::ListFlowsRequest>,
    ) -> Result<Response<v1::ListFlowsResponse>, Status> {
        let v1::ListFlowsRequest { capture_id, page_size, page_token } = call.into_inner();
        let (flows, next_page_token) =
            self.records(RecordKind::Flow, &capture_id, page_size, &page_token).await?;
        Ok(Response::new(v1::ListFlowsResponse { flows, next_page_token }))
    }

    async fn list_lost_packets(
        &self,
        call: Request<v1::ListLostPacketsRequest>,
    ) -> Result<Response<v1::ListLostPacketsResponse>, Status> {
        let v1::ListLostPacketsRequest { capture_id, page_size, page_token } = call.into_inner();
        let (packets, next_page_token) =
            self.records(RecordKind::Lost, &capture_id, page_size, &page_token).await?;
        Ok(Response::new(v1::ListLostPacketsResponse { packets, next_page_token }))
    }
}

impl AnalysisApi {
    /// The capture named, or the newest.
    async fn choose(&self, id: &str) -> Result<Capture, Error> {
        if !id.is_empty() {
            return Ok((*self.0.jobs.get(id).await?).clone());
        }
        let newest = self.0.store.captures(None, 1).await?.pop().ok_or(Error::NoCaptures)?;
        Ok((*self.0.jobs.get(&newest.id).await?).clone())
    }

    async fn stored(&self, capture: &Capture) -> Result<Option<v1::DiffReport>, Error> {
        let Some(bytes) = self.0.store.report(&capture.id).await? else { return Ok(None) };
        v1::DiffReport::decode(bytes.as_slice())
            .map(Some)
            .map_err(|e| Error::Internal(format!("the report of {} cannot be read: {e}", capture.id)))
    }

    /// A report on what has passed the guard time so far.
    async fn partial(&self, capture: &Capture) -> Result<v1::DiffReport, Error> {
        let Some(window) = capture.window.filter(|_| !capture.state.is_final()) else {
            return Err(no_report(capture));
        };
        let until = self.0.clock.now() - limits::TAIL_NANOS;
        if until <= window.start_nanos {
            let from = display(window.start_nanos + limits::TAIL_NANOS);
            return Err(Error::Precondition(format!(
                "capture {} has only begun; a first report is possible after {from}",
                capture.id
            )));
        }
        Ok(self.0.analysis.run(capture, Some(until)).await?.report)
    }

    /// A page of records and the token of the next.
    async fn records<T: Message + Default>(
        &self,
        kind: RecordKind,
        id: &str,
        page_size: u32,
        page_token: &str,
    ) -> Result<(Vec<T>, String), Error> {
        let size = page::size(page_size, limits::DEFAULT_RECORDS_PAGE, limits::RECORDS_PAGE)?;
        let from = page::ordinal(page_token)?;
        let capture = self.choose(id).await?;
        if self.0.store.report(&capture.id).await?.is_none() {
            return Err(no_report(&capture));
        }
        let records = self.0.store.records(kind, &capture.id, from, size).await?;
        let mut bytes = 0;
        let fitting = records.iter().take_while(|record| {
            bytes += record.len();
            bytes <= PAGE_BYTES
        });
        let page: Vec<T> = fitting
            .map(|record| T::decode(record.as_slice()))
            .collect::<Result<_, _>>()
            .map_err(|e| Error::Internal(format!("a record of {} cannot be read: {e}", capture.id)))?;
        let is_last = page.len() < size as usize && page.len() == records.len();
        let next = if is_last { String::new() } else { (from + page.len() as u64).to_string() };
        Ok((page, next))
    }
}

fn no_report(capture: &Capture) -> Error {
    let id = &capture.id;
    Error::Precondition(match capture.state {
        State::Failed => format!("capture {id} failed and has no report: {}", capture.reason),
        State::Cancelled => format!("capture {id} has no report: {}", capture.reason),
        _ => format!("capture {id} has not ended; `ctl follow-capture {id}` waits for it"),
    })
}

fn options(request: &v1::DiffNodesRequest) -> Result<ViewOptions, Error> {
    if let Some(ratio) = request.min_loss_ratio.filter(|ratio| !(0.0..=1.0).contains(ratio)) {
        return Err(Error::invalid(
            "min_loss_ratio",
            format!("{ratio} is not from 0 to 1; give 0.001 for 0.1 %"),
        ));
    }
    let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    Ok(ViewOptions {
        from: given(&request.from),
        to: given(&request.to),
        min_loss_ratio: request.min_loss_ratio,
    })
}

fn filtered(report: v1::DiffReport, options: &ViewOptions) -> Result<v1::DiffReport, Error> {
    let report = Report::try_from(report).map_err(|e| Error::Internal(e.to_string()))?;
    Ok(report.filtered(options).into())
}
