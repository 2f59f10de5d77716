//! Marked packets from one place to a target, followed by a capture of the same time: a capture, a probe, and what the
//! two say together.

mod assemble;
mod plan;
mod sizes;

use std::sync::Arc;
use std::time::Duration;

use lastseen_proto::{convert, v1};
use prost::Message as _;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use self::assemble::{Evidence, assemble};
use self::plan::Plan;
pub use self::plan::{Request, Sizes};
use crate::error::Error;
use crate::fleet::{Fleet, NodeView};
use crate::jobs::Jobs;
use crate::limits;
use crate::model::{Capture, State};
use crate::probes::model::{Probe, Source};
use crate::probes::{self, Probes};
use crate::store::Store;
use crate::time::Clock;

/// Between two looks at a capture or a probe that others may lead.
const LOOK: Duration = Duration::from_millis(200);
/// Flow records that are looked at for their TTL: a path has a few points, and a filter lets little else through.
const FLOWS: u32 = 10_000;
/// Lost packets that are looked at for their size.
const LOST: u32 = 10_000;

/// What a trace works with.
pub struct Means {
    /// Time.
    pub clock: Clock,
    /// What survives.
    pub store: Arc<dyn Store>,
    /// The agents.
    pub fleet: Arc<Fleet>,
    /// Captures.
    pub jobs: Jobs,
    /// Probes.
    pub probes: Probes,
}

/// How far a trace has come.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Capture id, once there is one.
    pub capture: String,
    /// Probe id, once there is one.
    pub probe: String,
    /// What is done now.
    pub step: &'static str,
}

/// A trace under way.
pub struct Trace {
    means: Means,
    who: String,
    /// Names the capture and the probe, so that a call that is made again finds them.
    request: String,
    progress: watch::Sender<Progress>,
}

impl Trace {
    /// On behalf of `who`.
    pub fn new(means: Means, who: String, request: String) -> Self {
        Self { means, who, request, progress: watch::Sender::default() }
    }

    /// Follows it.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// From beginning to end.
    pub async fn run(self, request: Request) -> Result<v1::PathTrace, Error> {
        request.check()?;
        let source = self.source(&request).await?;
        let (now, nodes) = self.nodes();
        let address = match request.address() {
            Some(address) => address,
            None => self.look_up(&request, &source).await?,
        };
        let plan = Plan::new(&request, &source, address, &nodes, now, &self.request)?;
        self.say("arming the capture");
        let capture =
            self.means.jobs.start(plan.capture.clone(), &self.who, Some(&self.named("capture"))).await?;
        self.progress.send_modify(|progress| progress.capture.clone_from(&capture.id));
        self.say("sending");
        let start = capture.window.map(|window| window.start_nanos + plan::AFTER_START_NANOS);
        let sent = self.probe(plan.probe.clone(), vec![source.clone()], start, "probe").await?;
        self.progress.send_modify(|progress| progress.probe.clone_from(&sent.id));
        let (result, failure) = self.result(&sent.id).await?;
        let Some(result) = result else {
            // Nobody waits for what was not sent.
            self.means.jobs.stop(&capture.id, &self.who).await?;
            let node = &source.node;
            return Err(Error::Precondition(format!("from: what {node} sent is not known: {failure}")));
        };
        self.say("waiting for what is late");
        let capture = self.ended(&capture.id).await?;
        let evidence = self.evidence(&capture).await?;
        Ok(assemble(&plan, &capture, &sent, source, result, &evidence))
    }

    fn nodes(&self) -> (i64, Vec<NodeView>) {
        let now = self.means.clock.now();
        (now, self.means.fleet.nodes(now))
    }

    /// The source, once its agent is here. One that was here a moment ago may be on its way from another coordinator.
    async fn source(&self, request: &Request) -> Result<Source, Error> {
        let deadline = self.means.clock.now() + limits::MOVE_NANOS;
        loop {
            let (now, nodes) = self.nodes();
            let source = request.source(&nodes)?;
            let node = nodes.iter().find(|node| node.record.name == source.node);
            let Some(away) = node.filter(|node| !node.is_ready) else { return Ok(source) };
            let is_moving = now - away.record.last_seen_nanos < 2 * limits::MOVE_NANOS;
            if !is_moving || now >= deadline {
                let reason =
                    format!("from: {} is not connected; `ctl list-nodes` says since when", source.node);
                return Err(Error::Precondition(reason));
            }
            self.say("waiting for the source's agent");
            sleep(LOOK).await;
        }
    }

    fn say(&self, step: &'static str) {
        self.progress.send_modify(|progress| progress.step = step);
    }

    fn named(&self, what: &str) -> String {
        format!("{}-{what}", self.request)
    }

    async fn probe(
        &self,
        spec: probes::model::Spec,
        sources: Vec<Source>,
        start: Option<i64>,
        what: &str,
    ) -> Result<Probe, Error> {
        self.means.probes.run(spec, sources, start, &self.who, Some(&self.named(what))).await
    }

    /// The address of a name, as the source sees it.
    async fn look_up(&self, request: &Request, source: &Source) -> Result<std::net::IpAddr, Error> {
        self.say("looking up the name");
        let probe = self.probe(request.look_up(), vec![source.clone()], None, "name").await?;
        let (result, failure) = self.result(&probe.id).await?;
        let refused = |reason: String| Error::Precondition(format!("to: {reason}"));
        let result = result.ok_or_else(|| refused(failure))?;
        result.address.parse().map_err(|_| refused(result.reason))
    }

    /// What a probe with one source and one target found, or why it found nothing.
    async fn result(&self, id: &str) -> Result<(Option<v1::ProbeResult>, String), Error> {
        let mut changes = self.means.probes.changes();
        loop {
            changes.mark_unchanged();
            let probe = self.means.probes.get(id).await?;
            if let Some(part) = probe.parts.first().filter(|part| part.state.is_final()) {
                let found = self.means.store.probe_reports(id, 1, limits::PROBE_REPORT_BYTES).await?;
                let unreadable =
                    |error| Error::Internal(format!("the report of probe {id} cannot be read: {error}"));
                let report = found.reports.first().map(|report| v1::ProbeReport::decode(report.as_slice()));
                let report = report.transpose().map_err(unreadable)?;
                let reason = if probe.stopped.is_empty() {
                    part.reason.clone()
                } else {
                    format!("{} stopped the probe", probe.stopped)
                };
                return Ok((report.and_then(|report| report.results.into_iter().next()), reason));
            }
            let _ = timeout(LOOK, changes.changed()).await;
        }
    }

    async fn ended(&self, id: &str) -> Result<Arc<Capture>, Error> {
        loop {
            let mut view = self.means.jobs.watch(id).await?;
            let capture = view.borrow_and_update().clone();
            match capture.state {
                State::Completed => return Ok(capture),
                State::Failed | State::Cancelled => {
                    let reason = format!("the capture {id} has no report: {}", capture.reason);
                    return Err(Error::Precondition(reason));
                }
                // One that is led elsewhere now has no more changes here.
                _ if matches!(timeout(LOOK, view.changed()).await, Ok(Err(_))) => sleep(LOOK).await,
                _ => {}
            }
        }
    }

    async fn evidence(&self, capture: &Capture) -> Result<Evidence, Error> {
        let store = &self.means.store;
        let report = store
            .report(&capture.id)
            .await?
            .ok_or_else(|| Error::Internal(format!("capture {} has ended and has no report", capture.id)))?;
        let unreadable =
            |error| Error::Internal(format!("what was stored of {} cannot be read: {error}", capture.id));
        let flows = store.flows(&capture.id, 0, FLOWS).await?;
        let lost = store.lost(&capture.id, 0, LOST).await?;
        let topologies = store.topologies(&capture.id).await?;
        let topologies = topologies
            .into_iter()
            .map(|(node, topology)| Ok((node, v1::NodeTopology::decode(topology).map_err(unreadable)?)));
        Ok(Evidence {
            report: v1::DiffReport::decode(report.as_slice()).map_err(unreadable)?,
            flows: flows.into_iter().map(convert::flow_record).collect(),
            lost: lost
                .iter()
                .map(|packet| v1::LostPacket::decode(packet.as_slice()).map_err(unreadable))
                .collect::<Result<_, _>>()?,
            topologies: topologies.collect::<Result<_, Error>>()?,
        })
    }
}
