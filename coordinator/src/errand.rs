//! What a caller asks for that takes captures and probes: begun in the caller's name, found again when the call is made
//! again, and told step by step.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use lastseen_proto::v1;
use prost::Message as _;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::error::Error;
use crate::fleet::{Fleet, NodeView};
use crate::jobs::Jobs;
use crate::limits;
use crate::model::{self, Capture, SECOND, State};
use crate::probes::model::{Family, Kind, Probe, Source, Spec};
use crate::probes::{self, Probes};
use crate::store::Store;
use crate::time::Clock;

/// Between two looks at a capture or a probe that others may lead.
pub const LOOK: Duration = Duration::from_millis(200);

/// Between two looks at a probe that changes all the time.
const REST: Duration = Duration::from_millis(50);

/// Ports that nobody is given: those of hosts begin above (`net.ipv4.ip_local_port_range`), those of services too.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// A port for the packets of one call. The same for the same call: one that is made again may find the capture begun, whose
/// filter takes this port.
pub fn port(request: &str) -> u16 {
    let ports = PORTS.len() as u32;
    PORTS.start + (crc32fast::hash(request.as_bytes()) % ports) as u16
}

/// What an errand works with.
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

/// How far an errand has come.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Capture id, once there is one.
    pub capture: String,
    /// Id of the probe that matters, once there is one.
    pub probe: String,
    /// What is done now.
    pub step: &'static str,
}

/// One under way.
pub struct Errand {
    /// What it works with.
    pub means: Means,
    who: String,
    /// Names what it begins, so that a call that is made again finds it.
    request: String,
    progress: watch::Sender<Progress>,
}

impl Errand {
    /// On behalf of `who`.
    pub fn new(means: Means, who: String, request: String) -> Self {
        Self { means, who, request, progress: watch::Sender::default() }
    }

    /// Follows it.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// What it is told apart from others by.
    pub fn request(&self) -> &str {
        &self.request
    }

    /// What is done from now on.
    pub fn say(&self, step: &'static str) {
        self.progress.send_modify(|progress| progress.step = step);
    }

    /// The nodes as they are now, and when that is.
    pub fn nodes(&self) -> (i64, Vec<NodeView>) {
        let now = self.means.clock.now();
        (now, self.means.fleet.nodes(now))
    }

    /// Begins a capture, or finds the one that an earlier call began.
    pub async fn capture(&self, spec: model::Spec) -> Result<Arc<Capture>, Error> {
        let capture = self.means.jobs.start(spec, &self.who, Some(&self.named("capture"))).await?;
        self.progress.send_modify(|progress| progress.capture.clone_from(&capture.id));
        Ok(capture)
    }

    /// Ends a capture before its time.
    pub async fn stop(&self, capture: &str) -> Result<(), Error> {
        self.means.jobs.stop(capture, &self.who).await.map(|_| ())
    }

    /// Begins a probe, or finds the one that an earlier call began by this name.
    pub async fn probe(
        &self,
        spec: Spec,
        sources: Vec<Source>,
        start: Option<i64>,
        name: &str,
    ) -> Result<Probe, Error> {
        self.means.probes.run(spec, sources, start, &self.who, Some(&self.named(name))).await
    }

    /// Tells which probe matters.
    pub fn show(&self, probe: &str) {
        self.progress.send_modify(|progress| probe.clone_into(&mut progress.probe));
    }

    /// A probe once each of its parts has come to its end.
    pub async fn done(&self, id: &str) -> Result<Probe, Error> {
        let mut changes = self.means.probes.changes();
        loop {
            changes.mark_unchanged();
            let probe = self.means.probes.get(id).await?;
            if probe.ended_at_nanos.is_some() || probe.parts.iter().all(|part| part.state.is_final()) {
                return Ok(probe);
            }
            let _ = timeout(LOOK, changes.changed()).await;
            // However much happens.
            sleep(REST).await;
        }
    }

    /// What a probe with one source and one target found, or why it found nothing.
    pub async fn result(&self, id: &str) -> Result<(Option<v1::ProbeResult>, String), Error> {
        let probe = self.done(id).await?;
        let found = self.means.store.probe_reports(id, 1, limits::PROBE_REPORT_BYTES).await?;
        let unreadable = |error| Error::Internal(format!("the report of probe {id} cannot be read: {error}"));
        let report = found.reports.first().map(|report| v1::ProbeReport::decode(report.as_slice()));
        let report = report.transpose().map_err(unreadable)?;
        let reason = if probe.stopped.is_empty() {
            probe.parts.first().map(|part| part.reason.clone()).unwrap_or_default()
        } else {
            format!("{} stopped the probe", probe.stopped)
        };
        Ok((report.and_then(|report| report.results.into_iter().next()), reason))
    }

    /// The address of a name, as `source` sees it.
    pub async fn look_up(&self, source: &Source, name: &str, family: Family) -> Result<IpAddr, Error> {
        self.say("looking up the name");
        let request = probes::Request {
            name: "look-up".to_owned(),
            sources: vec![source.clone()],
            targets: vec![name.to_owned()],
            kind: Some(Kind::Icmp { size: 56, dont_fragment: false }),
            count: Some(1),
            timeout_nanos: Some(SECOND),
            family: Some(family),
            ..probes::Request::default()
        };
        let (now, nodes) = self.nodes();
        let (spec, sources) = probes::resolve(request, &nodes, now)?;
        let probe = self.probe(spec, sources, None, "name").await?;
        let (result, failure) = self.result(&probe.id).await?;
        let refused = |reason: String| Error::Precondition(format!("to: {reason}"));
        let result = result.ok_or_else(|| refused(failure))?;
        result.address.parse().map_err(|_| refused(result.reason))
    }

    /// A capture once it has its report.
    pub async fn ended(&self, id: &str) -> Result<Arc<Capture>, Error> {
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

    fn named(&self, what: &str) -> String {
        format!("{}-{what}", self.request)
    }
}
