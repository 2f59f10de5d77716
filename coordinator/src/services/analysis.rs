//! `AnalysisService`: what the observations say.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use lastseen_correlate::{Report, ViewOptions};
use lastseen_proto::v1::analysis_service_server::AnalysisService;
use lastseen_proto::{convert, v1};
use prost::Message;
use tonic::{Request, Response, Status};

use super::{Context, page};
use crate::access::caller;
use crate::error::Error;
use crate::jobs::names;
use crate::limits;
use crate::model::{Capture, State};
use crate::time::display;
use crate::wire;

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
        let caller = caller(&call)?;
        let request = call.into_inner();
        check_ratio(&request)?;
        let (capture, passed_over) = self.choose(&request.capture_id).await?;
        self.0.guard.audit.download(&caller, "diff-nodes", &capture.id).await?;
        let options = ViewOptions {
            from: end("from", &request.from, &capture)?,
            to: end("to", &request.to, &capture)?,
            min_loss_ratio: request.min_loss_ratio,
        };
        let report = match self.stored(&capture).await? {
            Some(report) => report,
            None => self.partial(&capture).await?,
        };
        let mut report = if options == ViewOptions::default() { report } else { filtered(report, &options)? };
        report.notes.extend(passed_over);
        Ok(Response::new(report))
    }

    async fn list_flows(
        &self,
        call: Request<v1::ListFlowsRequest>,
    ) -> Result<Response<v1::ListFlowsResponse>, Status> {
        let caller = caller(&call)?;
        let v1::ListFlowsRequest { capture_id, page_size, page_token } = call.into_inner();
        let (capture, page) = self.page(&capture_id, page_size, &page_token).await?;
        self.0.guard.audit.download(&caller, "list-flows", &capture).await?;
        let stored = self.0.store.flows(&capture, page.from, page.size).await.map_err(Error::from)?;
        let (flows, next_page_token) = page.cut(stored.into_iter().map(convert::flow_record).collect());
        Ok(Response::new(v1::ListFlowsResponse { flows, next_page_token }))
    }

    async fn list_lost_packets(
        &self,
        call: Request<v1::ListLostPacketsRequest>,
    ) -> Result<Response<v1::ListLostPacketsResponse>, Status> {
        let caller = caller(&call)?;
        let v1::ListLostPacketsRequest { capture_id, page_size, page_token } = call.into_inner();
        let (capture, page) = self.page(&capture_id, page_size, &page_token).await?;
        self.0.guard.audit.download(&caller, "list-lost", &capture).await?;
        let stored = self.0.store.lost(&capture, page.from, page.size).await.map_err(Error::from)?;
        let decoded: Result<Vec<_>, _> =
            stored.iter().map(|record| v1::LostPacket::decode(record.as_slice())).collect();
        let decoded = decoded
            .map_err(|e| Error::Internal(format!("a lost packet of {capture} cannot be read: {e}")))?;
        let (packets, next_page_token) = page.cut(decoded);
        Ok(Response::new(v1::ListLostPacketsResponse { packets, next_page_token }))
    }

    async fn get_topology(
        &self,
        call: Request<v1::GetTopologyRequest>,
    ) -> Result<Response<v1::FabricTopology>, Status> {
        let caller = caller(&call)?;
        let capture_id = self.choose(&call.into_inner().capture_id).await?.0.id;
        self.0.guard.audit.download(&caller, "export-topology", &capture_id).await?;
        let stored = self.0.store.topologies(&capture_id).await.map_err(Error::from)?;
        let topology = topology(capture_id, stored)?;
        Ok(Response::new(topology))
    }
}

/// The snapshots of a capture by name, if a message can hold them.
fn topology(capture_id: String, stored: Vec<(String, Bytes)>) -> Result<v1::FabricTopology, Error> {
    let snapshot = |(node, bytes): (String, Bytes)| {
        let unreadable =
            |e| Error::Internal(format!("the topology of {node} in {capture_id} cannot be read: {e}"));
        let topology = v1::NodeTopology::decode(bytes).map_err(unreadable)?;
        Ok(v1::NodeSnapshot { node, topology: Some(topology) })
    };
    let mut nodes = stored.into_iter().map(snapshot).collect::<Result<Vec<_>, Error>>()?;
    nodes.sort_by(|a, b| a.node.cmp(&b.node));
    if nodes.is_empty() {
        return Err(Error::Precondition(format!(
            "capture {capture_id} has no topology: none of its nodes was armed"
        )));
    }
    let topology = v1::FabricTopology { capture_id, nodes };
    if topology.encoded_len() > limits::MESSAGE_BYTES {
        return Err(Error::Exhausted(format!(
            "the topology of capture {} is larger than a message may be ({} MiB); capture fewer nodes",
            topology.capture_id,
            limits::MESSAGE_BYTES >> 20
        )));
    }
    Ok(topology)
}

/// A part of a list.
struct Page {
    /// Number of its first record, counted from 0.
    from: u64,
    /// Most records.
    size: u32,
}

impl Page {
    /// Cuts `records`, which begin at `from`, to what fits a message. With the token of the next page, empty if this
    /// is the last.
    fn cut<T: Message>(&self, mut records: Vec<T>) -> (Vec<T>, String) {
        let found = records.len();
        let mut bytes = 0;
        let fitting = records.iter().take_while(|record| {
            bytes += record.encoded_len();
            bytes <= PAGE_BYTES
        });
        records.truncate(fitting.count());
        let is_last = found < self.size as usize && records.len() == found;
        let next = if is_last { String::new() } else { (self.from + records.len() as u64).to_string() };
        (records, next)
    }
}

impl AnalysisApi {
    /// The capture named, or the newest that can have a report: a refused one must not hide the last good one. With a
    /// line on the newer one that was passed over.
    async fn choose(&self, id: &str) -> Result<(Capture, Option<String>), Error> {
        if !id.is_empty() {
            return Ok(((*self.0.jobs.get(id).await?).clone(), None));
        }
        let recent = self.0.store.captures(None, limits::DEFAULT_CAPTURES_PAGE).await?;
        let can_report = |capture: &&Capture| !matches!(capture.state, State::Failed | State::Cancelled);
        let newest = recent.first().ok_or(Error::NoCaptures)?;
        let chosen = recent.iter().find(can_report).unwrap_or(newest);
        let passed_over = (chosen.id != newest.id).then(|| {
            format!(
                "this is not the newest capture: {} has no report, {} ({})",
                newest.id,
                if newest.state == State::Failed { "it failed" } else { "it was cancelled" },
                newest.reason
            )
        });
        Ok(((*self.0.jobs.get(&chosen.id).await?).clone(), passed_over))
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
        Ok(self.0.analysis.partial(capture, until).await?.report)
    }

    /// The id of the capture whose records are asked for, and which of them.
    async fn page(&self, id: &str, page_size: u32, page_token: &str) -> Result<(String, Page), Error> {
        let size = page::size(page_size, limits::DEFAULT_RECORDS_PAGE, limits::RECORDS_PAGE)?;
        let from = page::ordinal(page_token)?;
        let (capture, _) = self.choose(id).await?;
        if self.0.store.report(&capture.id).await?.is_none() {
            return Err(no_report(&capture));
        }
        Ok((capture.id, Page { from, size }))
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

fn check_ratio(request: &v1::DiffNodesRequest) -> Result<(), Error> {
    if let Some(ratio) = request.min_loss_ratio.filter(|ratio| !(0.0..=1.0).contains(ratio)) {
        return Err(Error::invalid(
            "min_loss_ratio",
            format!("{ratio} is not from 0 to 1; give 0.001 for 0.1 %"),
        ));
    }
    Ok(())
}

/// An end of a path, as the report writes it: one of the capture's nodes, or an address with or without a port.
fn end(field: &'static str, given: &str, capture: &Capture) -> Result<Option<String>, Error> {
    if given.is_empty() {
        return Ok(None);
    }
    if capture.part(given).is_some() {
        return Ok(Some(given.to_owned()));
    }
    let address = given.parse().map(|address: IpAddr| address.to_string());
    let address = address.or_else(|_| given.parse().map(|address: SocketAddr| address.to_string()));
    address.map(Some).map_err(|_| {
        let shown = wire::bounded(given.to_owned());
        let known = names(capture.spec.nodes.iter().map(String::as_str));
        Error::invalid(
            field,
            format!(
                "{shown:?} is neither a node of capture {} nor an address; its nodes: {known}",
                capture.id
            ),
        )
    })
}

fn filtered(report: v1::DiffReport, options: &ViewOptions) -> Result<v1::DiffReport, Error> {
    let report = Report::try_from(report).map_err(|e| Error::Internal(e.to_string()))?;
    Ok(report.filtered(options).into())
}
