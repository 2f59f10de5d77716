//! `ProbeService`: the probes.

use std::time::Duration;

use lastseen_proto::v1;
use lastseen_proto::v1::probe_service_server::ProbeService;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::capture::check_request_id;
use super::check::check;
use super::trace_path::trace_path;
use super::{Context, Responses, page};
use crate::access::caller;
use crate::blocking::blocking;
use crate::error::Error;
use crate::limits;
use crate::probes::model::{Kind, Probe, Source, Spec};
use crate::probes::{diff, resolve};
use crate::store::Cursor;
use crate::store::probes::Reports;
use crate::time::display_span;
use crate::wire::probe::{message, request};

/// A watcher sees what other coordinators did this late at most.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Between two looks for a watcher, however much happens.
const WATCH_REST: Duration = Duration::from_millis(300);

/// A page of probes takes at most this many bytes, or one probe; the next one goes on behind it.
const PAGE_BYTES: usize = limits::MESSAGE_BYTES / 2;

/// `ProbeService`.
pub struct ProbeApi(pub Context);

#[tonic::async_trait]
impl ProbeService for ProbeApi {
    type WatchProbeStream = Responses<v1::WatchProbeResponse>;
    type TracePathStream = Responses<v1::TracePathResponse>;
    type CheckStream = Responses<v1::CheckResponse>;

    async fn run_probe(
        &self,
        call: Request<v1::RunProbeRequest>,
    ) -> Result<Response<v1::RunProbeResponse>, Status> {
        let (caller, context) = (caller(&call)?, &self.0);
        let v1::RunProbeRequest { spec, request_id } = call.into_inner();
        check_request_id(&request_id)?;
        let spec = spec.ok_or_else(|| Error::invalid("spec", "missing; say what to probe"))?;
        let (request, now) = (request(spec)?, context.clock.now());
        let start_at_nanos = request.start_at_nanos;
        let nodes = context.fleet.nodes(now);
        // An address is looked for in the tables of every node.
        let (spec, sources) = blocking(move || resolve(request, &nodes, now)).await??;
        let (audit, who) = (&context.guard.audit, caller.identity.to_string());
        audit.begin(&caller, "run-probe", "", asked(&spec, &sources)).await?;
        let request = Some(request_id.as_str()).filter(|id| !id.is_empty());
        let run = context.probes.run(spec, sources, start_at_nanos, &who, request).await;
        audit.end(&caller, "run-probe", run.as_ref().map_or("", |probe| &probe.id), &run).await;
        let probe = message(&run?, &Reports::default(), context.clock.now())?;
        Ok(Response::new(v1::RunProbeResponse { probe: Some(probe) }))
    }

    async fn list_probes(
        &self,
        call: Request<v1::ListProbesRequest>,
    ) -> Result<Response<v1::ListProbesResponse>, Status> {
        let v1::ListProbesRequest { page_size, page_token } = call.into_inner();
        let size =
            page::size(page_size, limits::PROBES_PAGE, limits::CAPTURES_PAGE)?.min(limits::PROBES_PAGE);
        let after = page::cursor(&page_token)?;
        let stored = self.0.store.probes(after.as_ref(), size).await.map_err(Error::from)?;
        let (now, none) = (self.0.clock.now(), Reports::default());
        let (mut probes, mut bytes) = (Vec::new(), 0);
        for probe in &stored {
            let mut shown = message(probe, &none, now)?;
            shorten(shown.spec.as_mut());
            bytes += shown.encoded_len();
            if bytes > PAGE_BYTES && !probes.is_empty() {
                break;
            }
            probes.push(shown);
        }
        let is_whole = probes.len() == stored.len() && stored.len() < size as usize;
        let last = probes.len().checked_sub(1).map(|last| &stored[last]).filter(|_| !is_whole);
        let next_page_token = last.map_or_else(String::new, |probe| {
            page::cursor_token(&Cursor { created_at_nanos: probe.created_at_nanos, id: probe.id.clone() })
        });
        Ok(Response::new(v1::ListProbesResponse { probes, next_page_token }))
    }

    async fn get_probe(
        &self,
        call: Request<v1::GetProbeRequest>,
    ) -> Result<Response<v1::GetProbeResponse>, Status> {
        let v1::GetProbeRequest { probe_id, runs } = call.into_inner();
        let probe = self.shown(&probe_id, runs).await?;
        Ok(Response::new(v1::GetProbeResponse { probe: Some(probe) }))
    }

    async fn diff_probe(
        &self,
        call: Request<v1::DiffProbeRequest>,
    ) -> Result<Response<v1::DiffProbeResponse>, Status> {
        let v1::DiffProbeRequest { probe_id, runs } = call.into_inner();
        let probe = self.shown(&probe_id, runs).await?;
        let diff = blocking(move || diff(&probe)).await?;
        Ok(Response::new(v1::DiffProbeResponse { diff: Some(diff) }))
    }

    async fn watch_probe(
        &self,
        call: Request<v1::WatchProbeRequest>,
    ) -> Result<Response<Self::WatchProbeStream>, Status> {
        let id = call.into_inner().probe_id;
        self.0.probes.get(&id).await?;
        let (sender, stream) = mpsc::channel(1);
        let api = Self(self.0.clone());
        tokio::spawn(async move {
            tokio::select! {
                followed = api.follow(&id, &sender) => if let Err(error) = followed {
                    let _ = sender.send(Err(error.into())).await;
                },
                () = sender.closed() => {}
                () = api.0.stopping.cancelled() => {
                    let _ = sender.try_send(Err(Error::Stopping.into()));
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn stop_probe(
        &self,
        call: Request<v1::StopProbeRequest>,
    ) -> Result<Response<v1::StopProbeResponse>, Status> {
        let caller = caller(&call)?;
        let id = call.into_inner().probe_id;
        // What runs must be stopped even if that cannot be recorded.
        let stopped = self.0.probes.stop(&id, &caller.identity.to_string()).await;
        self.0.guard.audit.end(&caller, "stop-probe", &id, &stopped).await;
        let probe = self.whole(&stopped?, 1).await?;
        Ok(Response::new(v1::StopProbeResponse { probe: Some(probe) }))
    }

    async fn trace_path(
        &self,
        call: Request<v1::TracePathRequest>,
    ) -> Result<Response<Self::TracePathStream>, Status> {
        trace_path(&self.0, caller(&call)?, call.into_inner()).await
    }

    async fn check(&self, call: Request<v1::CheckRequest>) -> Result<Response<Self::CheckStream>, Status> {
        check(&self.0, caller(&call)?, call.into_inner()).await
    }
}

impl ProbeApi {
    /// One probe, the newest without an id, with the reports of so many runs; of one without a number.
    async fn shown(&self, id: &str, runs: u32) -> Result<v1::Probe, Error> {
        if runs > limits::PROBE_RUNS_SHOWN {
            let reason = format!("{runs} is above the limit of {}", limits::PROBE_RUNS_SHOWN);
            return Err(Error::invalid("runs", reason));
        }
        let probe = if id.is_empty() {
            let newest = self.0.store.probes(None, 1).await?.pop();
            newest.ok_or(Error::NoProbes)?
        } else {
            self.0.probes.get(id).await?
        };
        self.whole(&probe, runs.max(1)).await
    }

    /// With the reports of its newest runs.
    async fn whole(&self, probe: &Probe, runs: u32) -> Result<v1::Probe, Error> {
        let found = self.0.store.probe_reports(&probe.id, runs, limits::PROBE_REPORTS_BYTES).await?;
        message(probe, &found, self.0.clock.now())
    }

    /// The probe now and at each change, until it has ended.
    async fn follow(
        &self,
        id: &str,
        sender: &mpsc::Sender<Result<v1::WatchProbeResponse, Status>>,
    ) -> Result<(), Error> {
        let (mut changes, mut last) = (self.0.probes.changes(), None);
        loop {
            changes.mark_unchanged();
            let probe = self.0.probes.get(id).await?;
            let is_over = probe.ended_at_nanos.is_some();
            let whole = self.whole(&probe, 1).await?;
            if last.as_ref() != Some(&whole) {
                let response = v1::WatchProbeResponse { probe: Some(whole.clone()) };
                if sender.send(Ok(response)).await.is_err() {
                    return Ok(());
                }
                last = Some(whole);
            }
            if is_over {
                return Ok(());
            }
            let _ = timeout(WATCH_INTERVAL, changes.changed()).await;
            sleep(WATCH_REST).await;
        }
    }
}

/// Leaves out what is of interest for one probe, and too long for a list.
fn shorten(spec: Option<&mut v1::ProbeSpec>) {
    let Some(spec) = spec else { return };
    if let Some(v1::probe_spec::Kind::Http(http)) = &mut spec.kind {
        http.ca_pem.clear();
    }
    if let Some(mesh) = &mut spec.mesh {
        mesh.members.clear();
    }
}

/// What a probe asks for, in one line.
fn asked(spec: &Spec, sources: &[Source]) -> String {
    let Spec { kind, targets, count, every_nanos, .. } = spec;
    let every = every_nanos.map_or_else(|| "once".to_owned(), display_span);
    let from: Vec<String> =
        sources.iter().map(|source| format!("{}:{}", source.node, source.netns)).collect();
    let kind = asked_how(kind);
    let mesh = spec.mesh.as_ref().map_or_else(String::new, |mesh| {
        format!(" mesh={} neighbors, network={:?} port={}", mesh.neighbors, mesh.network, mesh.port)
    });
    format!(
        "kind={kind}{mesh} targets={} count={count} every={every} from={}",
        targets.join(","),
        from.join(",")
    )
}

/// Without what is long: a payload, certificates.
fn asked_how(kind: &Kind) -> String {
    match kind {
        Kind::Udp { payload } => format!("udp payload={} bytes", payload.len()),
        Kind::Http { ca_pem } => format!("http ca={} bytes", ca_pem.len()),
        Kind::Throughput(asked) => format!(
            "throughput {:?} for {} to {} rate={:?} most={} bytes",
            asked.transport,
            display_span(asked.duration_nanos),
            asked.to,
            asked.bits_per_second,
            asked.max_bytes
        ),
        short => format!("{short:?}"),
    }
}
